//! The page on a good day, a bad day, and with hostile texts in it.

use base64::Engine as _;

use super::*;
use crate::edge::published::CatalogueStatus;
use crate::edge::status::down::{
    CommandStatus, ComparedStatus, CopyStatus, DownStatus, FileStatus, FilesStatus, InboxStatus,
    LoadStatus, WayStatus,
};
use crate::edge::status::{
    CardStatus, CertificateStatus, ClockStatus, EventStatus, LinkReason, LinkStatus, Stamp,
    StoreStatus, Trouble,
};
use crate::model::{Seq, UnixMs};

pub const HOSTILE: &str = "\"><script>alert('x')</script>&";
const AT: i64 = 1_790_000_000_000;

/// A box where all is well, with something waiting.
pub fn full() -> Status {
    let lane = |lane: Lane| LaneStatus {
        lane,
        waiting: if lane == Lane::P2 { 12_345 } else { 0 },
        waiting_bytes: if lane == Lane::P2 { 1_572_864 } else { 0 },
        oldest: (lane == Lane::P2).then_some(Stamp(UnixMs(AT - 120_000))),
        oldest_s: if lane == Lane::P2 { 120 } else { 0 },
        quota_bytes: 100 << 20,
        full: false,
        newest: Seq(20_000),
        received: Seq(7_655),
    };
    Status {
        version: "0.1.0".to_owned(),
        box_id: "xa-tan-bien".parse().expect("valid"),
        agency: "H53.12".parse().expect("valid"),
        at: Stamp(UnixMs(AT)),
        running_since: Some(Stamp(UnixMs(AT - 86_400_000))),
        link: LinkStatus {
            state: LinkState::Up,
            address: Some("hub1:8883".to_owned()),
            since: Some(Stamp(UnixMs(AT - 3_600_000))),
            last_receipt: Some(Stamp(UnixMs(AT - 1_000))),
            reason: None,
        },
        lanes: Lane::ALL.map(lane).to_vec(),
        sources: vec![SourceStatus {
            name: "quan-trac".to_owned(),
            kind: Some("folder".to_owned()),
            accepted: 1_000,
            refused: 2,
            last_accepted: Some(Stamp(UnixMs(AT - 5_000))),
            last_refused: Some(Stamp(UnixMs(AT - 9_000))),
            last_reason: Some("trường “Mã trạm” còn thiếu".to_owned()),
            parked: 0,
            state: None,
            since: None,
            fault: None,
            warning: None,
            progress: None,
        }],
        store: StoreStatus {
            path: "/var/lib/lienthong/tramd.db".to_owned(),
            trouble: None,
            used_bytes: 300 << 20,
            free_bytes: 0,
            quota_bytes: 2 << 30,
            disk_free_bytes: Some(9 << 30),
            epoch: Some("00000000000000a1".to_owned()),
            card: CardStatus {
                written_bytes: 3 << 30,
                written_per_day_bytes: Some(12 << 20),
                rated_bytes: 5 << 40,
                days_left: Some(436_650),
            },
        },
        clock: ClockStatus {
            quality: ClockQuality::Synchronized,
            floor: Stamp(UnixMs(AT)),
        },
        certificate: Some(CertificateStatus {
            common_name: "xa-tan-bien".to_owned(),
            issuer: "Trục".to_owned(),
            not_after: Stamp(UnixMs(1_850_000_000_000)),
            days_left: 694,
        }),
        catalogue: CatalogueStatus::default(),
        bandwidth_kbps: None,
        bandwidth: Vec::new(),
        events: Vec::new(),
        refused_by_hub: None,
        down: Some(down()),
    }
}

