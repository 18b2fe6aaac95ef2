//! SIGKILLs in the middle of an initial load, of the box and of the hub, while the data change under
//! it: afterwards the copy is exactly what the right lets the office see.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::rig::{Broker, DATASET, Rig, TOKEN, agent, code, dossier, hand_in_all, wait_for};

const OWNER: &str = "xa-tan-bien";
const STRANGER: &str = "xa-hoa-hiep";
const READER: &str = "so-noi-vu";
const DOSSIERS: u32 = 4_000;
const LONG: Duration = Duration::from_secs(120);

/// What the reader holds, by subject; none before anything has come.
fn copies(rig: &Rig) -> BTreeMap<String, Value> {
    let path = rig.boxes[READER].folder.join("down.db");
    let Ok(store) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY) else {
        return BTreeMap::new();
    };
    let Ok(mut statement) =
        store.prepare("SELECT subject, data FROM copy WHERE subject IS NOT NULL")
    else {
        return BTreeMap::new();
    };
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)));
    rows.expect("read")
        .map(|row| {
            let (subject, data) = row.expect("read");
            (subject, serde_json::from_str(&data).expect("JSON"))
        })
        .collect()
}

fn count(rig: &Rig) -> u32 {
    let path = rig.boxes[READER].folder.join("down.db");
    let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let sql = "SELECT count(*) FROM copy WHERE subject IS NOT NULL";
    store
        .and_then(|store| store.query_row(sql, [], |row| row.get(0)))
        .unwrap_or(0)
}

/// Whether the reader's box says that the load has ended.
fn is_complete(rig: &Rig) -> bool {
    let port = rig.boxes[READER].http_port;
    let answer = agent()
        .get(format!(
            "http://127.0.0.1:{port}/v1/lookup/{DATASET}?q=tran"
        ))
        .header("authorization", format!("Bearer {TOKEN}"))
        .call();
    let answer: Option<Value> = answer
        .ok()
        .and_then(|mut answer| answer.body_mut().read_json().ok());
    answer.is_some_and(|answer| answer["complete"] == true)
}

/// Hands in one record of the owner.
fn put(rig: &Rig, query: &str, data: &Value) {
    let port = rig.boxes[OWNER].http_port;
    let answer = agent()
        .post(format!(
            "http://127.0.0.1:{port}/v1/records/{DATASET}{query}"
        ))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .send(data.to_string())
        .expect("the box answers");
    assert!(matches!(answer.status().as_u16(), 200 | 201));
}

fn data(number: u32) -> Value {
    serde_json::from_str(&dossier("H53.12", number)).expect("JSON")
}

#[test]
fn an_initial_load_through_kills_ends_as_the_right_says() {
    let mut rig = Rig::start(Broker::Mosquitto);
    rig.use_shipped_catalogue();
    for (name, agency) in [(OWNER, "H53.12"), (STRANGER, "H53.13"), (READER, "H53.20")] {
        rig.add_box(name, agency, rig.port);
        let drop_in = rig.boxes[name].folder.join("tramd.d/10-test.toml");
        let text = std::fs::read_to_string(&drop_in).expect("written above");
        let text = text.replace(
            "datasets = [\"ho_so_tthc\"]",
            "datasets = [\"ho_so_tthc\"]\nlookup = [\"ho_so_tthc\"]",
        );
        std::fs::write(&drop_in, text).expect("written");
        rig.start_box(name);
    }
    hand_in_all(rig.boxes[OWNER].http_port, "H53.12", DOSSIERS, 500);
    hand_in_all(rig.boxes[STRANGER].http_port, "H53.13", 100, 100);
    rig.wait_until_drained(OWNER, LONG);
    rig.wait_until_drained(STRANGER, LONG);
    let right = [
        "grant",
        "add",
        "H53.20",
        DATASET,
        "--fields",
        "ma_ho_so,/nguoi_nop/ho_ten",
        "--rows",
        "agency=H53.12",
    ];
    rig.trucd(&right, 0);

    let mut expected: BTreeMap<String, Value> = (0..DOSSIERS)
        .map(|number| {
            let name = data(number)["nguoi_nop"]["ho_ten"].clone();
            let seen = json!({"ma_ho_so": code("H53.12", number), "nguoi_nop": {"ho_ten": name}});
            (code("H53.12", number), seen)
        })
        .collect();
    let mut in_the_middle = 0;
    for round in 0..4 {
        let (before, begun) = (count(&rig), Instant::now());
        while count(&rig) == before && begun.elapsed() < LONG && !is_complete(&rig) {
            std::thread::sleep(Duration::from_millis(3));
        }
        // Some of what is loaded is changed or gone by then.
        let (changed, gone) = (round * 900 + 7, DOSSIERS - 1 - round * 900);
        let mut other = data(changed);
        other["nguoi_nop"]["ho_ten"] = "Đặng Thị Đổi Khác".into();
        put(&rig, "", &other);
        expected
            .get_mut(&code("H53.12", changed))
            .expect("one of them")["nguoi_nop"]["ho_ten"] = "Đặng Thị Đổi Khác".into();
        put(&rig, "?op=delete", &data(gone));
        expected.remove(&code("H53.12", gone));
        in_the_middle += u32::from(!is_complete(&rig));
        match round % 2 {
            0 => {
                rig.kill_box(READER);
                rig.start_box(READER);
            }
            _ => {
                rig.kill_hub();
                rig.start_hub();
            }
        }
    }
    assert_ne!(in_the_middle, 0, "every blow came after the load");
    println!("{in_the_middle} of 4 blows in the middle of the load");
    rig.wait_until_drained(OWNER, LONG);
    wait_for("the load has ended", LONG, || is_complete(&rig));
    wait_for("the copy is as large as the right says", LONG, || {
        count(&rig) == expected.len() as u32
    });
    wait_for("it is what the right says", LONG, || {
        copies(&rig) == expected
    });
    rig.verify();
}
