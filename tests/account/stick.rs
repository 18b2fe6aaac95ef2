//! A stick that is written and read on a technician's word, by a real box.

use std::fs;

use crate::browser::encoded;
use crate::one_box::{SOON, XA, configure, one_box};
use crate::rig::wait_for;
use crate::{assert_audited, audit, hand_in, technician};

const USB: &str = "/ky-thuat/usb";

#[test]
fn a_mounted_stick_is_written_and_read_on_a_word() {
    let mut rig = one_box();
    rig.kill_hub();
    let usb = rig.folder.path().join("usb");
    fs::create_dir(&usb).unwrap();
    let settings = format!("[stick]\nfolder = \"{}\"\n", usb.display());
    configure(&rig, "30-stick.toml", &settings);
    rig.start_box(XA);
    hand_in(&rig, 1);
    let mut browser = technician(&rig);
    let shown = usb.to_str().unwrap().to_owned();
    let page = browser.get(USB).ok();
    assert!(page.body.contains(&shown), "{}", page.body);

    let asked = format!("{USB}?noi={}&viec=xuat", encoded(&shown));
    let page = browser.get(&asked).ok();
    assert!(page.body.contains("chỉ trục đọc được"), "{}", page.body);
    let state = || rig.status(XA)["stick"]["state"].clone();
    assert!(state().is_null(), "only shown");
    browser.confirm(&asked, &[]);
    wait_for("the stick may be pulled", SOON, || state() == "ready");
    let told = rig.status(XA)["stick"].clone();
    assert_eq!(told["exported"]["entries"], 1, "{told}");
    let files = fs::read_dir(usb.join("lienthong").join(XA)).unwrap();
    assert_eq!(files.count(), 1);
    wait_for("it stands in the audit", SOON, || {
        let lines = audit(&rig);
        let mut ends = lines.iter().filter(|line| line["name"] == "stick_export");
        ends.any(|line| line["result"] == "done")
    });
    assert_audited(&rig, "stick_export", "begun");

    rig.trucd(&["import", &shown], 0);
    let asked = format!("{USB}?noi={}&viec=nhap", encoded(&shown));
    browser.confirm(&asked, &[]);
    wait_for("the receipts are taken", SOON, || rig.waiting(XA) == 0);
    assert_audited(&rig, "stick_import", "begun");

    // A place that no stick is at is none, whoever names it.
    let elsewhere = rig.folder.path().join("noi-khac");
    fs::create_dir(&elsewhere).unwrap();
    let place = elsewhere.to_str().unwrap();
    let fields = [("noi", place), ("viec", "xuat"), ("xac_nhan", "1")];
    browser.post(USB, &fields);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