/// What the hub has sent to a box where all is well.
fn down() -> DownStatus {
    let way = |name: &str, kind: &str| WayStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        waiting: 0,
        failed: 0,
        last: Some(Stamp(UnixMs(AT - 60_000))),
        retry: None,
        error: None,
    };
    DownStatus {
        heard: Some(Stamp(UnixMs(AT - 1_000))),
        entries: 4_321,
        unknown: 0,
        lost: 0,
        used_bytes: 9 << 20,
        trouble: None,
        copies: vec![CopyStatus {
            dataset: "ho_so_tthc".parse().expect("valid"),
            as_of: Stamp(UnixMs(AT - 7_200_000)),
            subjects: 45_678,
            load: None,
            withdrawn: false,
            compared: Some(ComparedStatus {
                at: Stamp(UnixMs(AT - 20_000_000)),
                result: "mended".to_owned(),
                buckets: 1,
                subjects: 9,
            }),
        }],
        logs_compared: None,
        inbox: InboxStatus {
            unread: 2,
            oldest: Some(Stamp(UnixMs(AT - 600_000))),
            oldest_s: 600,
            by_status: [("01".to_owned(), 2)].into(),
            unsaid: 0,
            ways: vec![way("qlvb", "folder"), way("qlvb-web", "http")],
        },
        files: FilesStatus {
            coming: 1,
            coming_bytes: 245_760,
            oldest: Some(Stamp(UnixMs(AT - 600_000))),
            kept: 12,
            used_bytes: 34 << 20,
            full: 0,
            refused: 0,
            under_way: vec![FileStatus {
                sha256: "ab".repeat(32),
                bytes: 430_000,
                state: "receiving".to_owned(),
                chunks: 7,
                received_chunks: 3,
            }],
        },
        commands: vec![CommandStatus {
            id: "c1".to_owned(),
            name: "update_catalogue".to_owned(),
            by: "Lê Thị Mẫu".to_owned(),
            state: "done".to_owned(),
            received: Stamp(UnixMs(AT - 9_000)),
            since: Stamp(UnixMs(AT - 8_000)),
            detail: String::new(),
        }],
    }
}

/// A daemon that is down, with a store that cannot be read.
pub fn bare() -> Status {
    let mut status = full();
    status.link.state = LinkState::Stopped;
    status.link.since = None;
    status.running_since = None;
    status.lanes.clear();
    status.sources.clear();
    status.certificate = None;
    status.store.trouble = Some(Trouble {
        code: "unreadable".to_owned(),
        text_vi: "không mở được tệp".to_owned(),
        text_en: "cannot be opened".to_owned(),
        hint_vi: "Kiểm tra quyền đọc.".to_owned(),
        hint_en: "Check its permissions.".to_owned(),
        since: None,
    });
    status
}

pub fn alarm(at_ms: i64) -> EventStatus {
    EventStatus {
        at: Stamp(UnixMs(at_ms)),
        level: Level::Alarm,
        code: "state_secret".to_owned(),
        detail: "quan-trac / van_ban_dien_tu: 1".to_owned(),
    }
}

/// The names of all elements, after a check that each ends where it should.
fn elements(html: &str) -> Vec<String> {
    let (mut open, mut all) = (Vec::new(), Vec::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {rest:.80}");
            continue;
        }
        let name = tag.split(' ').next().expect("a name").to_owned();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()), "{tag}");
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        all.push(name.clone());
        if name == "style" {
            rest = &rest[rest.find("</style>").expect("the style ends")..];
        }
        if name != "meta" {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} did not end");
    all
}

fn check(status: &Status, parts: &[&str]) -> String {
    let html = render(status);
    let names = elements(&html);
    for forbidden in ["script", "link", "img", "iframe", "form", "a", "svg"] {
        assert!(!names.iter().any(|name| name == forbidden), "{forbidden}");
    }
    assert!(!html.contains(" style=") && !html.contains("://") && !html.contains("url("));
    assert!(html.len() < 30_000, "{} bytes", html.len());
    for part in parts {
        assert!(html.contains(part), "{part} in {html}");
    }
    html
}

#[test]
fn a_good_day() {
    let html = check(
        &full(),
        &[
            "12.345",
            "1,5 MiB",
            "2 phút",
            "21/09/2026 21:13",
            "Đã kết nối",
        ],
    );
    assert_eq!(html.matches("TỐT").count(), 3, "each light says its word");
    assert!(!html.contains("CẦN CHÚ Ý") && !html.contains("CÓ SỰ CỐ"));
}

