//! The link test, step by step, with a hub and without.

use crate::one_box::{SOON, XA, one_box};
use crate::rig::wait_for;
use crate::{assert_audited, technician};

const PATH: &str = "/ky-thuat/duong-truyen";
const STEPS: [&str; 7] = [
    "Tra tên máy chủ trục",
    "Kết nối TCP",
    "Kết nối TLS",
    "Chứng thư và khóa",
    "Đồng hồ",
    "Dịch vụ MQTT",
    "Biên nhận của trục",
];

/// The result of each step, in their order.
fn results(body: &str) -> Vec<&str> {
    let mut rest = body;
    let mut found = Vec::new();
    for step in STEPS {
        let at = rest
            .find(step)
            .unwrap_or_else(|| panic!("{step} in {body}"));
        let item = rest[..at].rfind("<li class=\"").expect("an item") + "<li class=\"".len();
        found.push(rest[item..].split('"').next().expect("a class"));
        rest = &rest[at + step.len()..];
    }
    found
}

#[test]
fn each_step_to_the_hub_is_tried_and_told() {
    let mut rig = one_box();
    rig.start_box(XA);
    wait_for("the link stands", SOON, || {
        rig.status(XA)["link"]["state"] == "up"
    });
    let before = rig.status(XA)["link"]["since"].clone();
    let mut browser = technician(&rig);
    let shown = browser.get(PATH).ok();
    assert!(
        !shown.body.contains("class=\"steps\""),
        "looking does nothing"
    );

    let page = browser.confirm(PATH, &[]).ok();
    assert!(
        page.head
            .to_lowercase()
            .contains("transfer-encoding: chunked"),
        "{}",
        page.head
    );
    let mut found = results(&page.body);
    // Whether a time server is heard is this machine's business.
    assert!(
        ["green", "amber"].contains(&found.remove(4)),
        "{}",
        page.body
    );
    assert_eq!(found, ["green"; 6], "{}", page.body);
    assert!(page.body.contains("</html>"));
    let after = rig.status(XA)["link"]["since"].clone();
    assert_ne!(before, after, "the box has logged in anew");
    assert_audited(&rig, "link_test", "done");

    rig.kill_hub();
    wait_for("the link is lost", SOON, || {
        rig.status(XA)["link"]["state"] == "down"
    });
    let page = browser.confirm(PATH, &[]).ok();
    let found = results(&page.body);
    assert_eq!(
        [found[0], found[1], found[2], found[5]],
        ["green", "red", "none", "red"],
        "{}",
        page.body
    );
    assert!(page.body.contains("tcp-refused") && page.body.contains("hub.addresses"));
}
