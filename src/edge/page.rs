//! The box's page at `/`: one look tells whether data comes in, goes out, and whether trouble is
//! ahead. Plain HTML without scripts and without any request to elsewhere.

pub mod lights;
pub mod text;

use std::fmt::Write;

use crate::edge::status::{LaneStatus, LinkState, SourceStatus, Status};
use crate::engine::sending::Level;
use crate::model::{ClockQuality, Lane};
use lights::Light;
use text::Text;

const STYLE: &str = include_str!("page/style.css");

/// The page's `Content-Security-Policy`: nothing but its own style, known by its digest.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-H4/EFx+N3jxO/2xoRATkl3PVOhocPztzhCJoir3xoek='; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page shows so many events; `tramd status` shows them all.
const EVENTS: usize = 12;
/// The page shows so many sources, so that it stays small.
const SOURCES: usize = 40;
/// Longest foreign text that is shown.
const TEXT_CHARS_MAX: usize = 200;

/// The whole page.
pub fn render(status: &Status) -> String {
    let mut out = String::with_capacity(16 * 1024);
    write!(
        out,
        concat!(
            "<!DOCTYPE html>\n<html lang=\"vi\"><head><meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<meta http-equiv=\"refresh\" content=\"10\">",
            "<title>Trạm {}</title><style>{}</style></head>\n<body>\n",
            "<header><h1>Trạm liên thông {}</h1>",
            "<p>Cơ quan {} · {} <small lang=\"en\">Gateway box, Vietnam time</small></p></header>\n",
            "<main>\n",
        ),
        Text(status.box_id.as_str()),
        STYLE,
        Text(status.box_id.as_str()),
        Text(status.agency.as_str()),
        text::time(status.at),
    )
    .expect("writing to memory");
    out.push_str("<div class=\"lights\">\n");
    light(
        &mut out,
        ["Dữ liệu vào", "Data in"],
        &lights::data_in(status),
    );
    light(
        &mut out,
        ["Dữ liệu đi", "Data out"],
        &lights::data_out(status),
    );
    light(
        &mut out,
        ["Sắp có sự cố?", "Trouble ahead?"],
        &lights::ahead(status),
    );
    out.push_str("</div>\n");
    link(&mut out, status);
    lanes(&mut out, &status.lanes);
    sources(&mut out, &status.sources);
    out.push_str("<div class=\"pair\">\n");
    store(&mut out, status);
    clock(&mut out, status);
    out.push_str("</div>\n");
    events(&mut out, status);
    put(
        &mut out,
        format_args!(
            "</main>\n<footer><p>tramd {} · trang tự làm mới sau 10 giây <span lang=\"en\">(refreshes every 10 s)</span></p></footer>\n</body></html>\n",
            Text(&status.version)
        ),
    );
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory");
}

fn light(out: &mut String, [name, name_en]: [&str; 2], light: &Light) {
    let Light {
        colour,
        text_vi,
        text_en,
    } = light;
    put(
        out,
        format_args!(
            "<div class=\"light {}\"><p>{name} <small lang=\"en\">{name_en}</small></p><p><strong>{}</strong> <small lang=\"en\">{}</small></p><p>{}</p><p><small lang=\"en\">{}</small></p></div>\n",
            colour.class(),
            colour.word(),
            colour.word_en(),
            Text(&short(text_vi)),
            Text(&short(text_en)),
        ),
    );
}

fn open(out: &mut String, [name, name_en]: [&str; 2]) {
    put(
        out,
        format_args!("<section><h2>{name} <small lang=\"en\">{name_en}</small></h2>\n"),
    );
}

/// A row of a list of terms; `html` is escaped already.
fn term(out: &mut String, name: &str, html: &str) {
    put(out, format_args!("<dt>{name}</dt><dd>{html}</dd>\n"));
}

