//! The stick between box and hub with the real programs: there and back with attachments, beside the
//! line, killed in the middle, full, damaged, and in the wrong hands.
#![cfg(feature = "demo")]
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot set its stage has failed; it waits for real processes"
)]

#[path = "bed/contents.rs"]
#[allow(dead_code)]
mod contents;
#[path = "bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
#[path = "e2e/rig.rs"]
#[allow(dead_code)]
mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use contents::incompressible;
use lienthong::evidence::sha256;
use one_box::{AGENCY, SOON, XA, config, configure};
use rig::{Broker, DATASET, Rig, TOKEN, agent, dossier, hand_in_all, tramd, trucd, wait_for};
use serde_json::{Value, json};

/// A hub that runs and a box that cannot reach it: nobody listens where it dials.
fn cut_off() -> Rig {
    let mut rig = Rig::start(Broker::Embedded);
    rig.add_box(XA, AGENCY, 9);
    rig.start_box(XA);
    rig
}

/// The line is mended.
fn mend(rig: &mut Rig) {
    let settings = format!("[hub]\naddresses = [\"127.0.0.1:{}\"]\n", rig.port);
    configure(rig, "50-line.toml", &settings);
    rig.kill_box(XA);
    rig.start_box(XA);
}

fn stick(rig: &Rig) -> PathBuf {
    let place = rig.folder.path().join("usb");
    fs::create_dir_all(&place).unwrap();
    place
}

fn hand_in_to(rig: &Rig, count: u32) {
    hand_in_all(rig.boxes[XA].http_port, AGENCY, count, 20);
}

/// Puts a file and hands in dossier `number`, which names it.
fn hand_in_file(rig: &Rig, number: u32, content: &[u8]) -> String {
    let name: String = sha256(content).iter().map(|b| format!("{b:02x}")).collect();
    let port = rig.boxes[XA].http_port;
    let bearer = format!("Bearer {TOKEN}");
    let put = agent()
        .put(format!("http://127.0.0.1:{port}/v1/blobs/{name}"))
        .header("authorization", &bearer)
        .header("content-type", "application/pdf")
        .send(content)
        .unwrap();
    assert_eq!(put.status(), 201);
    let data: Value = serde_json::from_str(&dossier(AGENCY, number)).unwrap();
    let event = json!({
        "specversion": "1.0", "id": format!("tep-{number}"), "source": "urn:mot-cua",
        "type": DATASET, "data": data,
        "attachments": [{"name": "tep.pdf", "mime": "application/pdf", "bytes": content.len(), "sha256": name}],
    });
    let taken = agent()
        .post(format!("http://127.0.0.1:{port}/v1/records/{DATASET}"))
        .header("authorization", &bearer)
        .header("content-type", "application/cloudevents+json")
        .send(event.to_string())
        .unwrap();
    assert_eq!(taken.status(), 201);
    name
}

