//! The page on a good day, a bad day, with hostile texts in it, and in both languages.

use std::collections::BTreeSet;

use base64::Engine as _;

use super::*;
use crate::edge::backup::problem::Problem;
use crate::edge::backup::schedule::LastBackup;
use crate::edge::page::frame::{CSP, CSP_FORMS, SCRIPT, STYLE};
use crate::edge::published::CatalogueStatus;
use crate::edge::status::backup::BackupStatus;
use crate::edge::status::by_source::{BySource, SourceWaiting};
use crate::edge::status::down::{
    CommandStatus, ComparedStatus, CopyStatus, DownStatus, FileStatus, FilesStatus, InboxStatus,
    LoadStatus, WayStatus,
};
use crate::edge::status::history::Forecast;
use crate::edge::status::machine::{MachineStatus, MemoryStatus, SupplyKind, SupplyStatus};
use crate::edge::status::{
    CardStatus, CertificateStatus, ClockStatus, EventStatus, LaneStatus, LinkReason, LinkState,
    LinkStatus, ParkedReason, RefusedByHub, SourceState, SourceStatus, Stamp, StopKind, StopStatus,
    StoreStatus, Trouble,
};
use crate::edge::stick::fault::Fault;
use crate::edge::stick::state::{Exported, Imported, StickState, StickStatus};
use crate::engine::sending::Level;
use crate::model::{ClockQuality, Lane, Seq, UnixMs};
use crate::shell::down::DownReason;
use crate::shell::stick::StickError;
use crate::store::history::Sample;
use crate::wire::RefusalCode;

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
            parked_reasons: Vec::new(),
            state: None,
            since: None,
            fault: None,
            warning: None,
            progress: None,
        }],
        waiting_by_source: Some(BySource {
            is_complete: true,
            sources: vec![SourceWaiting {
                source: Some("quan-trac".to_owned()),
                entries: 12_000,
                bytes: 1_400_000,
                oldest: Stamp(UnixMs(AT - 120_000)),
            }],
        }),
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
        machine: MachineStatus {
            memory: Some(MemoryStatus {
                total_bytes: 1 << 30,
                available_bytes: 600 << 20,
            }),
            temperature_c: Some(48.3),
            supplies: vec![
                SupplyStatus {
                    name: "AC".to_owned(),
                    kind: SupplyKind::Mains,
                    online: Some(true),
                    discharging: None,
                    charge_percent: None,
                },
                SupplyStatus {
                    name: "ups0".to_owned(),
                    kind: SupplyKind::Ups,
                    online: None,
                    discharging: Some(false),
                    charge_percent: Some(100),
                },
            ],
        },
        stick: Some(ready_stick()),
        last_stop: Some(StopStatus {
            kind: StopKind::Power,
            after: Stamp(UnixMs(AT - 200_000_000)),
            before: Stamp(UnixMs(AT - 199_000_000)),
        }),
        backup: Some(good_backup()),
        clock: ClockStatus {
            quality: ClockQuality::Synchronized,
            floor: Stamp(UnixMs(AT)),
        },
        certificate: Some(CertificateStatus {
            generation: 0,
            rotated: None,
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
        lan: None,
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

/// A stick was written and a receipt taken an hour ago.
fn ready_stick() -> StickStatus {
    StickStatus {
        state: StickState::Ready,
        at: Stamp(UnixMs(AT - 3_600_000)),
        exported: Some(Exported {
            files: 1,
            entries: 1_234,
            bytes: 5 << 20,
            left_bytes: 0,
        }),
        imported: Some(Imported {
            files: 1,
            entries: 56,
        }),
        fault: None,
    }
}

#[test]
fn the_stick_says_whether_it_may_be_pulled() {
    let page = |change: fn(&mut StickStatus), lang| {
        let mut status = full();
        change(status.stick.as_mut().expect("there"));
        render(&status, &History::default(), lang)
    };
    let ready = page(|_| {}, Lang::Vi);
    assert!(ready.contains("có thể rút USB"), "{ready}");
    assert!(ready.contains("1.234 bản ghi chờ, 5,0 MiB"), "{ready}");
    assert!(ready.contains("trục đã giữ thêm 56 bản ghi"), "{ready}");
    let english = page(|_| {}, Lang::En);
    assert!(english.contains("the stick may be pulled"));
    let writing = page(|stick| stick.state = StickState::Writing, Lang::Vi);
    assert!(writing.contains("đang ghi… không được rút"));
    assert!(!writing.contains("có thể rút"));
    let failed = page(
        |stick| {
            stick.state = StickState::Failed;
            let fault = Fault::of_stick(std::path::Path::new("/media/usb"), StickError::Full);
            stick.fault = Some(fault.trouble(UnixMs(AT)));
        },
        Lang::Vi,
    );
    assert!(failed.contains("USB đầy") && failed.contains("trạm vẫn giữ đủ dữ liệu"));
    assert!(!failed.contains("có thể rút"));
    let old = page(
        |stick| stick.at = Stamp(UnixMs(AT - 8 * 86_400_000)),
        Lang::Vi,
    );
    assert!(!old.contains("có thể rút"));
}

fn good_backup() -> BackupStatus {
    BackupStatus {
        folder: "/mnt/saoluu".to_owned(),
        keep: 14,
        next: Some(Stamp(UnixMs(AT + 50_000_000))),
        last: Some(LastBackup {
            at: Stamp(UnixMs(AT - 36_000_000)),
            file: "/mnt/saoluu/xa-tan-bien-20260921-0230.tar.zst".to_owned(),
            bytes: 3_500_000,
            entries: 12_345,
            files: 8,
            same_disk: false,
        }),
        fault: None,
        late: false,
    }
}

/// The share was not there when a backup was due.
pub fn failed_backup() -> BackupStatus {
    let problem = Problem::NoFolder("/mnt/saoluu".into());
    BackupStatus {
        fault: Some(Problem::trouble(
            &problem.into(),
            Stamp(UnixMs(AT - 3_000_000)),
        )),
        ..good_backup()
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

/// A box where everything that can be told is told.
pub fn crowded() -> Status {
    let mut status = full();
    status.link = LinkStatus {
        state: LinkState::Down,
        reason: Some(LinkReason {
            code: "mqtt-refused".to_owned(),
            mqtt: Some(0x87),
            text_vi: "Dịch vụ MQTT từ chối trạm này.".to_owned(),
        }),
        ..status.link
    };
    status.refused_by_hub = Some(RefusedByHub {
        code: "suspended".to_owned(),
        at: status.at,
        text_vi: "Trục đã tạm ngừng trạm này.".to_owned(),
    });
    let trouble = |code: &str| Trouble {
        code: code.to_owned(),
        text_vi: "không nối được với cơ sở dữ liệu".to_owned(),
        text_en: "cannot connect to the database".to_owned(),
        hint_vi: "Kiểm tra máy chủ cơ sở dữ liệu và mật khẩu trong cấu hình.".to_owned(),
        hint_en: "Check the database server and the password in the configuration.".to_owned(),
        since: None,
    };
    let mut source = status.sources[0].clone();
    source.fault = Some(trouble("connect"));
    source.warning = Some(trouble("slow"));
    source.state = Some(SourceState::Failed);
    source.since = Some(status.at);
    source.parked = 1_234;
    source.parked_reasons = (0..3)
        .map(|number| ParkedReason {
            text_vi: format!("dòng thiếu khóa chính của bộ dữ liệu {number}"),
            text_en: format!("the row lacks the key of dataset {number}"),
            rows: 400,
        })
        .collect();
    source.last_reason = Some("trường “Mã trạm” còn thiếu; ".repeat(20));
    status.sources = (0..60)
        .map(|number| SourceStatus {
            name: format!("nguon-{number}"),
            ..source.clone()
        })
        .collect();
    let waiting = |number: usize| SourceWaiting {
        source: (0 < number).then(|| format!("nguon-{number}")),
        entries: 1_000_000 + number as u64,
        bytes: 3 << 40,
        oldest: Stamp(UnixMs(AT - 99_999_000)),
    };
    status.waiting_by_source = Some(BySource {
        is_complete: false,
        sources: (0..60).map(waiting).collect(),
    });
    let codes = ["link_down", "store_failed", "power_cut", "source_failed"];
    status.events = (0..50)
        .map(|number| EventStatus {
            code: codes[number % codes.len()].to_owned(),
            detail: "hub1.tinh.example:8883: tcp-timed-out ".repeat(9),
            ..alarm(AT - 60_000 * number as i64)
        })
        .collect();
    let down = status.down.as_mut().expect("there");
    down.copies = vec![down.copies[0].clone(); 40];
    down.inbox.ways = vec![down.inbox.ways[0].clone(); 40];
    for way in &mut down.inbox.ways {
        (way.waiting, way.failed) = (5, 3);
        way.error = Some("no permission to write ".repeat(20));
    }
    down.commands = vec![down.commands[0].clone(); 20];
    status.lanes.iter_mut().for_each(|lane| lane.full = true);
    status.store.trouble = Some(trouble("store_failed"));
    status
}

/// The text nodes of a page and the names of its elements, after a check that each element ends
/// where it should and is one that a page needs.
fn read(html: &str) -> (Vec<String>, Vec<String>) {
    let (mut open, mut names, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = html.strip_prefix("<!DOCTYPE html>").expect("a doctype");
    while let Some(start) = rest.find('<') {
        let end = start + rest[start..].find('>').expect("a tag ends");
        let text = rest[..start].trim();
        if !text.is_empty() && open.last().map(String::as_str) != Some("style") {
            texts.push(text.to_owned());
        }
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "before {rest:.80}");
            continue;
        }
        let name = tag.split(' ').next().expect("a name").to_owned();
        let name = name.trim_end_matches('/').to_owned();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()), "{tag}");
        assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
        let mut attributes = tag.split_whitespace();
        let is_handler = |part: &str| part.starts_with("on") && part.contains('=');
        assert!(
            !attributes.any(is_handler),
            "no script in attributes: {tag}"
        );
        names.push(name.clone());
        if !["meta", "br"].contains(&name.as_str()) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?} did not end");
    (texts, names)
}

/// Values of an attribute.
fn values<'h>(html: &'h str, attribute: &str) -> Vec<&'h str> {
    let start = format!(" {attribute}=\"");
    let parts = html.split(start.as_str()).skip(1);
    parts
        .map(|part| part.split('"').next().expect("it ends"))
        .collect()
}