fn link(out: &mut String, status: &Status) {
    let link = &status.link;
    open(out, ["Kết nối tới trục", "Link to the hub"]);
    out.push_str("<dl>\n");
    let state = match link.state {
        LinkState::Up => "Đã kết nối <small lang=\"en\">up</small>",
        LinkState::Connecting => "Đang kết nối <small lang=\"en\">connecting</small>",
        LinkState::Down => "Mất liên lạc <small lang=\"en\">down</small>",
        LinkState::Stopped => "Chương trình không chạy <small lang=\"en\">stopped</small>",
    };
    let since = link
        .since
        .map_or(String::new(), |since| format!(", từ {}", text::time(since)));
    term(out, "Trạng thái", &format!("{state}{since}"));
    if let Some(reason) = &link.reason {
        let mqtt = reason
            .mqtt
            .map_or(String::new(), |code| format!(", MQTT 0x{code:02x}"));
        let html = format!(
            "{} <small lang=\"en\">{}{mqtt}</small>",
            Text(&short(&reason.text_vi)),
            Text(&short(&reason.code))
        );
        term(out, "Nguyên nhân và cách xử lý", &html);
    }
    if let Some(refused) = &status.refused_by_hub {
        let html = format!(
            "{} <small lang=\"en\">{}</small>, {}",
            Text(&short(&refused.text_vi)),
            Text(&short(&refused.code)),
            text::time(refused.at)
        );
        term(out, "Trục từ chối", &html);
    }
    if let Some(address) = &link.address {
        term(out, "Địa chỉ", &Text(&short(address)).to_string());
    }
    let receipt = link.last_receipt.map_or("chưa có".to_owned(), text::time);
    term(out, "Biên nhận gần nhất", &receipt);
    out.push_str("</dl></section>\n");
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::P0 => "Điều khiển và cảnh báo",
        Lane::P1 => "Khẩn",
        Lane::P2 => "Thông thường",
        Lane::P3 => "Đo đạc định kỳ",
        Lane::P4 => "Tệp đính kèm, nạp ban đầu",
    }
}

fn lanes(out: &mut String, lanes: &[LaneStatus]) {
    open(out, ["Dữ liệu chờ gửi", "Waiting for the hub"]);
    if lanes.is_empty() {
        out.push_str("<p>Không đọc được kho dữ liệu. <small lang=\"en\">The store cannot be read.</small></p></section>\n");
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Làn</th><th scope=\"col\" class=\"number\">Bản ghi chờ</th><th scope=\"col\" class=\"number\">Dung lượng</th><th scope=\"col\" class=\"number\">Đã dùng</th><th scope=\"col\" class=\"number\">Chờ lâu nhất</th></tr></thead><tbody>\n");
    for lane in lanes {
        let oldest = match lane.waiting {
            0 => "–".to_owned(),
            _ => text::duration(lane.oldest_s),
        };
        let full = match lane.full {
            true => " <strong>ĐẦY</strong> <small lang=\"en\">full</small>",
            false => "",
        };
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{} {}{full}</th><td class=\"number\">{}</td><td class=\"number\">{}</td><td class=\"number\">{} %</td><td class=\"number\">{oldest}</td></tr>\n",
                lane.lane,
                lane_name(lane.lane),
                text::count(lane.waiting),
                text::bytes(lane.waiting_bytes),
                text::percent(lane.waiting_bytes, lane.quota_bytes),
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn sources(out: &mut String, sources: &[SourceStatus]) {
    open(out, ["Nguồn dữ liệu", "Sources"]);
    if sources.is_empty() {
        out.push_str(
            "<p>Chưa có nguồn nào. <small lang=\"en\">No source yet.</small></p></section>\n",
        );
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Tên</th><th scope=\"col\">Loại</th><th scope=\"col\" class=\"number\">Đã nhận</th><th scope=\"col\">Lần cuối</th><th scope=\"col\" class=\"number\">Bị từ chối</th><th scope=\"col\">Lý do gần nhất</th></tr></thead><tbody>\n");
    for source in sources.iter().take(SOURCES) {
        let kind = source.kind.as_deref().unwrap_or("không còn trong cấu hình");
        let last = source.last_accepted.map_or("–".to_owned(), text::time);
        let reason = match (&source.last_reason, source.last_refused) {
            (Some(reason), Some(at)) => format!("{}: {}", text::time(at), Text(&short(reason))),
            (Some(reason), None) => Text(&short(reason)).to_string(),
            (None, at) => at.map_or("–".to_owned(), text::time),
        };
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"number\">{}</td><td>{last}</td><td class=\"number\">{}</td><td>{reason}</td></tr>\n",
                Text(&short(&source.name)),
                Text(&short(kind)),
                text::count(source.accepted),
                text::count(source.refused),
            ),
        );
    }
    out.push_str("</tbody></table>");
    if SOURCES < sources.len() {
        put(
            out,
            format_args!(
                "<p>Và {} nguồn khác, xem bằng lệnh: tramd status</p>",
                sources.len() - SOURCES
            ),
        );
    }
    out.push_str("</section>\n");
}