/// The hub holds so many dossiers, each once, and its evidence is whole.
#[track_caller]
fn assert_once(rig: &Rig, count: usize) {
    let found = rig.at_hub(XA);
    let doubled: Vec<_> = found.iter().filter(|(_, times)| **times != 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert_eq!(found.len(), count);
    rig.verify();
}

fn kept(rig: &Rig, name: &str) -> PathBuf {
    rig.hub_folder().join("blobs").join(&name[..2]).join(name)
}

fn box_command(rig: &Rig, arguments: &[&str], dir: &Path) -> Command {
    let mut command = tramd();
    command.args(arguments).arg(dir);
    command.arg("--config").arg(config(rig));
    command
}

fn hub_command(rig: &Rig, arguments: &[&str], dir: &Path) -> Command {
    let mut command = trucd();
    command.args(arguments).arg(dir);
    command
        .arg("--config")
        .arg(rig.hub_folder().join("trucd.toml"));
    command
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn ends(mut command: Command, code: i32) -> String {
    let output = command.output().unwrap();
    let text = told(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{text}");
    text
}

#[track_caller]
fn export(rig: &Rig, dir: &Path) -> String {
    ends(box_command(rig, &["export"], dir), 0)
}

#[track_caller]
fn import_at_box(rig: &Rig, dir: &Path) -> String {
    ends(box_command(rig, &["import"], dir), 0)
}

/// What `trucd import --json` says of the box.
#[track_caller]
fn import_at_hub(rig: &Rig, dir: &Path, code: i32) -> Value {
    let output = hub_command(rig, &["import", "--json"], dir)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", told(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    said["boxes"][0].clone()
}

fn fault(said: &Value) -> &str {
    said["faults"][0]["code"].as_str().unwrap_or("none")
}

/// What lies in the box's folder on the stick: file names, sorted.
fn on_stick(dir: &Path) -> Vec<String> {
    let folder = dir.join("lienthong").join(XA);
    let names = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn up_file(dir: &Path) -> PathBuf {
    let name = on_stick(dir)
        .into_iter()
        .find(|name| name.ends_with(".lts"))
        .expect("the backlog is on the stick");
    dir.join("lienthong").join(XA).join(name)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &place),
            false => fs::copy(entry.path(), place).map(|_| ()).unwrap(),
        }
    }
}

#[test]
fn there_and_back_with_attachments_while_both_daemons_run() {
    let mut rig = cut_off();
    hand_in_to(&rig, 300);
    let large = hand_in_file(&rig, 9_000, &incompressible(1, 3 << 20));
    let small = hand_in_file(&rig, 9_001, b"%PDF-1.7 to trinh");
    let usb = stick(&rig);
    let text = export(&rig, &usb);
    assert!(text.contains("chỉ trục đọc được"), "{text}");
    let sealed = fs::read(up_file(&usb)).unwrap();
    let shows = |what: &[u8]| sealed.windows(what.len()).any(|at| at == what);
    assert!(
        !shows("Bích".as_bytes()) && !shows(b"%PDF") && shows(XA.as_bytes()),
        "only the head is in the clear"
    );
    assert!(302 <= rig.waiting(XA), "an export delivers nothing");
    let status = rig.status(XA);
    assert_eq!(status["stick"]["state"], "ready");
    assert!(302 <= status["stick"]["exported"]["entries"].as_u64().unwrap());

    let said = import_at_hub(&rig, &usb, 0);
    assert_eq!(said["already_there"], 0, "{said}");
    assert!(302 <= said["new"].as_u64().unwrap(), "{said}");
    for name in [&large, &small] {
        wait_for("the attachment is checked and kept", SOON, || {
            kept(&rig, name).is_file()
        });
    }
    assert_once(&rig, 302);
    let again = import_at_hub(&rig, &usb, 0);
    assert_eq!(again["new"], 0, "{again}");
    assert_eq!(again["already_there"], said["new"], "{again}");
    assert_once(&rig, 302);

    assert!(302 <= rig.waiting(XA), "the box has heard nothing yet");
    let copied = rig.folder.path().join("usb-2");
    copy(&usb, &copied);
    let text = import_at_box(&rig, &usb);
    assert!(text.contains("trục đã giữ thêm"), "{text}");
    assert_eq!(rig.waiting(XA), 0);
    assert_eq!(on_stick(&usb), [""; 0], "what has done its work is removed");
    import_at_box(&rig, &copied);
    assert!(import_at_box(&rig, &usb).contains("không có biên nhận mới"));
    assert_eq!(rig.waiting(XA), 0);

    let audit = one_box::said(&rig, &["audit", "--json"], 0);
    assert!(audit.contains("stick_export") && audit.contains("stick_import"));

    mend(&mut rig);
    hand_in_to(&rig, 400);
    rig.wait_until_drained(XA, SOON);
    assert_once(&rig, 402);
}

#[test]
fn there_and_back_while_both_daemons_are_stopped() {
    let mut rig = cut_off();
    hand_in_to(&rig, 60);
    let file = hand_in_file(&rig, 9_000, &incompressible(2, 300_000));
    rig.kill_box(XA);
    rig.kill_hub();
    let usb = stick(&rig);
    export(&rig, &usb);
    let said = import_at_hub(&rig, &usb, 0);
    assert!(61 <= said["new"].as_u64().unwrap(), "{said}");
    import_at_box(&rig, &usb);
    rig.start_hub();
    rig.start_box(XA);
    assert_eq!(rig.waiting(XA), 0);
    wait_for("the attachment is checked and kept", SOON, || {
        kept(&rig, &file).is_file()
    });
    assert_once(&rig, 61);
}

#[test]
fn what_goes_over_the_line_too_is_not_doubled() {
    // Before the stick arrives, between import and receipts, and after all.
    for moment in 0..3 {
        let mut rig = cut_off();
        hand_in_to(&rig, 120);
        let file = hand_in_file(&rig, 9_000, &incompressible(3, 400_000));
        let usb = stick(&rig);
        export(&rig, &usb);
        let line = |rig: &mut Rig, at: u32, count: u32| {
            if at == moment {
                mend(rig);
                hand_in_to(rig, count);
                rig.wait_until_drained(XA, SOON);
            }
        };
        hand_in_to(&rig, 140);
        line(&mut rig, 0, 160);
        let said = import_at_hub(&rig, &usb, 0);
        assert_eq!(said["new"] == 0, moment == 0, "{said}");
        line(&mut rig, 1, 160);
        import_at_box(&rig, &usb);
        line(&mut rig, 2, 160);
        wait_for("the attachment is checked and kept", SOON, || {
            kept(&rig, &file).is_file()
        });
        assert_once(&rig, 161);
        assert_eq!(rig.waiting(XA), 0);
    }
}

#[test]
fn killed_anywhere_and_done_again() {
    let mut rig = cut_off();
    hand_in_to(&rig, 200);
    let file = hand_in_file(&rig, 9_000, &incompressible(4, 6 << 20));
    let usb = stick(&rig);
    let killed = |mut command: Command, after: Duration| {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(after);
        let _ = child.kill();
        child.wait().unwrap();
    };
    let began = Instant::now();
    export(&rig, &usb);
    let takes = began.elapsed();
    for round in 0..12 {
        killed(box_command(&rig, &["export"], &usb), takes * round / 11);
        let status = rig.status(XA);
        let state = status["stick"]["state"].as_str().unwrap();
        assert!(["ready", "failed"].contains(&state), "{status}");
        assert!(201 <= rig.waiting(XA));
    }
    export(&rig, &usb);
    let left = on_stick(&usb);
    assert!(left.iter().all(|name| name.ends_with(".lts")), "{left:?}");

    let scratch = rig.folder.path().join("usb-empty");
    copy(&usb, &scratch);
    for round in 0..10 {
        let takes = Duration::from_millis(700);
        killed(hub_command(&rig, &["import"], &usb), takes * round / 9);
    }
    import_at_hub(&rig, &usb, 0);
    wait_for("the attachment is checked and kept", SOON, || {
        kept(&rig, &file).is_file()
    });
    assert_once(&rig, 201);
    for round in 0..8 {
        let takes = Duration::from_millis(200);
        killed(box_command(&rig, &["import"], &usb), takes * round / 7);
    }
    import_at_hub(&rig, &scratch, 0);
    import_at_box(&rig, &scratch);
    assert_eq!(rig.waiting(XA), 0);
    mend(&mut rig);
    hand_in_to(&rig, 210);
    rig.wait_until_drained(XA, SOON);
    assert_once(&rig, 211);
}

/// Runs a command with a small file system of its own at `/mnt`, and says what is left on it.
fn on_small_stick(rig: &Rig, options: &str) -> (i32, String) {
    let script = format!(
        "mount -t tmpfs -o {options} none /mnt && \"$0\" export /mnt --config \"$1\"; code=$?; \
         echo \"left: $(find /mnt -type f)\"; exit $code"
    );
    let program = tramd().get_program().to_owned();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(program)
        .arg(config(rig))
        .output()
        .unwrap();
    (output.status.code().unwrap(), told(&output))
}

#[test]
fn a_stick_that_is_full_read_only_or_not_there_is_said_and_nothing_is_left() {
    let rig = cut_off();
    hand_in_to(&rig, 40);
    hand_in_file(&rig, 9_000, &incompressible(5, 3 << 20));
    let waiting = rig.waiting(XA);
    let (code, text) = on_small_stick(&rig, "size=1m");
    assert!(code == 1 && text.contains("USB đầy"), "{text}");
    assert!(
        text.contains("đang chờ khoảng 4 MiB, USB còn trống 1 MiB"),
        "{text}"
    );
    assert!(text.contains("left: \n"), "no half file: {text}");
    let status = rig.status(XA);
    assert_eq!(status["stick"]["fault"]["code"], "stick-full", "{status}");
    let page = agent()
        .get(format!("http://127.0.0.1:{}/", rig.boxes[XA].http_port))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(page.contains("USB đầy"), "{page}");
    let events = status["events"].to_string();
    assert!(events.contains("stick_failed"), "{events}");

    let (code, text) = on_small_stick(&rig, "size=1m,ro");
    assert!(
        code == 1 && text.contains("không ghi được vào USB"),
        "{text}"
    );
    let nowhere = rig.folder.path().join("khong-co");
    let text = ends(box_command(&rig, &["export"], &nowhere), 1);
    assert!(
        text.contains("không có thư mục") && text.contains("Cắm USB"),
        "{text}"
    );
    assert!(!nowhere.exists());
    let text = ends(hub_command(&rig, &["import"], &nowhere), 1);
    assert!(text.contains("không có thư mục"), "{text}");
    let (code, text) = on_small_stick(&rig, "size=16m");
    assert!(code == 0 && text.contains("left: /mnt/lienthong"), "{text}");
    assert!(waiting <= rig.waiting(XA), "nothing is lost");
}

#[test]
fn what_was_damaged_is_refused_where_it_is_damaged() {
    let rig = cut_off();
    hand_in_to(&rig, 100);
    hand_in_file(&rig, 9_000, &incompressible(6, 2 << 20));
    let usb = stick(&rig);
    export(&rig, &usb);
    let path = up_file(&usb);
    let whole = fs::read(&path).unwrap();
    let at = |tenths: usize| whole.len() * tenths / 10;
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        bytes
    };
    let files = [
        ("foreign", flipped(2)),
        ("foreign", b"khong phai tep cua tram".to_vec()),
        ("foreign", Vec::new()),
        ("cut_off", whole[..9].to_vec()),
        ("damaged", flipped(at(3))),
        ("damaged", flipped(whole.len() - 1)),
        ("cut_off", whole[..at(6)].to_vec()),
        ("cut_off", whole[..whole.len() - 20].to_vec()),
    ];
    let before = rig.waiting(XA);
    fs::write(&path, flipped(at(3))).unwrap();
    assert_eq!(fault(&import_at_hub(&rig, &usb, 1)), "damaged");
    import_at_box(&rig, &usb);
    let waiting = rig.waiting(XA);
    assert!(
        0 < waiting && waiting < before,
        "what stands before the damage is received, and no more: {waiting}"
    );
    for (code, bytes) in files {
        fs::write(&path, bytes).unwrap();
        let said = import_at_hub(&rig, &usb, 1);
        assert_eq!(fault(&said), code, "{said}");
        let hint = said["faults"][0]["hint_vi"].as_str().unwrap();
        assert!(hint.contains("Trạm vẫn giữ đủ dữ liệu"), "{hint}");
        rig.verify();
    }
    // All but the end of the last file was sound, and what was sound has its receipt.
    import_at_box(&rig, &usb);
    assert_eq!(rig.waiting(XA), 0);
    fs::write(&path, &whole).unwrap();
    import_at_hub(&rig, &usb, 0);
    import_at_box(&rig, &usb);
    assert_eq!(rig.waiting(XA), 0);
    assert_once(&rig, 101);
}

