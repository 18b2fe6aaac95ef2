//! The three lights of the page, judged from the state alone: does data come in, does it go out,
//! and is trouble ahead.

use crate::edge::page::text;
use crate::edge::status::{LinkState, SourceStatus, Status};
use crate::engine::sending::Level;
use crate::model::ClockQuality;

/// A link may be away for so long before its light turns red: short breaks are the normal case.
const LINK_DOWN_RED_MS: i64 = 15 * 60_000;
/// Waiting longer than this though the link stands is a backlog.
const BACKLOG_S: u64 = 15 * 60;
const CERTIFICATE_AMBER_DAYS: i64 = 30;
const CERTIFICATE_RED_DAYS: i64 = 7;
/// Life that the card has left by its maker's figure.
const CARD_AMBER_DAYS: u64 = 365;
const CARD_RED_DAYS: u64 = 60;
/// Part of a lane's share that waits, percent.
const LANE_AMBER_PERCENT: u64 = 70;
const LANE_RED_PERCENT: u64 = 90;
/// Part of the store's quota in use, percent. The kept tail fills up to four fifths by design.
const STORE_AMBER_PERCENT: u64 = 85;
const STORE_RED_PERCENT: u64 = 95;
const DISK_AMBER_BYTES: u64 = 1024 * 1024 * 1024;
const DISK_RED_BYTES: u64 = 256 * 1024 * 1024;
/// Alarms of the last day are pointed at.
const ALARM_MS: i64 = 24 * 3_600_000;
/// A document that nobody has taken over for so long is pointed at.
const UNREAD_AMBER_S: u64 = 2 * 86_400;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    Green,
    Amber,
    Red,
}

impl Colour {
    /// The same in a word: no state is told by colour alone.
    pub fn word(self) -> &'static str {
        match self {
            Colour::Green => "TỐT",
            Colour::Amber => "CẦN CHÚ Ý",
            Colour::Red => "CÓ SỰ CỐ",
        }
    }

    pub fn word_en(self) -> &'static str {
        match self {
            Colour::Green => "good",
            Colour::Amber => "attention",
            Colour::Red => "trouble",
        }
    }

    pub fn class(self) -> &'static str {
        match self {
            Colour::Green => "green",
            Colour::Amber => "amber",
            Colour::Red => "red",
        }
    }
}

/// A light with its reason; what to do stands in the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Light {
    pub colour: Colour,
    pub text_vi: String,
    pub text_en: String,
}

impl Light {
    fn new(colour: Colour, vi: impl Into<String>, en: impl Into<String>) -> Light {
        Light {
            colour,
            text_vi: vi.into(),
            text_en: en.into(),
        }
    }
}

