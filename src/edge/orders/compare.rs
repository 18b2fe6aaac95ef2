//! The box's word about its logs, at which the hub compares them and the copies: every night at a
//! minute of the box's own, and on command. A box that was off says it when it is on again.

use crate::edge::config::Config;
use crate::engine::compare;
use crate::evidence::sha256;
use crate::model::{BoxId, ClockQuality, Now, UnixMs};
use crate::store::StoreError;
use crate::store::down::DownStore;
use crate::store::edge_status::EdgeView;

/// The boxes are spread over the hours from 1 to 4 at night, Vietnam time.
const FIRST_MS: i64 = 3_600_000;
const SPREAD_MS: u64 = 3 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
const OFFSET_MS: i64 = 7 * 3_600_000;
/// Who has wanted it, for the audit.
const BY_ITSELF: &str = "tramd";

/// Says it when the last word is older than this night's time.
pub(super) fn nightly(store: &mut DownStore, config: &Config, now: Now) -> Result<(), StoreError> {
    // By a clock that is wrong it would come at any time, and perhaps never again.
    if now.quality == ClockQuality::Floor {
        return Ok(());
    }
    let Some(said) = store.logs_said()? else {
        // A store that was begun just now has nothing to compare before its first night.
        return store.note_logs_said(now.wall);
    };
    // A clock that was set back does not keep it from saying it.
    let is_said = due(&config.box_id, now.wall) <= said && said.0 <= now.wall.0 + DAY_MS;
    if is_said || !config.store.path.exists() {
        return Ok(());
    }
    store.begin()?;
    match say_logs(store, config, BY_ITSELF, now.wall) {
        Ok(()) => store.commit(),
        Err(error) => {
            // The first error says what is wrong.
            let _ = store.roll_back();
            Err(error)
        }
    }
}

/// In the open transaction.
pub(super) fn say_logs(
    store: &mut DownStore,
    config: &Config,
    who: &str,
    now: UnixMs,
) -> Result<(), StoreError> {
    let logs = compare::logs_of(&EdgeView::open(&config.store.path)?, store)?;
    compare::say_logs(store, &logs, (&config.box_id, who), now)
}

/// When it was last due.
fn due(box_id: &BoxId, now: UnixMs) -> UnixMs {
    let digest = sha256(box_id.as_str().as_bytes());
    let number = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
    let of_day = FIRST_MS + (number % SPREAD_MS) as i64;
    let midnight = now.day() * DAY_MS - OFFSET_MS;
    match midnight + of_day <= now.0 {
        true => UnixMs(midnight + of_day),
        false => UnixMs(midnight + of_day - DAY_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_have_minutes_of_their_own_between_one_and_four() {
        let now = UnixMs(1_795_300_000_000);
        let mut hours = [0; 24];
        for number in 0..300 {
            let box_id: BoxId = format!("xa-{number}").parse().expect("valid");
            let at = due(&box_id, now);
            assert!(at <= now && now.0 - at.0 < DAY_MS);
            assert_eq!(due(&box_id, at), at, "due from that moment on");
            assert_eq!(due(&box_id, UnixMs(at.0 - 1)).0, at.0 - DAY_MS);
            let of_day = (at.0 + OFFSET_MS).rem_euclid(DAY_MS);
            hours[(of_day / 3_600_000) as usize] += 1;
        }
        assert_eq!(hours.iter().sum::<i32>(), hours[1] + hours[2] + hours[3]);
        assert!(hours[1..4].iter().all(|&count| 60 < count), "{hours:?}");
    }
}
