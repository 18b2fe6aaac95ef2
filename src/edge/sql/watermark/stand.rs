//! Where a source that is read by a watermark stands, and where its next reading begins.

use serde::{Deserialize, Serialize};

use crate::edge::config::sql::{Mode, SqlConfig};
use crate::edge::connectors::Fault;
use crate::edge::sql::driver::Mark;
use crate::edge::sql::value::{mark_at, mark_micros};
use crate::edge::sql::{never_read, unreadable_cursor};

/// Clocks that step back by less are taken for exact.
const CLOCK_SLACK_MICROS: i64 = 2_000_000;

/// Where the source stands; kept with the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stand {
    /// The watermark up to which rows are kept.
    pub after: Option<String>,
    /// Rows of the initial load so far.
    pub rows: u64,
    /// The initial load is done.
    pub loaded: bool,
    /// Kinds of the columns, and digest of the configuration under which they were so.
    pub schema: String,
    pub config: String,
    /// When the watermark last moved, by our clock, milliseconds.
    pub moved_ms: i64,
    /// The database's clock at the last rows, microseconds.
    pub clock_micros: i64,
}

impl Stand {
    /// What a cursor says; the beginning where there is none.
    pub fn read(cursor: Option<&str>) -> Result<Stand, Fault> {
        cursor.map_or(Ok(Stand::default()), |cursor| {
            serde_json::from_str(cursor).map_err(|_| unreadable_cursor())
        })
    }

    pub fn to_cursor(&self) -> String {
        serde_json::to_string(self).expect("a stand is plain JSON")
    }
}

/// A cursor with another watermark.
pub fn rewound(cursor: Option<&str>, mark: &str) -> Result<String, Fault> {
    let cursor = cursor.ok_or_else(never_read)?;
    let mut stand = Stand::read(Some(cursor))?;
    stand.after = Some(mark.to_owned());
    stand.moved_ms = 0;
    Ok(stand.to_cursor())
}

/// Where to begin: after what is kept, or where the configuration says, or before everything.
pub fn begin(stand: &Stand, config: &SqlConfig) -> Mark {
    let start = || config.mode.start().map(str::to_owned);
    match stand.after.clone().or_else(start) {
        Some(mark) => Mark::At(mark),
        None => match config.mode {
            Mode::Time { .. } => Mark::BeginTime,
            _ => Mark::BeginNumber,
        },
    }
}

/// From which time on to read.
pub fn lower(stand: &Stand, config: &SqlConfig, overlap_micros: i64, now_ms: i64) -> Mark {
    let Some(after) = &stand.after else {
        return begin(stand, config);
    };
    let zone = config.zone_minutes;
    let Some(at) = mark_micros(after, zone) else {
        return Mark::At(after.clone());
    };
    let waited_ms = now_ms - stand.moved_ms;
    let is_settled = stand.loaded && overlap_micros / 1_000 < waited_ms;
    let from = match is_settled {
        true => at + 1,
        false => at.saturating_sub(overlap_micros),
    };
    match mark_at(from, after, zone) {
        Some(mark) => Mark::At(mark),
        None => Mark::BeginTime,
    }
}

/// The watermark to go back to, when the database's clock stands before where it stood.
pub fn set_back(stand: &Stand, clock: i64, zone: i32) -> Option<String> {
    let after = stand.after.as_deref()?;
    let is_back = clock < stand.clock_micros - CLOCK_SLACK_MICROS;
    let at = mark_micros(after, zone)?;
    (is_back && clock < at).then(|| mark_at(clock, after, zone))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::config::sql::{Driver, Place};
    use crate::edge::sql::query::Query;

    const HOUR_MICROS: i64 = 3_600_000_000;

    fn config(mode: Mode) -> SqlConfig {
        SqlConfig {
            driver: Driver::Sqlite,
            place: Place::File("x.db".into()),
            query: Query::parse("SELECT :after, :limit").expect("a query"),
            mode,
            columns: Vec::new(),
            attachments: Vec::new(),
            attachment_bytes_max: 1 << 20,
            zone_minutes: 420,
            poll_ms: 1_000,
            rows_max: 100,
            statement_ms: 1_000,
            connect_ms: 1_000,
        }
    }

    fn by_time() -> SqlConfig {
        config(Mode::Time {
            watermark: "t".to_owned(),
            start: None,
            overlap_ms: 3_600_000,
        })
    }

    fn stand(after: &str) -> Stand {
        Stand {
            after: Some(after.to_owned()),
            loaded: true,
            moved_ms: 1_000,
            clock_micros: mark_micros(after, 420).unwrap_or(0),
            ..Stand::default()
        }
    }

    #[test]
    fn the_overlap_is_read_again_until_nothing_late_can_come() {
        let stand = stand("2026-11-20 08:00:00.000000");
        let from = |now_ms| lower(&stand, &by_time(), HOUR_MICROS, now_ms);
        let at = |text: &str| Mark::At(text.to_owned());
        assert_eq!(from(1_500), at("2026-11-20 07:00:00.000000"));
        assert_eq!(from(3_601_000), at("2026-11-20 07:00:00.000000"));
        assert_eq!(from(3_601_001), at("2026-11-20 08:00:00.000001"));
        assert_eq!(
            from(0),
            at("2026-11-20 07:00:00.000000"),
            "our clock was set back"
        );
    }

    #[test]
    fn a_clock_that_was_set_back_takes_the_watermark_with_it() {
        let stand = stand("2026-11-20 08:00:00.000000");
        let clock = stand.clock_micros;
        assert_eq!(set_back(&stand, clock - 1_000_000, 420), None);
        assert_eq!(set_back(&stand, clock + 1, 420), None);
        assert_eq!(
            set_back(&stand, clock - HOUR_MICROS, 420).as_deref(),
            Some("2026-11-20 07:00:00.000000")
        );
    }

    #[test]
    fn reading_begins_before_everything_or_where_it_was_told_to() {
        assert_eq!(begin(&Stand::default(), &by_time()), Mark::BeginTime);
        let growing = |start: Option<&str>| {
            config(Mode::Increasing {
                watermark: "id".to_owned(),
                start: start.map(str::to_owned),
            })
        };
        assert_eq!(begin(&Stand::default(), &growing(None)), Mark::BeginNumber);
        let told = begin(&Stand::default(), &growing(Some("500")));
        assert_eq!(told, Mark::At("500".to_owned()));
        let kept = begin(&stand("700"), &growing(Some("500")));
        assert_eq!(kept, Mark::At("700".to_owned()));
    }

    #[test]
    fn what_is_kept_is_read_back_and_nothing_else() {
        let stand = stand("5");
        let text = serde_json::to_string(&stand).expect("JSON");
        assert_eq!(
            serde_json::from_str::<Stand>(&text).expect("a stand"),
            stand
        );
        assert!(serde_json::from_str::<Stand>("{\"sweep\":1}").is_err());
    }
}
