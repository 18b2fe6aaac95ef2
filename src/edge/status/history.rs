//! How much waited over the last day and fortnight, and when all of it will have gone.

use std::path::Path;

use crate::edge::status::{LinkState, Stamp, Status};
use crate::model::UnixMs;
use crate::store::StoreError;
use crate::store::edge_status::EdgeView;
use crate::store::history::Sample;

pub const DAY_MS: i64 = 86_400_000;
pub const FORTNIGHT_MS: i64 = 14 * DAY_MS;
/// Of each such span of the fortnight the worst moment is told.
const SPAN_MS: i64 = 2 * 3_600_000;
/// A rate is measured over at least so long, over this where it can be, and never over more.
const MEASURED_MS: (i64, i64, i64) = (60_000, 300_000, 3_600_000);
/// What has waited for less than this goes out as it comes.
const FLOWING_S: u64 = 300;
/// No forecast goes farther.
const FORECAST_MS: u64 = 30 * 86_400_000;

/// What waited, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pub day: Vec<Sample>,
    pub fortnight: Vec<Sample>,
}

/// When all that waits will have gone, by the rate of the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forecast {
    /// Nothing waits for long.
    Flowing,
    /// Nobody can know while there is no link.
    NoLink,
    /// The link has not stood for long enough.
    Measuring,
    /// As much comes in as goes out, or more.
    Growing,
    At(Stamp),
}

impl History {
    pub fn read(store: &Path, now: UnixMs) -> Result<History, StoreError> {
        let view = EdgeView::open(store)?;
        Ok(History {
            day: view.samples(UnixMs(now.0 - DAY_MS), 1)?,
            fortnight: view.samples(UnixMs(now.0 - FORTNIGHT_MS), SPAN_MS)?,
        })
    }

    pub fn forecast(&self, status: &Status) -> Forecast {
        let flows = status.oldest_s() < FLOWING_S;
        match (status.link.state, status.link.since) {
            _ if status.waiting() == 0 => Forecast::Flowing,
            (LinkState::Up, _) if flows => Forecast::Flowing,
            (LinkState::Up, Some(since)) => self.measured(status, since),
            _ => Forecast::NoLink,
        }
    }

    fn measured(&self, status: &Status, since: Stamp) -> Forecast {
        let (least, wanted, most) = MEASURED_MS;
        let now = status.at.0.0;
        let age = |sample: &&Sample| now - sample.at.0;
        // The moment of the link's start was written down a little later than the link itself.
        let usable =
            |sample: &&Sample| since.0.0 <= sample.at.0 && (least..=most).contains(&age(sample));
        let long = self
            .day
            .iter()
            .rfind(|sample| usable(sample) && wanted <= age(sample));
        let Some(base) = long.or_else(|| self.day.iter().find(usable)) else {
            return Forecast::Measuring;
        };
        let left: u64 = status.lanes.iter().map(|lane| lane.waiting_bytes).sum();
        let gone = base.bytes.saturating_sub(left);
        let took_ms = u128::from((now - base.at.0).unsigned_abs());
        let needs_ms = match u128::from(gone) {
            0 => return Forecast::Growing,
            gone => u128::from(left) * took_ms / gone,
        };
        match u64::try_from(needs_ms) {
            Ok(needs_ms) if needs_ms <= FORECAST_MS => {
                Forecast::At(Stamp(UnixMs(now.saturating_add_unsigned(needs_ms))))
            }
            _ => Forecast::Growing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::page::tests::full;

    const MINUTE_MS: i64 = 60_000;

    fn sample(status: &Status, minutes_ago: i64, bytes: u64) -> Sample {
        Sample {
            at: UnixMs(status.at.0.0 - minutes_ago * MINUTE_MS),
            waiting: [0, 0, 1, 0, 0],
            bytes,
        }
    }

    /// A backlog of 1000 bytes, on a link that stands since an hour.
    fn backlog() -> Status {
        let mut status = full();
        status.lanes[2].waiting_bytes = 1_000;
        status.lanes[2].oldest_s = 7_200;
        status
    }

    fn forecast(status: &Status, samples: &[(i64, u64)]) -> Forecast {
        let day = samples
            .iter()
            .map(|(ago, bytes)| sample(status, *ago, *bytes));
        let history = History {
            day: day.collect(),
            fortnight: Vec::new(),
        };
        history.forecast(status)
    }

    #[test]
    fn the_rate_of_the_last_minutes_says_when() {
        let status = backlog();
        let at = |minutes: i64| Forecast::At(Stamp(UnixMs(status.at.0.0 + minutes * MINUTE_MS)));
        // 500 bytes in ten minutes: 1000 need twenty.
        assert_eq!(forecast(&status, &[(10, 1_500)]), at(20));
        // The newest that is old enough counts, not an old rate.
        assert_eq!(
            forecast(&status, &[(50, 90_000), (10, 1_500), (2, 1_001)]),
            at(20)
        );
        // Where the link is young a short measurement does.
        assert_eq!(forecast(&status, &[(2, 1_200)]), at(10));
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let mut status = backlog();
        assert_eq!(forecast(&status, &[]), Forecast::Measuring);
        assert_eq!(forecast(&status, &[(0, 5_000)]), Forecast::Measuring);
        assert_eq!(forecast(&status, &[(10, 1_000)]), Forecast::Growing);
        assert_eq!(forecast(&status, &[(10, 900)]), Forecast::Growing);
        // One byte a minute: almost seventeen hours are said, a hundred days are not.
        assert_ne!(forecast(&status, &[(10, 1_010)]), Forecast::Growing);
        status.lanes[2].waiting_bytes = 1 << 40;
        assert_eq!(forecast(&status, &[(10, (1 << 40) + 9)]), Forecast::Growing);

        // A sample from before the link stood says nothing of its rate.
        let mut status = backlog();
        status.link.since = Some(Stamp(UnixMs(status.at.0.0 - 5 * MINUTE_MS)));
        assert_eq!(forecast(&status, &[(10, 1_500)]), Forecast::Measuring);
        status.link.state = LinkState::Down;
        assert_eq!(forecast(&status, &[(10, 1_500)]), Forecast::NoLink);

        let mut status = backlog();
        status.lanes[2].oldest_s = 60;
        assert_eq!(forecast(&status, &[(10, 1_500)]), Forecast::Flowing);
        status.lanes[2].waiting = 0;
        status.link.state = LinkState::Down;
        assert_eq!(forecast(&status, &[]), Forecast::Flowing);
    }
}