fn check_html(html: &str) {
    let (_, names) = read(html);
    for forbidden in ["link", "img", "iframe", "form", "object", "embed", "input"] {
        assert!(!names.iter().any(|name| name == forbidden), "{forbidden}");
    }
    assert_eq!(names.iter().filter(|name| *name == "script").count(), 1);
    assert_eq!(values(html, "src"), ["/page.js"]);
    assert!(!html.contains(" style=") && !html.contains("://") && !html.contains("url("));
    let ids: Vec<&str> = values(html, "id");
    let unique: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(unique.len(), ids.len(), "an id stands twice: {ids:?}");
    for target in values(html, "href") {
        match target.strip_prefix('#') {
            Some(id) => assert!(unique.contains(id), "nothing is at {target}"),
            None => assert!(
                target.starts_with('/') && !target.starts_with("//"),
                "{target}"
            ),
        }
    }
    for labels in ["aria-labelledby", "aria-describedby"] {
        for id in values(html, labels) {
            assert!(unique.contains(id), "nothing is at {id}");
        }
    }
    headings_in_order(&names);
    let tables = names.iter().filter(|name| *name == "table").count();
    assert_eq!(
        html.matches("\"><caption>").count(),
        tables,
        "each table is named"
    );
    for (start, _) in html.match_indices("<th") {
        let tag = &html[start..start + html[start..].find('>').expect("it ends")];
        assert!(
            tag.starts_with("<thead") || tag.contains(" scope=\""),
            "{tag}"
        );
    }
    for landmark in ["header", "nav", "main", "footer"] {
        assert_eq!(
            names.iter().filter(|name| *name == landmark).count(),
            1,
            "{landmark}"
        );
    }
}

