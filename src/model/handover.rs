//! Statuses of documents between offices: QCVN 102:2016/BTTTT and Decision 28/2018/QĐ-TTg. A code that
//! is not known is kept; after an outage statuses come out of order, and the highest is shown.

/// What is known of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub code: &'static str,
    pub name_vi: &'static str,
    pub name_en: &'static str,
    /// The higher one says more about where a document is.
    rank: u8,
    /// Who sent the document says it, not who received it.
    pub of_sender: bool,
    /// One of these is said before it; empty: nothing.
    after: &'static [&'static str],
}

const fn status(
    code: &'static str,
    names: [&'static str; 2],
    rank: u8,
    after: &'static [&'static str],
) -> Status {
    Status {
        code,
        name_vi: names[0],
        name_en: names[1],
        rank,
        of_sender: false,
        after,
    }
}

pub const STATUSES: [Status; 9] = [
    status("01", ["Đã đến", "arrived"], 1, &[]),
    status("02", ["Từ chối tiếp nhận", "refused"], 3, &["01"]),
    status("03", ["Đã tiếp nhận", "accepted"], 2, &["01"]),
    status("04", ["Phân công", "assigned"], 4, &["03"]),
    status("05", ["Đang xử lý", "in progress"], 5, &["03", "04"]),
    status("06", ["Hoàn thành", "done"], 8, &["03", "04", "05"]),
    Status {
        of_sender: true,
        ..status("13", ["Lấy lại", "to be taken back"], 6, &[])
    },
    status("15", ["Đồng ý", "taking back agreed"], 9, &["13"]),
    status("16", ["Từ chối lấy lại", "taking back refused"], 7, &["13"]),
];

pub fn known(code: &str) -> Option<&'static Status> {
    STATUSES.iter().find(|status| status.code == code)
}

/// Where the document is, by all that was said of it in whatever order.
pub fn highest<'a>(codes: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    codes
        .into_iter()
        .max_by_key(|code| known(code).map_or(0, |status| status.rank))
}

/// Why a code is remarkable after what was said before, in Vietnamese and English; it is kept all
/// the same.
pub fn warning(code: &str, before: &[&str]) -> Option<[String; 2]> {
    let Some(status) = known(code) else {
        return Some([
            format!("mã trạng thái {code} chưa biết; vẫn được giữ"),
            format!("status {code} is not known; it is kept"),
        ]);
    };
    let is_ended = |end: &&str| ["02", "06", "15"].contains(end);
    if let Some(end) = before.iter().copied().find(is_ended)
        && end != code
    {
        return Some([
            format!("văn bản đã kết thúc với trạng thái {end}"),
            format!("the document has ended with status {end}"),
        ]);
    }
    let is_due = status.after.is_empty() || status.after.iter().any(|due| before.contains(due));
    (!is_due).then(|| {
        let due = status.after.join(", ");
        [
            format!("trạng thái {code} thường đến sau {due}"),
            format!("status {code} is expected after {due}"),
        ]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_is_shown_whatever_came_last() {
        for (said, shown) in [
            (&["06", "01", "03"][..], Some("06")),
            (&["05", "04"], Some("05")),
            (&["01", "77"], Some("01")),
            (&["77"], Some("77")),
            (&["03", "13"], Some("13")),
            (&["13", "16", "05"], Some("16")),
            (&["13", "16", "06"], Some("06")),
            (&["13", "15", "05"], Some("15")),
            (&[], None),
        ] {
            assert_eq!(highest(said.iter().copied()), shown, "{said:?}");
        }
    }

    #[test]
    fn the_order_of_decision_28_is_watched_and_not_enforced() {
        for (code, before, is_expected) in [
            ("01", &[][..], true),
            ("03", &["01"], true),
            ("03", &[], false),
            ("06", &["01", "03"], true),
            ("06", &["01"], false),
            ("13", &["01", "03"], true),
            ("13", &["01", "03", "06"], false),
            ("15", &["13"], true),
            ("16", &["01"], false),
            ("09", &["01"], false),
            ("04", &["01", "03", "04"], true),
        ] {
            assert_eq!(
                warning(code, before).is_none(),
                is_expected,
                "{code} {before:?}"
            );
        }
    }
}