/// Whether the office's software can hand in its data.
pub fn data_in(status: &Status) -> Light {
    if status.link.state == LinkState::Stopped {
        return Light::new(
            Colour::Red,
            "Chương trình tramd không chạy nên không nhận dữ liệu. Khởi động: systemctl start tramd.",
            "The daemon is not running and takes nothing in; start it with: systemctl start tramd.",
        );
    }
    if let Some(trouble) = &status.store.trouble {
        let (vi, en) = (&trouble.text_vi, &trouble.text_en);
        let (hint_vi, hint_en) = (&trouble.hint_vi, &trouble.hint_en);
        return Light::new(
            Colour::Red,
            format!("Kho dữ liệu có sự cố: {vi}. {hint_vi}"),
            format!("The store is in trouble: {en}. {hint_en}"),
        );
    }
    let full: Vec<String> = status
        .lanes
        .iter()
        .filter(|lane| lane.full)
        .map(|lane| lane.lane.to_string())
        .collect();
    if !full.is_empty() {
        let lanes = full.join(", ");
        return Light::new(
            Colour::Red,
            format!(
                "Làn {lanes} đã đầy, bản ghi mới bị từ chối cho đến khi gửi bớt được về trục. Kiểm tra đường truyền."
            ),
            format!(
                "Lane {lanes} is full and refuses new records until some are delivered; check the link."
            ),
        );
    }
    let refusing: Vec<&str> = status
        .sources
        .iter()
        .filter(|source| {
            source.last_refused.is_some() && source.last_accepted < source.last_refused
        })
        .map(|source| source.name.as_str())
        .collect();
    let failed = names(status, |source| source.fault.is_some());
    if !failed.is_empty() {
        return Light::new(
            Colour::Red,
            format!("Nguồn không hoạt động: {failed}. Xem lý do và cách sửa ở bảng Nguồn dữ liệu."),
            format!(
                "These sources do not work: {failed}; see the reason and what to do under Sources."
            ),
        );
    }
    let warned = names(status, |source| {
        source.warning.is_some() || 0 < source.parked
    });
    if !warned.is_empty() {
        return Light::new(
            Colour::Amber,
            format!("Nguồn cần chú ý: {warned}. Xem ở bảng Nguồn dữ liệu."),
            format!("These sources want attention: {warned}; see under Sources."),
        );
    }
    if !refusing.is_empty() {
        let names = refusing.join(", ");
        return Light::new(
            Colour::Amber,
            format!(
                "Dữ liệu gần nhất bị từ chối ở nguồn: {names}. Xem lý do ở bảng Nguồn dữ liệu."
            ),
            format!("The latest data was refused from: {names}; see the reason under Sources."),
        );
    }
    if status.sources.iter().all(|source| source.accepted == 0) {
        return Light::new(
            Colour::Amber,
            "Chưa nguồn nào đưa dữ liệu vào. Kiểm tra cấu hình của phần mềm nguồn.",
            "No source has handed in anything yet; check the settings of the source software.",
        );
    }
    Light::new(
        Colour::Green,
        "Trạm đang nhận dữ liệu.",
        "The box takes data in.",
    )
}

/// The names of some sources, for a sentence.
fn names(status: &Status, which: impl Fn(&SourceStatus) -> bool) -> String {
    let names = status.sources.iter().filter(|source| which(source));
    let names: Vec<&str> = names.map(|source| source.name.as_str()).collect();
    names.join(", ")
}

/// Whether the data reaches the hub.
pub fn data_out(status: &Status) -> Light {
    let waiting = text::count(status.waiting());
    let link = &status.link;
    if let Some(refused) = &status.refused_by_hub {
        return Light::new(
            Colour::Red,
            format!("Trục từ chối dữ liệu của trạm: {}", refused.text_vi),
            format!("The hub refuses this box's data ({}).", refused.code),
        );
    }
    let down_ms = link.since.map_or(0, |since| status.at.0.0 - since.0.0);
    match link.state {
        LinkState::Stopped => Light::new(
            Colour::Red,
            format!(
                "Chương trình tramd không chạy; {waiting} bản ghi đang chờ được giữ an toàn trên đĩa."
            ),
            format!("The daemon is not running; {waiting} entries wait safely on the disk."),
        ),
        LinkState::Up if BACKLOG_S <= status.oldest_s() => Light::new(
            Colour::Amber,
            format!("Đang gửi bù dữ liệu tồn: còn {waiting} bản ghi."),
            format!("Catching up: {waiting} entries wait."),
        ),
        LinkState::Up => Light::new(
            Colour::Green,
            "Dữ liệu đang về trục bình thường.",
            "Data reaches the hub.",
        ),
        LinkState::Down if LINK_DOWN_RED_MS <= down_ms => Light::new(
            Colour::Red,
            format!(
                "Mất liên lạc với trục đã {}; {waiting} bản ghi đang chờ được giữ an toàn. Xem cách xử lý ở mục Kết nối.",
                text::duration(down_ms.unsigned_abs() / 1_000)
            ),
            format!(
                "No link to the hub for long; {waiting} entries wait safely. See Link for what to do."
            ),
        ),
        LinkState::Down => Light::new(
            Colour::Amber,
            format!(
                "Đang mất liên lạc với trục; {waiting} bản ghi đang chờ được giữ an toàn và sẽ tự gửi lại."
            ),
            format!(
                "No link to the hub now; {waiting} entries wait safely and go out by themselves."
            ),
        ),
        LinkState::Connecting => Light::new(
            Colour::Amber,
            format!("Đang kết nối tới trục; {waiting} bản ghi đang chờ."),
            format!("Connecting to the hub; {waiting} entries wait."),
        ),
    }
}

