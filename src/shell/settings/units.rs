//! Values with units, and what is said of a value that is none.

use std::ops::RangeInclusive;

const SIZES: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1_000),
    ("ms", 1),
];
/// Typing errors up to which a key is taken for another.
const TYPOS_MAX: usize = 2;

/// What is wrong with a value, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub vi: String,
    pub en: String,
    pub hint_vi: String,
    pub hint_en: String,
}

impl Wrong {
    pub fn new(vi: &str, en: &str, hint_vi: &str, hint_en: &str) -> Wrong {
        Wrong {
            vi: vi.to_owned(),
            en: en.to_owned(),
            hint_vi: hint_vi.to_owned(),
            hint_en: hint_en.to_owned(),
        }
    }

    pub fn missing() -> Wrong {
        Wrong::new(
            "bắt buộc nhưng chưa có",
            "is required and missing",
            "Thêm khóa này vào tệp cấu hình.",
            "Add this key to the configuration.",
        )
    }

    pub fn empty() -> Wrong {
        Wrong::new(
            "không được để trống",
            "must not be empty",
            "Điền giá trị.",
            "Fill it in.",
        )
    }
}

/// Bytes.
pub fn size(text: &str) -> Result<u64, Wrong> {
    amount(text, &SIZES).ok_or_else(|| Wrong {
        vi: format!("“{text}” không phải là dung lượng"),
        en: format!("{text:?} is not a size"),
        hint_vi: "Viết một số nguyên với đơn vị B, KiB, MiB hoặc GiB, ví dụ \"64 MiB\".".to_owned(),
        hint_en: "Write an integer with the unit B, KiB, MiB or GiB, such as \"64 MiB\"."
            .to_owned(),
    })
}

/// Milliseconds.
pub fn duration(text: &str) -> Result<u64, Wrong> {
    amount(text, &DURATIONS).ok_or_else(|| Wrong {
        vi: format!("“{text}” không phải là khoảng thời gian"),
        en: format!("{text:?} is not a duration"),
        hint_vi: "Viết một số nguyên với đơn vị ms, s, min, h hoặc d, ví dụ \"14 d\".".to_owned(),
        hint_en: "Write an integer with the unit ms, s, min, h or d, such as \"14 d\".".to_owned(),
    })
}

/// The value, if it lies within its bounds.
pub fn within(
    value: u64,
    bounds: &RangeInclusive<u64>,
    text: impl Fn(&u64) -> String,
) -> Result<u64, Wrong> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    let (low, high) = (text(bounds.start()), text(bounds.end()));
    Err(Wrong {
        vi: format!("ngoài giới hạn {low} đến {high}"),
        en: format!("not between {low} and {high}"),
        hint_vi: "Chọn giá trị trong giới hạn.".to_owned(),
        hint_en: "Choose a value between these.".to_owned(),
    })
}

/// The largest unit in which the size is a whole number.
pub fn size_text(bytes: &u64) -> String {
    in_unit(*bytes, &SIZES)
}

pub fn duration_text(ms: &u64) -> String {
    in_unit(*ms, &DURATIONS)
}

fn in_unit(amount: u64, units: &[(&str, u64)]) -> String {
    let fits = |unit: &&(&str, u64)| amount >= unit.1 && amount.is_multiple_of(unit.1);
    let (name, scale) = units
        .iter()
        .find(fits)
        .copied()
        .unwrap_or(units[units.len() - 1]);
    format!("{} {name}", amount / scale)
}

fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit.trim())?.1;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// A key that no setting has.
pub fn unknown(key: &str, known: &[&'static str]) -> Wrong {
    let near = known
        .iter()
        .map(|known| (distance(key, known), known))
        .filter(|(distance, known)| *distance <= TYPOS_MAX && *distance < known.len())
        .min();
    let (hint_vi, hint_en) = match near {
        Some((_, near)) => (
            format!("Có phải ý là “{near}”?"),
            format!("Did you mean {near:?}?"),
        ),
        None => {
            let known = known.join(", ");
            (
                format!("Các khóa dùng được ở đây: {known}."),
                format!("Keys known here: {known}."),
            )
        }
    };
    Wrong {
        vi: "không phải là một thiết lập".to_owned(),
        en: "is not a setting".to_owned(),
        hint_vi,
        hint_en,
    }
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size(" 0 B "), Ok(0));
        assert_eq!(duration("14 d"), Ok(14 * 86_400_000));
        assert_eq!(duration("500 ms"), Ok(500));
        assert_eq!(duration("5 min"), Ok(300_000));
        for bad in [
            "",
            "2",
            "2 GB",
            "GiB",
            "-1 B",
            "1.5 GiB",
            "99999999999999999999 B",
            "9999999999999 GiB",
        ] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["5 m", "1 year", "s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_print_in_their_largest_unit() {
        assert_eq!(size_text(&(2 << 30)), "2 GiB");
        assert_eq!(size_text(&1_500), "1500 B");
        assert_eq!(size_text(&0), "0 B");
        assert_eq!(duration_text(&172_800_000), "2 d");
        assert_eq!(duration_text(&1_500), "1500 ms");
    }

    #[test]
    fn typing_errors_are_recognised() {
        let known = ["quota", "path", "tail_keep"];
        for typo in ["qouta", "quot", "quotas", "Quota"] {
            assert_eq!(
                unknown(typo, &known).hint_en,
                "Did you mean \"quota\"?",
                "{typo}"
            );
        }
        assert!(
            unknown("listen", &known)
                .hint_en
                .starts_with("Keys known here")
        );
    }
}
