//! Files on their way: put at the box, named by records, whole at the hub, through SIGKILLs of box, hub
//! and broker, while urgent records pass them. `ATTACHMENT_MIB=1024` makes the largest one a gigabyte.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use lienthong::evidence::sha256;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::contents::incompressible;
use crate::rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, hand_in, wait_for};

const AGENCY: &str = "H53.12";
const XA: &str = "xa-tan-bien";
/// An urgent record is at the hub so soon after a break was mended, with the link's own pauses before
/// it tries again, and with a box that is only emulated.
const URGENT: Duration = Duration::from_secs(60);
/// And so soon where nothing broke.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn files_arrive_whole_on_the_embedded_broker() {
    files_arrive_whole(Broker::Embedded);
}

#[test]
fn files_arrive_whole_on_mosquitto() {
    files_arrive_whole(Broker::Mosquitto);
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a file and hands in the dossier that names it.
fn hand_in_file(rig: &Rig, number: u32, content: &[u8]) -> String {
    let name = hexadecimal(&sha256(content));
    let port = rig.boxes[XA].http_port;
    let patient = ureq::Agent::config_builder().http_status_as_error(false);
    let put = ureq::Agent::from(patient.build())
        .put(format!("http://127.0.0.1:{port}/v1/blobs/{name}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/pdf")
        .send(content)
        .expect("the box answers");
    assert_eq!(put.status(), 201);
    let data: Value = serde_json::from_str(&dossier(AGENCY, number)).expect("JSON");
    let event = json!({
        "specversion": "1.0", "id": format!("tep-{number}"), "source": "urn:mot-cua",
        "type": DATASET, "data": data,
        "attachments": [{"name": format!("tep-{number}.pdf"), "mime": "application/pdf",
            "bytes": content.len(), "sha256": name}],
    });
    let mut taken = agent()
        .post(format!("http://127.0.0.1:{port}/v1/records/{DATASET}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/cloudevents+json")
        .send(event.to_string())
        .expect("the box answers");
    let text = taken.body_mut().read_to_string().unwrap_or_default();
    assert_eq!(taken.status(), 201, "{text}");
    name
}

fn kept(rig: &Rig, name: &str) -> PathBuf {
    rig.hub_folder().join("blobs").join(&name[..2]).join(name)
}

/// One urgent record after the other until the files are there, with a blow after every eighth.
fn pass_urgent_ones(rig: &mut Rig, names: &[String], count: &mut u32, largest_mib: usize) {
    let most = Duration::from_secs(60 + 4 * largest_mib as u64);
    let (begun, mut waits, mut blows) = (Instant::now(), Vec::new(), 0);
    while !names.iter().all(|name| kept(rig, name).is_file()) {
        assert!(begun.elapsed() < most, "the files do not arrive");
        let is_hit = waits.len() % 8 == 7;
        let handed = Instant::now();
        let port = rig.boxes[XA].http_port;
        assert!(
            hand_in(port, AGENCY, *count..*count + 1),
            "an urgent record"
        );
        *count += 1;
        if is_hit {
            match blows % 3 {
                0 => rig.kill_box(XA),
                1 => rig.kill_hub(),
                _ => rig.kill_broker(),
            }
            rig.start_broker();
            rig.start_hub();
            if blows % 3 == 0 {
                rig.start_box(XA);
            }
            blows += 1;
        }
        wait_for("an urgent record passes the files", URGENT, || {
            urgent_at_hub(rig) == *count
        });
        // After a blow the next one may go to a hub that is not quite there yet.
        let is_calm = !is_hit && waits.len() % 8 != 0;
        waits.push((is_calm, handed.elapsed()));
        std::thread::sleep(Duration::from_millis(500));
    }
    let mut calm: Vec<Duration> = waits.iter().filter(|one| one.0).map(|one| one.1).collect();
    calm.sort();
    if let (Some(longest), median) = (calm.last(), calm.get(calm.len() / 2)) {
        println!(
            "{} urgent records, {blows} blows: median {median:?}, longest {longest:?} without a blow, {:?} with one",
            waits.len(),
            waits.iter().map(|one| one.1).max()
        );
        assert!(*longest < SOON, "an urgent record waits behind the files");
    }
}

/// Dossiers in the hub's log, without reading the pieces of files.
fn urgent_at_hub(rig: &Rig) -> u32 {
    let path = rig.hub_folder().join("trucd.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let sql = "SELECT count(*) FROM entry JOIN log ON log.log = entry.place >> 40
               WHERE log.lane = 1 AND entry.same_as IS NULL";
    let count = store
        .expect("the hub's store")
        .query_row(sql, [], |row| row.get(0));
    count.expect("the tables are there")
}

fn files_arrive_whole(broker: Broker) {
    let mut rig = Rig::start(broker);
    rig.add_box(XA, AGENCY, rig.port);
    let room = rig.boxes[XA].folder.join("tramd.d/20-attachments.toml");
    std::fs::write(room, "[store]\nattachments = \"4 GiB\"\n").expect("written");
    rig.start_box(XA);
    rig.kill_hub();
    let largest = std::env::var("ATTACHMENT_MIB").ok();
    let largest_mib: usize = largest.map_or(40, |mib| mib.parse().expect("a number"));
    let sizes = [0, 1, 60 * 1024, 60 * 1024 + 1, 3_000_000, largest_mib << 20];
    let mut names = Vec::new();
    for (number, bytes) in sizes.into_iter().enumerate() {
        names.push(hand_in_file(
            &rig,
            number as u32,
            &incompressible(number as u64, bytes),
        ));
    }
    let mut count = sizes.len() as u32;
    rig.start_hub();
    let begun = Instant::now();
    for (round, what) in ["box", "hub", "broker", "box", "hub", "broker"]
        .into_iter()
        .enumerate()
    {
        std::thread::sleep(Duration::from_millis(150 + 97 * round as u64));
        match what {
            "box" => rig.kill_box(XA),
            "hub" => rig.kill_hub(),
            _ => rig.kill_broker(),
        }
        rig.start_broker();
        rig.start_hub();
        if what == "box" {
            rig.start_box(XA);
        }
        let port = rig.boxes[XA].http_port;
        assert!(hand_in(port, AGENCY, count..count + 1), "an urgent record");
        count += 1;
        wait_for("an urgent record passes the files", URGENT, || {
            rig.at_hub(XA).len() == count as usize
        });
    }
    pass_urgent_ones(&mut rig, &names, &mut count, largest_mib);
    rig.wait_until_drained(XA, Duration::from_secs(60));
    for (name, (number, bytes)) in names.iter().zip(sizes.into_iter().enumerate()) {
        let path = kept(&rig, name);
        wait_for("a file is kept", Duration::from_secs(60), || path.is_file());
        let found = std::fs::read(&path).expect("a kept file");
        assert_eq!(found.len(), bytes, "file {number}");
        assert_eq!(hexadecimal(&sha256(&found)), *name, "file {number}");
    }
    println!("{largest_mib} MiB and more after {:?}", begun.elapsed());
    rig.assert_exactly(XA, AGENCY, count);
}