/// One of the first level, and no level is left out on the way down.
fn headings_in_order(names: &[String]) {
    let levels = names.iter().filter_map(|name| match name.as_str() {
        "h1" => Some(1),
        "h2" => Some(2),
        "h3" => Some(3),
        "h4" => Some(4),
        _ => None,
    });
    let levels: Vec<u32> = levels.collect();
    assert_eq!(levels.first(), Some(&1));
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    for pair in levels.windows(2) {
        assert!(pair[1] <= pair[0] + 1, "{levels:?}");
    }
}

/// What waited, by the largest numbers that a page may have to show.
fn history(status: &Status) -> History {
    let at = |ago_ms: i64, number: u64| Sample {
        at: UnixMs(status.at.0.0 - ago_ms),
        waiting: [
            1_000_000 * (number % 7),
            2_000_000,
            3_000_000,
            4_000_000,
            5_000_000,
        ],
        bytes: 99 << 40,
    };
    History {
        day: (1..=400)
            .rev()
            .map(|number| at(number * 215_000, number.unsigned_abs()))
            .collect(),
        fortnight: (0..169)
            .rev()
            .map(|number| at(number * 7_100_000, number.unsigned_abs()))
            .collect(),
    }
}

/// The page with a history.
fn shown(status: &Status, lang: Lang) -> String {
    render(status, &history(status), lang)
}

