//! Personal data as a technician may see them: enough to recognise a value that he has on paper,
//! not enough to learn one.

use crate::catalogue::Dataset;

/// Shown of a masked value, when it has at least twice as many characters.
const SHOWN_CHARS: usize = 4;
const MASK: &str = "••••";
/// From here on a dataset holds personal data …
const PERSONAL: u8 = 2;
/// … and from here on such as are never shown.
const SENSITIVE: u8 = 3;
/// Longest value that is shown whole.
const CHARS_MAX: usize = 120;

/// A value of a record, as it may be shown; none when nothing of it may be. A dataset that the
/// catalogue no longer has may hold anything.
pub fn shown(dataset: Option<&Dataset>, value: &str) -> Option<String> {
    by_sensitivity(
        dataset.map_or(SENSITIVE, |dataset| dataset.sensitivity),
        value,
    )
}

fn by_sensitivity(sensitivity: u8, value: &str) -> Option<String> {
    let count = value.chars().count();
    match sensitivity {
        SENSITIVE.. => None,
        PERSONAL if count == 0 => Some(String::new()),
        PERSONAL if count < 2 * SHOWN_CHARS => Some(MASK.to_owned()),
        PERSONAL => {
            let last: String = value.chars().skip(count - SHOWN_CHARS).collect();
            Some(format!("{MASK}{last}"))
        }
        _ if count <= CHARS_MAX => Some(value.to_owned()),
        _ => {
            let first: String = value.chars().take(CHARS_MAX).collect();
            Some(format!("{first}…"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_characters_of_personal_data_and_nothing_of_sensitive_ones() {
        for (sensitivity, value, expected) in [
            (0, "Công khai", Some("Công khai")),
            (1, "Nội bộ", Some("Nội bộ")),
            (2, "001304009991", Some("••••9991")),
            (2, "Nguyễn Văn Mẫu", Some("•••• Mẫu")),
            (2, "1990", Some("••••")),
            (2, "An Bình", Some("••••")),
            (2, "", Some("")),
            (3, "A00.1", None),
            (4, "", None),
        ] {
            assert_eq!(by_sensitivity(sensitivity, value).as_deref(), expected);
        }
        assert_eq!(shown(None, "001304009991"), None);
    }
}