/// Whether something will break unless somebody acts; the worst thing is told.
pub fn ahead(status: &Status) -> Light {
    let mut found = vec![Light::new(
        Colour::Green,
        "Không thấy dấu hiệu sự cố sắp tới.",
        "No sign of trouble ahead.",
    )];
    found.extend(certificate(status));
    found.extend(fill(status));
    found.extend(clock_and_alarms(status));
    found.extend(documents(status));
    // The first of the worst: the order above is the order of what cannot wait.
    found.reverse();
    found
        .into_iter()
        .max_by_key(|light| light.colour)
        .expect("at least the green one")
}

fn certificate(status: &Status) -> Option<Light> {
    let Some(certificate) = &status.certificate else {
        return Some(Light::new(
            Colour::Amber,
            "Không đọc được chứng thư của trạm. Kiểm tra tệp chứng thư trong cấu hình.",
            "The box's certificate cannot be read; check its file.",
        ));
    };
    let days = certificate.days_left;
    if days <= 0 {
        return Some(Light::new(
            Colour::Red,
            "Chứng thư của trạm đã hết hạn. Đề nghị đơn vị vận hành trục cấp chứng thư mới.",
            "The box's certificate has ended; ask the hub's operator for a new one.",
        ));
    }
    let colour = if days <= CERTIFICATE_RED_DAYS {
        Colour::Red
    } else if days <= CERTIFICATE_AMBER_DAYS {
        Colour::Amber
    } else {
        return None;
    };
    Some(Light::new(
        colour,
        format!(
            "Chứng thư của trạm còn {days} ngày. Đề nghị đơn vị vận hành trục cấp chứng thư mới."
        ),
        format!("The box's certificate ends in {days} days; ask the hub's operator for a new one."),
    ))
}

/// Lanes, store and disk on their way to full.
fn fill(status: &Status) -> Vec<Light> {
    let mut found = Vec::new();
    for lane in &status.lanes {
        let percent = text::percent(lane.waiting_bytes, lane.quota_bytes);
        if let Some(colour) = rising(percent, LANE_AMBER_PERCENT, LANE_RED_PERCENT) {
            let lane = lane.lane;
            found.push(Light::new(
                colour,
                format!("Làn {lane} đã dùng {percent} % phần chờ gửi; khi đầy, trạm từ chối bản ghi mới. Kiểm tra đường truyền."),
                format!("Lane {lane} is {percent} % full; when full it refuses new records. Check the link."),
            ));
        }
    }
    let store = &status.store;
    let percent = text::percent(store.used_bytes, store.quota_bytes);
    if let Some(colour) = rising(percent, STORE_AMBER_PERCENT, STORE_RED_PERCENT) {
        found.push(Light::new(
            colour,
            format!("Kho dữ liệu đã dùng {percent} % hạn mức. Kiểm tra đường truyền hoặc tăng store.quota."),
            format!("The store has used {percent} % of its quota; check the link or raise store.quota."),
        ));
    }
    let colour = match store.disk_free_bytes {
        Some(free) if free < DISK_RED_BYTES => Some(Colour::Red),
        Some(free) if free < DISK_AMBER_BYTES => Some(Colour::Amber),
        _ => None,
    };
    if let (Some(colour), Some(free)) = (colour, store.disk_free_bytes) {
        let free = text::bytes(free);
        found.push(Light::new(
            colour,
            format!("Đĩa chỉ còn trống {free}. Hãy dọn bớt tệp không cần thiết trên máy."),
            format!("Only {free} are free on the disk; remove files that are not needed."),
        ));
    }
    found.extend(card(status));
    found
}

/// A card that will have borne what its maker promises.
fn card(status: &Status) -> Option<Light> {
    let days = status.store.card.days_left?;
    let colour = match days {
        0..CARD_RED_DAYS => Colour::Red,
        CARD_RED_DAYS..CARD_AMBER_DAYS => Colour::Amber,
        _ => return None,
    };
    Some(Light::new(
        colour,
        format!(
            "Thẻ nhớ sẽ hết độ bền ghi sau khoảng {days} ngày. Sao lưu và chuẩn bị thẻ mới; nếu thẻ bền hơn, đặt store.card_rated theo nhà sản xuất."
        ),
        format!(
            "The card will have borne its rated writes in about {days} days; back up and replace it, or set store.card_rated to the maker's figure."
        ),
    ))
}

