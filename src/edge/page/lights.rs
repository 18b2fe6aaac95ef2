//! The first two lights of the page, judged from the state alone: does data come in, does it go out.

use crate::edge::page::lang::{Lang, Words};
use crate::edge::status::{LinkState, SourceState, SourceStatus, Status};
use crate::edge::texts;

/// A link may be away for so long before its light turns red: short breaks are the normal case.
const LINK_DOWN_RED_MS: i64 = 15 * 60_000;
/// Waiting longer than this though the link stands is a backlog.
const BACKLOG_S: u64 = 15 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Colour {
    Green,
    Amber,
    Red,
}

impl Colour {
    /// The same in a word: no state is told by colour alone.
    pub fn word(self) -> Words {
        match self {
            Colour::Green => ["TỐT", "GOOD"],
            Colour::Amber => ["CẦN CHÚ Ý", "ATTENTION"],
            Colour::Red => ["CÓ SỰ CỐ", "TROUBLE"],
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
    /// Vietnamese and English.
    pub text: [String; 2],
}

impl Light {
    pub fn new(colour: Colour, vi: impl Into<String>, en: impl Into<String>) -> Light {
        Light {
            colour,
            text: [vi.into(), en.into()],
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
    let resting = names(status, |source| source.state == Some(SourceState::Paused));
    if !resting.is_empty() {
        return Light::new(
            Colour::Amber,
            format!(
                "Nguồn đang tạm dừng: {resting}. Xong việc thì đăng nhập mục Kỹ thuật viên, bấm Chạy tiếp."
            ),
            format!(
                "These sources are paused: {resting}; when the work is done, sign in under Technician and resume them."
            ),
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
    let [waiting, waiting_en] = Lang::ALL.map(|lang| lang.count(status.waiting()));
    let [held, held_en] = match status.waiting() {
        0 => ["không có bản ghi nào đang chờ", "nothing waits"].map(str::to_owned),
        _ => [
            format!("{waiting} bản ghi đang chờ được giữ an toàn trên đĩa"),
            format!("{waiting_en} entries wait safely on the disk"),
        ],
    };
    let link = &status.link;
    if let Some(refused) = &status.refused_by_hub {
        return Light::new(
            Colour::Red,
            format!("Trục từ chối dữ liệu của trạm: {}", refused.text_vi),
            format!(
                "The hub refuses this box's data: {}",
                texts::refusal_en(&refused.code)
            ),
        );
    }
    let down_ms = link.since.map_or(0, |since| status.at.0.0 - since.0.0);
    match link.state {
        LinkState::Stopped => Light::new(
            Colour::Red,
            format!("Chương trình tramd không chạy; {held}."),
            format!("The daemon is not running; {held_en}."),
        ),
        LinkState::Up if BACKLOG_S <= status.oldest_s() => Light::new(
            Colour::Amber,
            format!("Đang gửi bù dữ liệu tồn: còn {waiting} bản ghi."),
            format!("Catching up: {waiting_en} entries wait."),
        ),
        LinkState::Up => Light::new(
            Colour::Green,
            "Dữ liệu đang về trục bình thường.",
            "Data reaches the hub.",
        ),
        LinkState::Down if LINK_DOWN_RED_MS <= down_ms => Light::new(
            Colour::Red,
            format!(
                "Mất liên lạc với trục đã {}; {held}. Xem cách xử lý ở mục Kết nối tới trục.",
                Lang::Vi.duration(down_ms.unsigned_abs() / 1_000)
            ),
            format!(
                "No link to the hub for {}; {held_en}. See Link to the hub for what to do.",
                Lang::En.duration(down_ms.unsigned_abs() / 1_000)
            ),
        ),
        LinkState::Down => Light::new(
            Colour::Amber,
            format!("Đang mất liên lạc với trục, trạm tự nối lại; {held}."),
            format!("No link to the hub now, the box tries again by itself; {held_en}."),
        ),
        LinkState::Connecting => Light::new(
            Colour::Amber,
            format!("Đang kết nối tới trục; {held}."),
            format!("Connecting to the hub; {held_en}."),
        ),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::edge::page::tests::{bare, full};
    use crate::edge::status::{RefusedByHub, Stamp, Trouble};
    use crate::model::UnixMs;

    pub type Change = fn(&mut Status);

    pub fn check(judge: fn(&Status) -> Light, cases: &[(&str, Change, Colour)]) {
        for (part, change, colour) in cases {
            let mut status = full();
            change(&mut status);
            let light = judge(&status);
            assert_eq!(light.colour, *colour, "{part}: {light:?}");
            assert!(light.text[0].contains(part), "{part}: {light:?}");
            assert!(!light.text[1].is_empty());
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
                (
                    "tạm dừng: quan-trac",
                    |s| s.sources[0].state = Some(SourceState::Paused),
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
        assert!(light.text[0].contains("1 giờ 15 phút"), "{light:?}");
    }
}
