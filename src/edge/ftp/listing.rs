//! Listings as simple clients read them: the form of `ls -l`, names alone, and a time as MDTM says it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::edge::ftp::shelf::{Facts, Listed};
use crate::model::UnixMs;

/// Files older than this are listed with their year and without the time.
const RECENT_MS: i64 = 180 * 86_400_000;

/// The form of `ls -l`.
pub fn list(listed: &[Listed], now: UnixMs) -> String {
    let line = |listed: &Listed| {
        let (kind, bytes, modified) = match listed.file {
            Some(Facts { bytes, modified }) => ("-rw-r-----", bytes, modified),
            None => ("drwxr-x---", 0, now),
        };
        let is_recent = (now.0 - modified.0).abs() < RECENT_MS;
        let format = if is_recent {
            "%b %e %H:%M"
        } else {
            "%b %e  %Y"
        };
        let time = utc(modified).strftime(format).to_string();
        format!("{kind} 1 ftp ftp {bytes:>12} {time} {}\r\n", listed.name)
    };
    listed.iter().map(line).collect()
}

/// One name a line.
pub fn names(listed: &[Listed]) -> String {
    listed
        .iter()
        .map(|listed| format!("{}\r\n", listed.name))
        .collect()
}

/// What [`facts`] tells, as the list of features says it.
pub const FACTS: &str = "MLST type*;size*;modify*;";

/// One line a name as machines read it (RFC 3659, 7.2).
pub fn facts(listed: &[Listed]) -> String {
    let line = |listed: &Listed| match listed.file {
        Some(Facts { bytes, modified }) => format!(
            "type=file;size={bytes};modify={}; {}\r\n",
            stamp(modified),
            listed.name
        ),
        None => format!("type=dir; {}\r\n", listed.name),
    };
    listed.iter().map(line).collect()
}

/// `20261120081245`, in UTC.
pub fn stamp(at: UnixMs) -> String {
    utc(at).strftime("%Y%m%d%H%M%S").to_string()
}

fn utc(at: UnixMs) -> jiff::Zoned {
    let timestamp = Timestamp::from_millisecond(at.0).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_have_the_form_that_clients_parse() {
        let now = UnixMs(1_795_136_400_000);
        let facts = |modified| {
            Some(Facts {
                bytes: 1_234,
                modified,
            })
        };
        let listed = [
            Listed {
                name: "2026".to_owned(),
                file: None,
            },
            Listed {
                name: "a b.txt".to_owned(),
                file: facts(now),
            },
            Listed {
                name: "old.txt".to_owned(),
                file: facts(UnixMs(0)),
            },
        ];
        let expected = "drwxr-x--- 1 ftp ftp            0 Nov 20 01:00 2026\r\n\
                        -rw-r----- 1 ftp ftp         1234 Nov 20 01:00 a b.txt\r\n\
                        -rw-r----- 1 ftp ftp         1234 Jan  1  1970 old.txt\r\n";
        assert_eq!(list(&listed, now), expected);
        assert_eq!(names(&listed[1..]), "a b.txt\r\nold.txt\r\n");
        assert_eq!(
            super::facts(&listed[..2]),
            "type=dir; 2026\r\ntype=file;size=1234;modify=20261120010000; a b.txt\r\n"
        );
        assert_eq!(stamp(now), "20261120010000");
    }
}
