//! Kind `files`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::live::Daemon;
use crate::stage::{self, Hub, Office, Sample};
use crate::{KILLS, configure, kill_in_the_middle, steps, until_empty};

/// Files of a folder in the order of their names; temporary ones are none.
fn segments(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'));
    found.sort();
    found
}

fn events(folder: &Path) -> Vec<Value> {
    let texts = segments(folder)
        .into_iter()
        .map(|path| fs::read_to_string(path).unwrap());
    texts
        .flat_map(|text| {
            let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
            lines.collect::<Vec<Value>>()
        })
        .collect()
}

/// Every step once, and rising within each subject.
fn assert_complete(events: &[Value], count: u64) {
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    let mut all: Vec<u64> = Vec::new();
    for event in events {
        let step = event["data"]["buoc"].as_u64().unwrap();
        let subject = event["subject"].as_str().unwrap();
        if let Some(before) = last.insert(subject, step) {
            assert!(before < step, "{subject}: {step} after {before}");
        }
        all.push(step);
    }
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_hold_each_event_once_and_in_order_through_kills() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    configure(
        &hub,
        "[[output]]\nname = \"kho\"\nkind = \"files\"\ndatasets = [\"ho_so_tthc\"]\n\
         folder = \"out\"\nformat = \"ndjson\"\nevery = \"0 s\"\nbatch = 3\n",
    );
    let count = kill_in_the_middle(&hub, &mut office, KILLS, 120).await;
    let daemon = Daemon::start(&hub).await;
    let standing = until_empty(&hub, "kho");
    assert_eq!(standing["delivered"], count, "{standing}");
    assert_complete(&events(&hub.path("out/ho_so_tthc")), count);
    let metrics = daemon.get("/metrics");
    assert!(
        metrics.contains(&format!(
            "trucd_output_delivered_total{{output=\"kho\"}} {count}"
        )),
        "{metrics}"
    );
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_its_columns_and_hides_what_is_masked() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    let mut other = Office::add(&hub, "xa-b", "H54.01");
    configure(
        &hub,
        "[[output]]\nname = \"bang\"\nkind = \"files\"\ndatasets = [\"ho_so_tthc\"]\nagencies = [\"H53\"]\n\
         folder = \"out\"\nformat = \"csv\"\nevery = \"0 s\"\n\
         [output.masks]\n\"/cccd\" = \"last4\"\n\
         [[output.column]]\nname = \"ten\"\nfield = \"/ten\"\n\
         [[output.column]]\nname = \"le_phi\"\nfield = \"/le_phi\"\ntype = \"number\"\n\
         [[output.column]]\nname = \"cccd\"\nfield = \"/cccd\"\n",
    );
    office.send(vec![
        Sample::new(
            "a",
            r#"{"ten":"Lê \"Mẫu\", A","le_phi":-5.50,"cccd":"001099000001"}"#,
        ),
        Sample::new("b", r#"{"ten":"=1+1"}"#).sensitivity(3),
        Sample::new("c", r#"{"ten":"=1+1"}"#),
        Sample::new("d", r#"{"ten":"khác bộ"}"#).dataset("ho_tich"),
    ]);
    other.send(vec![Sample::new("e", r#"{"ten":"tỉnh khác"}"#)]);
    let daemon = Daemon::start(&hub).await;
    let standing = until_empty(&hub, "bang");
    assert_eq!(
        (&standing["delivered"], &standing["withheld"]),
        (&2.into(), &1.into()),
        "{standing}"
    );
    let files = segments(&hub.path("out/ho_so_tthc"));
    assert_eq!(files.len(), 1);
    let text = fs::read_to_string(&files[0]).unwrap();
    let rows = stage::read_csv(text.strip_prefix('\u{feff}').expect("a byte order mark"));
    assert_eq!(rows[0][6..], ["ten", "le_phi", "cccd"]);
    assert_eq!(rows[1][6..], ["Lê \"Mẫu\", A", "-5.50", "********0001"]);
    assert_eq!(rows[2][2], "c");
    assert_eq!(rows[2][6..], ["'=1+1", "", ""]);
    assert_eq!(rows.len(), 3);
    assert_eq!(daemon.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_away_is_said_and_filled_when_it_is_back() {
    let hub = Hub::new();
    let mut office = Office::add(&hub, "xa-a", "H53.01");
    configure(
        &hub,
        "[[output]]\nname = \"kho\"\nkind = \"files\"\ndatasets = [\"ho_so_tthc\"]\n\
         folder = \"mount/out\"\nformat = \"ndjson\"\nevery = \"0 s\"\n",
    );
    // A file where the folder should be: nobody can make it.
    fs::write(hub.path("mount"), "x").unwrap();
    office.send(steps(0, 20));
    let daemon = Daemon::start(&hub).await;
    let standing = crate::until(&hub, "kho", "the fault is told", |standing| {
        standing["state"] == "failed"
    });
    assert_eq!(standing["trouble"]["code"], "disk");
    assert!(hub.ok(&["status"]).contains("không ghi được vào"));
    fs::remove_file(hub.path("mount")).unwrap();
    until_empty(&hub, "kho");
    assert_complete(&events(&hub.path("mount/out/ho_so_tthc")), 20);
    // Everything once more, under new names.
    hub.ok(&["outputs", "rewind", "kho"]);
    crate::until(&hub, "kho", "all is there twice", |standing| {
        standing["delivered"] == 40
    });
    assert_eq!(daemon.stop(), 0);
}