fn store(out: &mut String, status: &Status) {
    let store = &status.store;
    open(out, ["Kho dữ liệu", "Store"]);
    out.push_str("<dl>\n");
    match &store.trouble {
        None => term(
            out,
            "Trạng thái",
            "Hoạt động tốt <small lang=\"en\">good</small>",
        ),
        Some(trouble) => {
            let html = format!(
                "<strong>{}</strong>. {} <small lang=\"en\">{}. {}</small>",
                Text(&short(&trouble.text_vi)),
                Text(&short(&trouble.hint_vi)),
                Text(&short(&trouble.text_en)),
                Text(&short(&trouble.hint_en))
            );
            term(out, "Trạng thái", &html);
        }
    }
    let used = format!(
        "{} / {} ({} %)",
        text::bytes(store.used_bytes),
        text::bytes(store.quota_bytes),
        text::percent(store.used_bytes, store.quota_bytes)
    );
    term(out, "Đã dùng / hạn mức", &used);
    let free = store
        .disk_free_bytes
        .map_or("không rõ".to_owned(), text::bytes);
    term(out, "Đĩa còn trống", &free);
    out.push_str("</dl></section>\n");
}

fn clock(out: &mut String, status: &Status) {
    open(out, ["Đồng hồ và chứng thư", "Clock and certificate"]);
    out.push_str("<dl>\n");
    let quality = match status.clock.quality {
        ClockQuality::Synchronized => {
            "Khớp với máy chủ giờ <small lang=\"en\">synchronized</small>"
        }
        ClockQuality::Free => {
            "Chạy tự do, chưa thấy máy chủ giờ <small lang=\"en\">no time server seen</small>"
        }
        ClockQuality::Floor => {
            "<strong>Sai</strong>: sớm hơn thời điểm đã biết <small lang=\"en\">wrong, before a time known to be past</small>"
        }
    };
    term(out, "Đồng hồ", quality);
    match &status.certificate {
        None => term(
            out,
            "Chứng thư",
            "Không đọc được <small lang=\"en\">cannot be read</small>",
        ),
        Some(certificate) if certificate.days_left <= 0 => {
            let html = format!(
                "<strong>Đã hết hạn</strong> ngày {} <small lang=\"en\">ended</small>",
                text::time(certificate.not_after)
            );
            term(out, "Chứng thư", &html);
        }
        Some(certificate) => {
            let html = format!(
                "{}, còn {} ngày (đến {})",
                Text(&short(&certificate.common_name)),
                text::count(certificate.days_left.unsigned_abs()),
                text::time(certificate.not_after)
            );
            term(out, "Chứng thư", &html);
        }
    }
    out.push_str("</dl></section>\n");
}

fn events(out: &mut String, status: &Status) {
    open(out, ["Sự kiện gần đây", "Recent events"]);
    if status.events.is_empty() {
        out.push_str("<p>Chưa có sự kiện nào. <small lang=\"en\">None.</small></p></section>\n");
        return;
    }
    out.push_str("<table><thead><tr><th scope=\"col\">Lúc</th><th scope=\"col\">Mức</th><th scope=\"col\">Sự kiện</th></tr></thead><tbody>\n");
    for event in status.events.iter().take(EVENTS) {
        let level = match event.level {
            Level::Info => "Thông tin",
            Level::Warning => "Cảnh báo",
            Level::Alarm => "<strong>Báo động</strong>",
        };
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td>{level}</td><td>{} <small lang=\"en\">{}</small></td></tr>\n",
                text::time(event.at),
                Text(&short(&event.detail)),
                Text(&short(&event.code)),
            ),
        );
    }
    out.push_str("</tbody></table></section>\n");
}

fn short(text: &str) -> std::borrow::Cow<'_, str> {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        None => text.into(),
        Some((end, _)) => format!("{}…", &text[..end]).into(),
    }
}

#[cfg(test)]
pub(in crate::edge) mod tests {
    use base64::Engine as _;

    use super::*;
    use crate::edge::status::{
        CertificateStatus, ClockStatus, EventStatus, LinkReason, LinkStatus, Stamp, StoreStatus,
        Trouble,
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
            }],
            store: StoreStatus {
                path: "/var/lib/lienthong/tramd.db".to_owned(),
                trouble: None,
                used_bytes: 300 << 20,
                free_bytes: 0,
                quota_bytes: 2 << 30,
                disk_free_bytes: Some(9 << 30),
                epoch: Some("00000000000000a1".to_owned()),
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
            events: Vec::new(),
            refused_by_hub: None,
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
    fn the_policy_allows_just_this_style() {
        let digest = base64::engine::general_purpose::STANDARD
            .encode(crate::evidence::sha256(STYLE.as_bytes()));
        assert!(
            CSP.contains(&format!("style-src 'sha256-{digest}';")),
            "{digest}"
        );
        assert!(!STYLE.contains("</"));
    }
}