/// Checks the page in both languages; `parts` stand in the Vietnamese one.
fn check(status: &Status, parts: &[&str]) -> String {
    for lang in Lang::ALL {
        let html = shown(status, lang);
        check_html(&html);
        assert!(html.contains(&format!("<html lang=\"{}\">", lang.code())));
        let bytes = html.len() + SCRIPT.len();
        assert!(bytes < 100_000, "{bytes} bytes");
    }
    let html = shown(status, Lang::Vi);
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
            "48,3 °C",
            "600,0 MiB / 1,0 GiB",
            "Điện lưới</dt><dd>có điện (AC)",
            "sẵn sàng, 100 % (ups0)",
        ],
    );
    let lights = html.matches("<strong>TỐT</strong>").count();
    assert_eq!(lights, 3, "each light says its word");
    assert!(!html.contains("CẦN CHÚ Ý") && !html.contains("CÓ SỰ CỐ"));
    let english = shown(&full(), Lang::En);
    for part in [
        "12,345",
        "1.5 MiB",
        "2 min",
        "21/09/2026 21:13",
        "48.3 °C",
        ">GOOD<",
    ] {
        assert!(english.contains(part), "{part} in {english}");
    }
}

#[test]
fn a_bad_day() {
    let mut status = full();
    status.link.state = LinkState::Down;
    status.link.since = Some(Stamp(UnixMs(AT - 3_600_000)));
    status.link.reason = Some(LinkReason {
        code: "mqtt-refused".to_owned(),
        mqtt: Some(0x87),
        text_vi: "Dịch vụ MQTT từ chối trạm này.".to_owned(),
    });
    status.lanes[2].full = true;
    status.certificate.as_mut().expect("there").days_left = -3;
    status.events = vec![alarm(AT)];
    let html = check(
        &status,
        &[
            "MQTT 0x87",
            "Dịch vụ MQTT từ chối trạm này",
            "trucd box list",
            "ĐẦY",
            "Báo động",
            "đã hết hạn",
            "Mất liên lạc",
        ],
    );
    assert_eq!(html.matches("<strong>CÓ SỰ CỐ</strong>").count(), 3);
}