#[test]
fn a_bad_day() {
    let mut status = full();
    status.link.state = LinkState::Down;
    status.link.since = Some(Stamp(UnixMs(AT - 3_600_000)));
    status.link.reason = Some(LinkReason {
        code: "mqtt-refused".to_owned(),
        mqtt: Some(0x87),
        text_vi: "Trục không cho phép kết nối.".to_owned(),
    });
    status.lanes[2].full = true;
    status.certificate.as_mut().expect("there").days_left = -3;
    status.events = vec![alarm(AT)];
    let html = check(
        &status,
        &[
            "MQTT 0x87",
            "Trục không cho phép",
            "ĐẦY",
            "Báo động",
            "Đã hết hạn",
            "Mất liên lạc",
        ],
    );
    assert_eq!(html.matches("CÓ SỰ CỐ").count(), 3);
}

#[test]
fn what_the_hub_has_sent() {
    let html = check(
        &full(),
        &[
            "45.678",
            "21/09/2026 19:13",
            "Đầy đủ",
            "2, cũ nhất từ 10 phút trước",
            "01 Đã đến: 2",
            "qlvb-web (http)",
            "update_catalogue",
            "đã làm xong lúc",
        ],
    );
    assert!(!html.contains("thu hồi") && !html.contains("Không chuyển được"));

    let mut status = full();
    status.bandwidth = vec!["07:30-17:00 256".to_owned()];
    let down = status.down.as_mut().expect("there");
    let mut loading = down.copies[0].clone();
    loading.load = Some(LoadStatus {
        seen: 1_500,
        of: 6_000,
    });
    let mut withdrawn = down.copies[0].clone();
    withdrawn.withdrawn = true;
    down.copies = vec![loading, withdrawn.clone()];
    withdrawn.subjects = 0;
    down.copies.push(withdrawn);
    let way = &mut down.inbox.ways[0];
    (way.waiting, way.failed) = (5, 3);
    way.retry = Some(Stamp(UnixMs(AT + 60_000)));
    way.error = Some(HOSTILE.to_owned());
    down.commands[0].state = "waiting".to_owned();
    let html = check(
        &status,
        &[
            "Đang nạp 1.500 / 6.000 (25 %)",
            "đang xóa",
            "đã xóa hết",
            "Không chuyển được 3 văn bản",
            "Kiểm tra thư mục và quyền ghi; thử lại lúc 21/09/2026 21:14",
            "đang chờ",
            "07:30-17:00 256",
            "Văn bản đến không chuyển được vào phần mềm qua: qlvb",
        ],
    );
    assert!(!html.contains("alert('x')"));
}

#[test]
fn a_daemon_that_is_down() {
    check(
        &bare(),
        &[
            "Chương trình không chạy",
            "Không đọc được kho",
            "Chưa có nguồn nào",
            "Kiểm tra quyền",
        ],
    );
}

#[test]
fn foreign_text_stays_text_and_the_page_stays_small() {
    let mut status = full();
    let long = HOSTILE.repeat(200);
    status.sources[0].name = HOSTILE.to_owned();
    status.sources[0].last_reason = Some(long.clone());
    status.sources[0].last_refused = Some(status.at);
    status.link.address = Some(long.clone());
    status.events = (0..100)
        .map(|_| EventStatus {
            detail: "việc ".repeat(99),
            ..alarm(AT)
        })
        .collect();
    let mut html = check(&status, &["&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)"]);
    assert!(!html.contains("alert('x')"));
    status.sources = vec![status.sources[0].clone(); 500];
    for source in &mut status.sources {
        source.last_reason = Some("thiếu mã trạm".to_owned());
    }
    html = check(&status, &["Và 460 nguồn khác"]);
    assert!(html.contains("việc"));
}

#[test]
fn a_card_that_wears_out_is_told_in_time() {
    check(&full(), &["ghi 12,0 MiB mỗi ngày, còn trên 100 năm"]);
    let mut status = full();
    status.store.card.days_left = Some(300);
    assert_eq!(lights::ahead(&status).colour, lights::Colour::Amber);
    check(
        &status,
        &["còn 300 ngày", "hết độ bền ghi sau khoảng 300 ngày"],
    );
    status.store.card.days_left = Some(20);
    assert_eq!(lights::ahead(&status).colour, lights::Colour::Red);
}

#[test]
fn the_policy_allows_just_this_style() {
    let digest =
        base64::engine::general_purpose::STANDARD.encode(crate::evidence::sha256(STYLE.as_bytes()));
    assert!(
        CSP.contains(&format!("style-src 'sha256-{digest}';")),
        "{digest}"
    );
    assert!(!STYLE.contains("</"));
}