fn rising(value: u64, amber: u64, red: u64) -> Option<Colour> {
    match value {
        value if red <= value => Some(Colour::Red),
        value if amber <= value => Some(Colour::Amber),
        _ => None,
    }
}

fn clock_and_alarms(status: &Status) -> Vec<Light> {
    let mut found = Vec::new();
    let recent = |at: i64| status.at.0.0.saturating_sub(at) < ALARM_MS;
    let alarms = status
        .events
        .iter()
        .filter(|event| event.level == Level::Alarm && recent(event.at.0.0))
        .count();
    if 0 < alarms {
        found.push(Light::new(
            Colour::Amber,
            format!("Có {alarms} báo động trong 24 giờ qua. Xem mục Sự kiện gần đây."),
            format!("{alarms} alarms in the last 24 hours; see Recent events."),
        ));
    }
    if status.clock.quality == ClockQuality::Floor {
        found.push(Light::new(
            Colour::Amber,
            "Đồng hồ của máy chạy sai (sớm hơn thời điểm đã biết). Kiểm tra pin và máy chủ giờ (NTP).",
            "The machine's clock is wrong (before a time known to be past); check battery and NTP.",
        ));
    }
    found
}

/// Documents that do not reach the people they are for.
fn documents(status: &Status) -> Option<Light> {
    let inbox = &status.down.as_ref()?.inbox;
    let failing: Vec<&str> = inbox
        .ways
        .iter()
        .filter(|way| 0 < way.failed)
        .map(|way| way.name.as_str())
        .collect();
    if !failing.is_empty() {
        let names = failing.join(", ");
        return Some(Light::new(
            Colour::Amber,
            format!(
                "Văn bản đến không chuyển được vào phần mềm qua: {names}. Xem cách xử lý ở mục Văn bản đến."
            ),
            format!(
                "Documents do not reach the office's software by: {names}; see Documents for this office."
            ),
        ));
    }
    (UNREAD_AMBER_S <= inbox.oldest_s).then(|| {
        let (unread, age) = (text::count(inbox.unread), text::duration(inbox.oldest_s));
        Light::new(
            Colour::Amber,
            format!(
                "Có {unread} văn bản đến chưa tiếp nhận, cũ nhất từ {age} trước. Mở phần mềm của cơ quan để tiếp nhận."
            ),
            format!("{unread} documents for this office were not taken over; see what its software does."),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::page::tests::{alarm, bare, full};
    use crate::edge::status::{RefusedByHub, Stamp, Trouble};
    use crate::model::UnixMs;

    type Change = fn(&mut Status);

    fn check(judge: fn(&Status) -> Light, cases: &[(&str, Change, Colour)]) {
        for (part, change, colour) in cases {
            let mut status = full();
            change(&mut status);
            let light = judge(&status);
            assert_eq!(light.colour, *colour, "{part}: {light:?}");
            assert!(light.text_vi.contains(part), "{part}: {light:?}");
            assert!(!light.text_en.is_empty());
        }
    }

    #[test]
    fn data_comes_in() {
        let trouble = |status: &mut Status| {
            status.store.trouble = Some(Trouble {
                code: "disk-full".to_owned(),
                text_vi: "đĩa đầy".to_owned(),
                text_en: "the disk is full".to_owned(),
                hint_vi: "Hãy dọn đĩa.".to_owned(),
                hint_en: "Make room.".to_owned(),
                since: None,
            });
        };
        check(
            data_in,
            &[
                ("đang nhận", |_| (), Colour::Green),
                (
                    "không chạy",
                    |s| s.link.state = LinkState::Stopped,
                    Colour::Red,
                ),
                ("đĩa đầy. Hãy dọn", trouble, Colour::Red),
                ("P2", |s| s.lanes[2].full = true, Colour::Red),
                (
                    "quan-trac",
                    |s| s.sources[0].last_refused = Some(s.at),
                    Colour::Amber,
                ),
                ("Chưa nguồn", |s| s.sources.clear(), Colour::Amber),
                // The link is not the sources' business.
                (
                    "đang nhận",
                    |s| s.link.state = LinkState::Down,
                    Colour::Green,
                ),
            ],
        );
        assert_eq!(data_in(&bare()).colour, Colour::Red);
    }

    #[test]
    fn data_goes_out() {
        let down = |status: &mut Status, minutes: i64| {
            status.link.state = LinkState::Down;
            status.link.since = Some(Stamp(UnixMs(status.at.0.0 - minutes * 60_000)));
        };
        check(
            data_out,
            &[
                ("bình thường", |_| (), Colour::Green),
                ("gửi bù", |s| s.lanes[3].oldest_s = BACKLOG_S, Colour::Amber),
                (
                    "Đang kết nối",
                    |s| s.link.state = LinkState::Connecting,
                    Colour::Amber,
                ),
                ("12.3", |s| s.link.state = LinkState::Stopped, Colour::Red),
                (
                    "không được phép",
                    |s| {
                        s.refused_by_hub = Some(RefusedByHub {
                            code: "suspended".to_owned(),
                            at: s.at,
                            text_vi: "trạm không được phép gửi".to_owned(),
                        });
                    },
                    Colour::Red,
                ),
            ],
        );
        let mut status = full();
        down(&mut status, 14);
        assert_eq!(data_out(&status).colour, Colour::Amber);
        down(&mut status, 75);
        let light = data_out(&status);
        assert_eq!(light.colour, Colour::Red);
        assert!(light.text_vi.contains("1 giờ 15 phút"), "{light:?}");
    }

    #[test]
    fn trouble_ahead() {
        fn days(status: &mut Status, days: i64) {
            status.certificate.as_mut().expect("there").days_left = days;
        }
        check(
            ahead,
            &[
                ("Không thấy", |_| (), Colour::Green),
                ("hết hạn", |s| days(s, 0), Colour::Red),
                ("7 ngày", |s| days(s, 7), Colour::Red),
                ("30 ngày", |s| days(s, 30), Colour::Amber),
                ("Không thấy", |s| days(s, 31), Colour::Green),
                (
                    "Không đọc được chứng thư",
                    |s| s.certificate = None,
                    Colour::Amber,
                ),
                (
                    "Làn P4",
                    |s| s.lanes[4].waiting_bytes = s.lanes[4].quota_bytes * 7 / 10,
                    Colour::Amber,
                ),
                (
                    "Làn P4",
                    |s| s.lanes[4].waiting_bytes = s.lanes[4].quota_bytes,
                    Colour::Red,
                ),
                (
                    "hạn mức",
                    |s| s.store.used_bytes = s.store.quota_bytes * 9 / 10,
                    Colour::Amber,
                ),
                (
                    "Đĩa",
                    |s| s.store.disk_free_bytes = Some(DISK_RED_BYTES - 1),
                    Colour::Red,
                ),
                (
                    "Đĩa",
                    |s| s.store.disk_free_bytes = Some(DISK_RED_BYTES),
                    Colour::Amber,
                ),
                (
                    "Đồng hồ",
                    |s| s.clock.quality = ClockQuality::Floor,
                    Colour::Amber,
                ),
                (
                    "1 báo động",
                    |s| s.events.push(alarm(s.at.0.0 - ALARM_MS + 1)),
                    Colour::Amber,
                ),
                (
                    "Không thấy",
                    |s| s.events.push(alarm(s.at.0.0 - ALARM_MS)),
                    Colour::Green,
                ),
                (
                    "qua: qlvb-web",
                    |s| s.down.as_mut().expect("there").inbox.ways[1].failed = 1,
                    Colour::Amber,
                ),
                (
                    "2 văn bản đến chưa tiếp nhận, cũ nhất từ 2 ngày",
                    |s| s.down.as_mut().expect("there").inbox.oldest_s = UNREAD_AMBER_S,
                    Colour::Amber,
                ),
                (
                    "Không thấy",
                    |s| s.down.as_mut().expect("there").inbox.oldest_s = UNREAD_AMBER_S - 1,
                    Colour::Green,
                ),
                // The worst is told, whatever else there is.
                (
                    "Đĩa",
                    |s| {
                        days(s, 20);
                        s.store.disk_free_bytes = Some(0);
                    },
                    Colour::Red,
                ),
            ],
        );
    }
}