#[test]
fn each_reason_for_no_link_is_told_with_what_to_do() {
    for reason in DownReason::ALL {
        let mut status = full();
        status.link.state = LinkState::Down;
        status.link.reason = Some(LinkReason {
            code: reason.as_code().to_owned(),
            mqtt: reason.reason_code(),
            text_vi: reason.vietnamese().to_owned(),
        });
        let told = remedy::remedy(reason);
        let mut parts = vec![told.what[0], told.stage.name()[0], reason.as_code()];
        parts.extend(told.steps.iter().map(|step| step[0]));
        check(&status, &parts);
        let english = shown(&status, Lang::En);
        assert!(english.contains(told.what[1]), "{reason}");
    }
    for code in RefusalCode::ALL {
        let mut status = full();
        status.refused_by_hub = Some(RefusedByHub {
            code: code.as_str().to_owned(),
            at: status.at,
            text_vi: crate::edge::texts::refusal_vi(code).to_owned(),
        });
        check(&status, &[crate::edge::texts::refusal_vi(code)]);
        let english = crate::edge::texts::refusal_en(code.as_str());
        assert!(!english.contains("does not know."), "{code:?}");
        assert!(shown(&status, Lang::En).contains(english));
    }
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
fn what_the_machine_lacks_is_left_out() {
    let mut status = full();
    status.machine = MachineStatus::default();
    status.store.disk_free_bytes = None;
    let html = check(&status, &["Đồng hồ"]);
    for absent in [
        "Nhiệt độ",
        "Bộ nhớ",
        "Pin",
        "UPS",
        "Điện lưới",
        "Đĩa còn trống",
    ] {
        assert!(!html.contains(absent), "{absent}");
    }
}

#[test]
fn the_forecast_stands_where_there_is_one() {
    let mut status = full();
    status.lanes[2].oldest_s = 7_200;
    let mut history = history(&status);
    history
        .day
        .iter_mut()
        .for_each(|sample| sample.bytes = 2 * 1_572_864);
    let Forecast::At(end) = history.forecast(&status) else {
        panic!("{:?}", history.forecast(&status));
    };
    let html = render(&status, &history, Lang::Vi);
    let told = format!("dự kiến gửi hết lúc {}.", lang::time_near(end, status.at));
    assert!(html.contains(&told), "{told}");
    status.link.state = LinkState::Down;
    let html = render(&status, &history, Lang::Vi);
    assert!(html.contains("chưa dự kiến được") && !html.contains("dự kiến gửi hết"));
}

#[test]
fn drawings_are_told_in_words_and_tables_too() {
    let html = check(
        &full(),
        &["24 giờ qua", "14 ngày qua", "nhiều nhất 20.000.000 lúc"],
    );
    assert_eq!(html.matches("<svg ").count(), 2);
    assert_eq!(html.matches("role=\"img\" aria-label=").count(), 2);
    assert_eq!(html.matches("<details").count(), 2);
    let none = render(&full(), &History::default(), Lang::Vi);
    assert!(!none.contains("<svg"), "nothing was remembered yet");
}

#[test]
fn the_last_power_cut_is_told() {
    check(
        &full(),
        &["Mất điện gần nhất</dt><dd>trong khoảng 19/09/2026"],
    );
    let mut status = full();
    status.last_stop.as_mut().expect("there").kind = StopKind::Killed;
    check(&status, &["Dừng đột ngột gần nhất"]);
}

#[test]
fn foreign_text_stays_text() {
    let mut status = full();
    let long = HOSTILE.repeat(200);
    status.sources[0].name = HOSTILE.to_owned();
    status.sources[0].last_reason = Some(long.clone());
    status.sources[0].last_refused = Some(status.at);
    status.link.address = Some(long.clone());
    let mut backup = failed_backup();
    backup.folder = HOSTILE.to_owned();
    backup.last.as_mut().expect("there").file = HOSTILE.to_owned();
    backup.fault.as_mut().expect("there").text_vi = HOSTILE.to_owned();
    status.backup = Some(backup);
    status.events = (0..100)
        .map(|_| EventStatus {
            detail: "việc ".repeat(99),
            ..alarm(AT)
        })
        .collect();
    let html = check(&status, &["&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)"]);
    assert!(!html.contains("alert('x')") && html.contains("việc"));
}

#[test]
fn the_page_stays_small_and_shows_first_what_is_wrong() {
    let status = crowded();
    check(
        &status,
        &[
            "Và 30 mục khác",
            "Giữ lại chờ xử lý",
            "nguon-0, 1.234",
            "đang đếm",
            "1.000.059",
        ],
    );
    let mut status = full();
    let mut quiet = status.sources[0].clone();
    quiet.name = "yen-on".to_owned();
    status.sources[0].fault = crowded().sources[0].fault.clone();
    status.sources.insert(0, quiet);
    let html = check(&status, &["quan-trac"]);
    let row = |name: &str| {
        html.find(&format!("<th scope=\"row\">{name}</th>"))
            .expect("a row")
    };
    assert!(row("quan-trac") < row("yen-on"));
}

#[test]
fn a_card_that_wears_out_is_told_in_time() {
    check(&full(), &["ghi 12,0 MiB mỗi ngày, còn trên 100 năm"]);
    let mut status = full();
    status.store.card.days_left = Some(300);
    assert_eq!(ahead::ahead(&status).colour, lights::Colour::Amber);
    check(
        &status,
        &["còn 300 ngày", "hết độ bền ghi sau khoảng 300 ngày"],
    );
    status.store.card.days_left = Some(20);
    assert_eq!(ahead::ahead(&status).colour, lights::Colour::Red);
}

// === Languages ===

/// Without what is marked as the other language, and without the link to it.
fn spoken(html: &str, other: Lang) -> String {
    let start = format!(" lang=\"{}\">", other.code());
    let mut out = String::new();
    let mut rest = html;
    while let Some(at) = rest.find(&start) {
        let end = at + start.len();
        out.push_str(&rest[..end]);
        rest = &rest[end..];
        rest = &rest[rest.find("</").expect("it ends")..];
    }
    out + rest
}

fn many() -> [Status; 4] {
    let mut loading = full();
    let down = loading.down.as_mut().expect("there");
    down.copies[0].load = Some(LoadStatus { seen: 1, of: 2 });
    down.inbox.by_status = [("13".to_owned(), 1)].into();
    down.inbox.unsaid = 2;
    (down.files.full, down.files.refused) = (1, 1);
    loading.clock.quality = ClockQuality::Floor;
    loading.machine.supplies[0].online = Some(false);
    loading.machine.supplies[1].discharging = Some(true);
    loading.machine.temperature_c = Some(88.0);
    [full(), bare(), crowded(), loading]
}

#[test]
fn the_english_page_has_no_vietnamese_in_it() {
    for mut status in many() {
        status
            .certificate
            .iter_mut()
            .for_each(|found| found.issuer.clear());
        for command in status.down.iter_mut().flat_map(|down| &mut down.commands) {
            command.by = "LT".to_owned();
        }
        let html = spoken(&shown(&status, Lang::En), Lang::Vi);
        let (texts, _) = read(&html);
        let labels = values(&html, "aria-label").into_iter().map(str::to_owned);
        for text in texts.into_iter().chain(labels) {
            let letter = text.chars().find(|c| c.is_alphabetic() && !c.is_ascii());
            assert_eq!(letter, None, "{text}");
        }
    }
}

#[test]
fn what_both_pages_say_alike_is_data() {
    const DATA: [&str; 18] = [
        "quan-trac",
        "folder",
        "http",
        "qlvb",
        "nguon-",
        "update_catalogue",
        "ho_so_tthc",
        "hub1",
        "Lê Thị Mẫu",
        "xa-tan-bien",
        "H53.12",
        "tramd",
        "link_",
        "store_",
        "power_cut",
        "source_",
        "no permission",
        "suspended",
    ];
    // The same word in both languages.
    const WORDS: [&str; 4] = ["MQTT", "MiB", "GiB", "kbit/s"];
    for status in many() {
        let texts = |lang| read(&spoken(&shown(&status, lang), Lang::other(lang))).0;
        let english: BTreeSet<String> = texts(Lang::En).into_iter().collect();
        for text in texts(Lang::Vi)
            .into_iter()
            .filter(|text| english.contains(text))
        {
            let is_data = DATA.iter().chain(&WORDS).any(|known| text.contains(known));
            let has_word = text
                .split(|c: char| !c.is_alphabetic())
                .any(|word| 3 < word.len());
            assert!(is_data || !has_word, "one language only: {text}");
        }
    }
}

#[test]
fn the_other_language_is_one_step_away() {
    let vi = shown(&full(), Lang::Vi);
    let en = shown(&full(), Lang::En);
    assert!(vi.contains("<a href=\"/?lang=en\" hreflang=\"en\" lang=\"en\">English</a>"));
    assert!(en.contains("<a href=\"/\" hreflang=\"vi\" lang=\"vi\">Tiếng Việt</a>"));
    assert!(en.contains("href=\"/ky-thuat?lang=en\""));
}

// === Style and policy ===

#[test]
fn the_policy_allows_just_this_style() {
    let digest =
        base64::engine::general_purpose::STANDARD.encode(crate::evidence::sha256(STYLE.as_bytes()));
    for policy in [CSP, CSP_FORMS] {
        assert!(
            policy.contains(&format!("style-src 'sha256-{digest}';")),
            "{digest}"
        );
    }
    assert!(!STYLE.contains("</"));
}

/// Relative luminance of `#rrggbb` (WCAG 2.1).
fn luminance(colour: &str) -> f64 {
    let part = |at: usize| {
        let byte = u8::from_str_radix(&colour[at..at + 2], 16).expect("hexadecimal");
        let value = f64::from(byte) / 255.0;
        match value <= 0.03928 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        }
    };
    0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
}