#[test]
fn in_the_wrong_hands_it_is_of_no_use() {
    let mut rig = cut_off();
    hand_in_to(&rig, 40);
    let usb = stick(&rig);
    export(&rig, &usb);

    let mut other = Rig::start(Broker::Embedded);
    other.add_box(XA, AGENCY, 9);
    let said = import_at_hub(&other, &usb, 1);
    assert_eq!(fault(&said), "other_hub", "{said}");
    assert!(other.at_hub(XA).is_empty());

    // Another box's key signs nothing for this one.
    other.start_box(XA);
    hand_in_to(&other, 5);
    let strange = stick(&other);
    let key = rig.trucd(&["seal-key"], 0);
    assert!(key.starts_with("-----BEGIN PUBLIC KEY-----"), "{key}");
    fs::write(other.boxes[XA].folder.join("seal.pub"), key).unwrap();
    export(&other, &strange);
    let said = import_at_hub(&rig, &strange, 1);
    assert_eq!(fault(&said), "forged", "{said}");
    assert!(rig.at_hub(XA).is_empty());

    for (order, state) in [("suspend", "suspended"), ("resume", "none")] {
        rig.trucd(&["box", order, XA], 0);
        let said = import_at_hub(&rig, &usb, i32::from(state != "none"));
        assert_eq!(fault(&said), state, "{said}");
        assert_eq!(rig.at_hub(XA).is_empty(), state != "none");
    }

    // Receipts of a hub that is not ours, of another box, and changed ones.
    let folder = usb.join("lienthong").join(XA);
    let ours = on_stick(&usb)
        .into_iter()
        .find(|name| name.ends_with(".ltr"))
        .unwrap();
    let ours = fs::read(folder.join(ours)).unwrap();
    for name in on_stick(&usb) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    let refuse = |rig: &Rig, bytes: &[u8], what: &str| {
        let path = folder.join("receipts-20261122-000000.ltr");
        fs::write(&path, bytes).unwrap();
        let text = ends(box_command(rig, &["import"], &usb), 1);
        assert!(text.contains(what), "{text}");
        assert_eq!(rig.waiting(XA), 40, "nothing counts as delivered");
        fs::remove_file(path).unwrap();
    };
    let mut changed = ours.clone();
    let end = changed.len() - 6;
    changed[end] ^= 1;
    refuse(&rig, &changed, "không do trục ký cho trạm này");
    refuse(&rig, &ours[..ours.len() - 3], "bị hỏng");
    let strange_again = other.folder.path().join("usb-own");
    fs::create_dir(&strange_again).unwrap();
    let own = other.trucd(&["seal-key"], 0);
    fs::write(other.boxes[XA].folder.join("seal.pub"), own).unwrap();
    export(&other, &strange_again);
    import_at_hub(&other, &strange_again, 0);
    let theirs = on_stick(&strange_again)
        .into_iter()
        .find(|name| name.ends_with(".ltr"))
        .unwrap();
    let theirs = fs::read(strange_again.join("lienthong").join(XA).join(theirs)).unwrap();
    refuse(&rig, &theirs, "không do trục ký cho trạm này");
    // Straight into the daemon, past the command's own look at it.
    let magic_and_length = 12;
    let socket = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
        .arg("--unix-socket")
        .arg(rig.boxes[XA].folder.join("box.db.sock"))
        .args(["--data-binary", "@-", "http://x/v1/local/stick/receipt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut socket = socket.unwrap();
    let length = u32::from_be_bytes(theirs[8..12].try_into().unwrap()) as usize;
    use std::io::Write;
    socket
        .stdin
        .take()
        .unwrap()
        .write_all(&theirs[magic_and_length..magic_and_length + length])
        .unwrap();
    assert_eq!(socket.wait_with_output().unwrap().stdout, b"204");
    assert_eq!(rig.waiting(XA), 40);
    let status = rig.status(XA);
    assert!(status["events"].to_string().contains("forged_receipt"));

    let elsewhere = rig.folder.path().join("usb-other-box");
    fs::create_dir_all(elsewhere.join("lienthong/xa-khac")).unwrap();
    let text = ends(box_command(&rig, &["import"], &elsewhere), 1);
    assert!(text.contains("USB không phải của trạm này"), "{text}");
    fs::write(folder.join("receipts-20261122-000000.ltr"), &ours).unwrap();
    import_at_box(&rig, &usb);
    assert_eq!(rig.waiting(XA), 0);
    mend(&mut rig);
    hand_in_to(&rig, 60);
    rig.wait_until_drained(XA, SOON);
    rig.assert_exactly(XA, AGENCY, 60);
}

#[test]
fn a_hub_without_a_seal_key_makes_one_and_keeps_it_safe() {
    use std::os::unix::fs::PermissionsExt;
    let mut rig = cut_off();
    hand_in_to(&rig, 20);
    let hub = rig.hub_folder();
    let public = |rig: &Rig| rig.trucd(&["seal-key"], 0);
    let first = public(&rig);
    assert_eq!(first, fs::read_to_string(hub.join("seal.pub")).unwrap());
    let of_box = rig.boxes[XA].folder.join("seal.pub");
    assert_eq!(first, fs::read_to_string(&of_box).unwrap());
    let archive = rig.folder.path().join("truc.tar.zst");
    rig.trucd(&["backup", archive.to_str().unwrap()], 0);
    let listed = Command::new("tar")
        .args(["--zstd", "-tf"])
        .arg(&archive)
        .output();
    assert!(told(&listed.unwrap()).contains("settings/seal.key"));

    // A hub from before there were sticks.
    for file in ["seal.key", "seal.pub"] {
        fs::remove_file(hub.join(file)).unwrap();
    }
    let second = public(&rig);
    assert_ne!(first, second);
    let mode = fs::metadata(hub.join("seal.key")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let usb = stick(&rig);
    export(&rig, &usb);
    let said = import_at_hub(&rig, &usb, 1);
    assert_eq!(fault(&said), "other_hub", "{said}");
    fs::remove_file(&of_box).unwrap();
    let text = ends(box_command(&rig, &["export"], &usb), 78);
    assert!(text.contains("trucd seal-key"), "{text}");
    fs::write(&of_box, second).unwrap();
    export(&rig, &usb);
    // Both are there: the old one is refused, the new one brings all.
    let said = import_at_hub(&rig, &usb, 1);
    assert_eq!(
        (&said["new"], fault(&said)),
        (&json!(20), "other_hub"),
        "{said}"
    );
    rig.trucd(&["box", "revoke", XA], 0);
    assert_eq!(fault(&import_at_hub(&rig, &usb, 1)), "suspended");
    import_at_box(&rig, &usb);
    assert_eq!(rig.waiting(XA), 0);
    assert!(rig.trucd(&["audit"], 0).contains("stick_imported"));
    rig.kill_box(XA);
}

/// A disk image as a stick, seen by this test and by what it starts in the same namespace of mounts.
const PLUGGED: &str = r#"
set -e
cd "$1"
tramd=$2; config=$3; device=$4
mkdir -p place run
show() { mount "$device" place; ls place place/lienthong/xa-tan-bien 2>/dev/null || true; umount place; }
plug() { RUNTIME_DIRECTORY=$1/run "$tramd" stick "$device" --config "$config"; }
plug "$1"; echo "strange: $(show | tr '\n' ' ')"
mount "$device" place; mkdir -p place/lienthong/xa-khac; umount place
plug "$1" 2>&1 || echo "other: $?"
mount "$device" place; "$tramd" export --prepare "$PWD/place" --config "$config"; umount place
plug "$1"; echo "written: $(show | tr '\n' ' ')"
echo "still mounted: $(grep -c "$PWD/run" /proc/self/mounts || true)"
"#;

#[test]
fn a_stick_that_is_plugged_in_is_served_if_it_was_prepared() {
    if !nix::unistd::geteuid().is_root() || !Path::new("/dev/loop-control").exists() {
        eprintln!("NOT RUN: only root makes disks of files");
        return;
    }
    let rig = cut_off();
    hand_in_to(&rig, 40);
    let place = rig.folder.path().join("plugged");
    fs::create_dir(&place).unwrap();
    let image = place.join("usb.img");
    fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    let make = Command::new("mkfs.ext4").arg("-q").arg(&image).output();
    let make = make.unwrap();
    assert!(make.status.success(), "{}", told(&make));
    let device = Command::new("losetup")
        .args(["--find", "--show"])
        .arg(&image)
        .output()
        .unwrap();
    let device = String::from_utf8(device.stdout).unwrap().trim().to_owned();
    assert!(device.starts_with("/dev/loop"), "{device}");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", PLUGGED, "sh"])
        .arg(&place)
        .arg(tramd().get_program())
        .arg(config(&rig))
        .arg(&device)
        .output();
    let freed = Command::new("losetup").args(["--detach", &device]).status();
    let text = told(&output.unwrap());
    assert!(freed.unwrap().success());
    assert!(text.contains("để nguyên"), "{text}");
    assert!(text.contains("strange: place: lost+found "), "{text}");
    assert!(
        text.contains("other: 1") && text.contains("USB không phải của trạm này"),
        "{text}"
    );
    assert!(text.contains("Có thể rút USB: đã ghi 40 bản ghi"), "{text}");
    assert!(text.contains("-001.lts"), "{text}");
    assert!(text.contains("still mounted: 0"), "{text}");
    assert_eq!(rig.status(XA)["stick"]["state"], "ready");
    let page = agent()
        .get(format!("http://127.0.0.1:{}/", rig.boxes[XA].http_port))
        .call()
        .unwrap()
        .body_mut()
        .read_to_string()
        .unwrap();
    assert!(page.contains("có thể rút USB"), "{page}");
}

#[test]
fn the_rule_starts_the_unit_for_what_the_program_mounts() {
    let rule = include_str!("../systemd/lienthong-stick.rules");
    let unit = include_str!("../systemd/tramd-stick@.service");
    let lines: Vec<&str> = rule
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    for line in &lines {
        for part in line.split(", ") {
            let (name, value) = ["==", "!=", "+=", "="]
                .iter()
                .find_map(|sign| part.split_once(sign))
                .unwrap_or_else(|| panic!("{part:?} is neither a question nor an order"));
            assert!(value.starts_with('"') && value.ends_with('"'), "{part}");
            let name = name.split('{').next().unwrap();
            let known = ["ACTION", "SUBSYSTEM", "ENV", "TAG", "GOTO", "LABEL"];
            assert!(known.contains(&name), "{part}");
        }
    }
    let label = lines.last().unwrap().strip_prefix("LABEL=").unwrap();
    let gotos = lines.iter().filter_map(|line| line.split_once("GOTO="));
    assert!(gotos.clone().count() == 5 && gotos.clone().all(|(_, to)| to == label));
    assert!(rule.contains("ENV{SYSTEMD_WANTS}+=\"tramd-stick@%k.service\""));
    assert!(unit.contains("ExecStart=/usr/bin/tramd stick /dev/%i\n"));
    assert!(unit.contains("RuntimeDirectory="), "where it is mounted");
    let program = include_str!("../src/edge/stick/device.rs");
    let kinds = rule.split("ID_FS_TYPE}!=\"").nth(1).unwrap();
    let kinds = kinds.split('"').next().unwrap();
    for kind in kinds.split('|') {
        assert!(program.contains(&format!("(\"{kind}\",")), "{kind}");
    }
}