#[test]
fn colours_have_the_contrast_of_wcag_aa() {
    let colour = |name: &str| {
        let start = STYLE.find(&format!("--{name}:#")).expect("a colour") + name.len() + 3;
        &STYLE[start..start + 7]
    };
    let contrast = |one: &str, two: &str| {
        let (one, two) = (luminance(colour(one)), luminance(colour(two)));
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    };
    let texts = [
        ("ink", "back"),
        ("ink", "paper"),
        ("ink", "badpaper"),
        ("ink", "chartfill"),
        ("soft", "back"),
        ("soft", "paper"),
        ("soft", "badpaper"),
        ("link", "back"),
        ("link", "paper"),
        ("link", "badpaper"),
        ("good", "paper"),
        ("care", "paper"),
        ("bad", "badpaper"),
        ("bad", "paper"),
        ("care", "badpaper"),
        ("good", "badpaper"),
        ("paper", "head"),
    ];
    for (text, ground) in texts {
        let found = contrast(text, ground);
        assert!(4.5 <= found, "{text} on {ground}: {found:.2}");
    }
    // What is no text: borders that say a state, the focus, the chart's line (WCAG 1.4.11).
    for (part, ground) in [
        ("edge", "paper"),
        ("careedge", "paper"),
        ("badedge", "paper"),
        ("badedge", "badpaper"),
        ("careedge", "back"),
        ("chart", "chartfill"),
        ("chart", "paper"),
        ("soft", "paper"),
    ] {
        let found = contrast(part, ground);
        assert!(3.0 <= found, "{part} on {ground}: {found:.2}");
    }
    // No colour stands in the style that is not judged here.
    let judged: BTreeSet<&str> = texts.iter().flat_map(|(a, b)| [*a, *b]).collect();
    let root = STYLE.split('}').next().expect("the root");
    let named = root.split("--").skip(1).filter(|part| part.contains(":#"));
    for name in named.map(|part| part.split(':').next().expect("a name")) {
        let known = judged.contains(name)
            || ["edge", "careedge", "badedge", "chart", "line"].contains(&name);
        assert!(known, "--{name} is not judged");
    }
    let rest = &STYLE[root.len()..STYLE.find("@media print").expect("a print style")];
    assert!(!rest.contains('#'), "a colour without a name");
}
