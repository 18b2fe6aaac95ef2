//! The only reader of clocks. Everything else is handed `model::Now`.
//!
//! Boxes have no battery-backed clock and may boot without a network, so the wall clock is the
//! system's or the *trusted floor*, whichever is later. The floor is the latest of the time this
//! program was built, the last good time in the store and the hub's time in a receipt; it grows
//! with the monotonic clock, because the true time does too. Ordering never depends on either.
//!
//! Whether a time server disciplines the clock is known to the kernel, but `adjtimex` has no safe
//! wrapper in the crates that we carry, and this crate forbids `unsafe`. systemd-timesyncd touches
//! a stamp file at each synchronization; a fresh stamp is our sign. Under another time daemon the
//! quality is therefore said to be `Free`, which understates and never overstates.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

use crate::model::{ClockQuality, MonoMs, Now, UnixMs};

/// When this program was built, or a day shortly before its source was written.
const BUILT: UnixMs = UnixMs(match option_env!("SOURCE_DATE_EPOCH") {
    Some(seconds) => decimal(seconds) * 1_000,
    None => 1_785_542_400_000,
});
/// Touched by systemd-timesyncd at each synchronization.
const SYNCHRONIZED_STAMP: &str = "/run/systemd/timesync/synchronized";
/// timesyncd asks at least every 2048 s; after three vain attempts the clock counts as free. At
/// 50 ppm it has drifted by a third of a second by then.
const STAMP_FRESH_MS: i64 = 3 * 2_048_000;
/// How often the stamp is looked at, and only when somebody asks for the time.
const STAMP_CHECK_MS: u64 = 10_000;

/// A cheap handle; clones share the floor.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Reading of the boot clock when this clock was started.
    origin_ms: u64,
    /// Floor minus the monotonic time at which it was raised.
    floor_at_origin_ms: AtomicI64,
    stamp: PathBuf,
    /// Monotonic time of the next look at the stamp.
    check_at_ms: AtomicU64,
    synchronized: AtomicBool,
}

impl Clock {
    /// Starts the monotonic clock at 0. `floor` is the last good time in the store.
    pub fn start(floor: UnixMs) -> Clock {
        Clock::with_stamp(floor, PathBuf::from(SYNCHRONIZED_STAMP))
    }

    fn with_stamp(floor: UnixMs, stamp: PathBuf) -> Clock {
        Clock(Arc::new(Inner {
            origin_ms: boot_ms(),
            floor_at_origin_ms: AtomicI64::new(floor.0.max(BUILT.0)),
            stamp,
            check_at_ms: AtomicU64::new(0),
            synchronized: AtomicBool::new(false),
        }))
    }

    /// The present: monotonic, wall, and how far the wall can be trusted.
    pub fn now(&self) -> Now {
        let mono_ms = self.mono_ms();
        let system = system_time();
        let floor = self.floor_at(mono_ms);
        if system < floor {
            return Now {
                mono_ms,
                wall: floor,
                quality: ClockQuality::Floor,
            };
        }
        let quality = match self.is_synchronized(mono_ms, system) {
            true => ClockQuality::Synchronized,
            false => ClockQuality::Free,
        };
        Now {
            mono_ms,
            wall: system,
            quality,
        }
    }

    /// Milliseconds since the start; runs on while the machine sleeps.
    pub fn mono_ms(&self) -> MonoMs {
        boot_ms() - self.0.origin_ms
    }

    /// The earliest that the true time can be.
    pub fn floor(&self) -> UnixMs {
        self.floor_at(self.mono_ms())
    }

    /// Says that the true time is at least `floor`, from a source that is trusted.
    pub fn raise_floor(&self, floor: UnixMs) {
        let at_origin_ms = floor.0.saturating_sub_unsigned(self.mono_ms());
        self.0
            .floor_at_origin_ms
            .fetch_max(at_origin_ms, Ordering::Relaxed);
    }

    fn floor_at(&self, mono_ms: MonoMs) -> UnixMs {
        UnixMs(
            self.0
                .floor_at_origin_ms
                .load(Ordering::Relaxed)
                .saturating_add_unsigned(mono_ms),
        )
    }

    fn is_synchronized(&self, mono_ms: MonoMs, system: UnixMs) -> bool {
        if mono_ms >= self.0.check_at_ms.load(Ordering::Relaxed) {
            self.0
                .check_at_ms
                .store(mono_ms + STAMP_CHECK_MS, Ordering::Relaxed);
            let stamped = std::fs::metadata(&self.0.stamp)
                .and_then(|stamp| stamp.modified())
                .is_ok_and(|at| (0..STAMP_FRESH_MS).contains(&(system.0 - unix_ms(at).0)));
            self.0.synchronized.store(stamped, Ordering::Relaxed);
        }
        self.0.synchronized.load(Ordering::Relaxed)
    }
}

/// Certificates are judged by the trusted time, so that a box that boots in 1970 still reaches the
/// hub that tells it the time.
impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let wall_ms = u64::try_from(self.now().wall.0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(wall_ms)))
    }
}

/// Since the machine was started; goes on while it sleeps. For what two programs agree on.
pub fn boot_ms() -> u64 {
    let reading = clock_gettime(ClockId::CLOCK_BOOTTIME)
        .or_else(|_| clock_gettime(ClockId::CLOCK_MONOTONIC))
        .expect("every Linux has a monotonic clock");
    u64::try_from(Duration::from(reading).as_millis()).expect("uptime fits")
}

/// What the system says, believed or not: for lines of the log only.
#[expect(clippy::disallowed_methods, reason = "this is the one reader")]
pub(in crate::shell) fn system_time() -> UnixMs {
    unix_ms(SystemTime::now())
}

fn unix_ms(time: SystemTime) -> UnixMs {
    let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    UnixMs(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => ms(after),
        Err(before) => -ms(before.duration()),
    })
}

/// Reads a decimal number at compile time; a bad `SOURCE_DATE_EPOCH` stops the build.
const fn decimal(text: &str) -> i64 {
    let digits = text.as_bytes();
    let (mut number, mut place) = (0_i64, 0);
    assert!(!digits.is_empty());
    while place < digits.len() {
        assert!(
            digits[place].is_ascii_digit(),
            "SOURCE_DATE_EPOCH must be a number of seconds"
        );
        number = number * 10 + (digits[place] - b'0') as i64;
        place += 1;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, FileTimes};

    fn system_time_shifted_ms(shift_ms: i64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis((system_time().0 + shift_ms) as u64)
    }

    const FAR_AHEAD: UnixMs = UnixMs(4_102_444_800_000);

    #[test]
    fn a_system_clock_before_the_floor_is_not_believed() {
        let clock = Clock::start(FAR_AHEAD);
        let first = clock.now();
        assert_eq!(first.quality, ClockQuality::Floor);
        assert!(first.wall >= FAR_AHEAD);
        std::thread::sleep(Duration::from_millis(20));
        let second = clock.now();
        assert!(second.wall.0 - first.wall.0 >= 20, "the floor runs on");
        assert!(second.mono_ms >= first.mono_ms + 20);
    }

    #[test]
    fn the_build_time_is_the_lowest_floor() {
        let clock = Clock::start(UnixMs(0));
        assert!(clock.floor() >= BUILT);
        assert_ne!(clock.now().quality, ClockQuality::Floor);
    }

    #[test]
    fn the_floor_only_rises() {
        let clock = Clock::start(UnixMs(0));
        let shared = clock.clone();
        shared.raise_floor(FAR_AHEAD);
        assert!(clock.floor() >= FAR_AHEAD);
        clock.raise_floor(UnixMs(0));
        assert!(clock.now().wall >= FAR_AHEAD);
        assert_eq!(
            clock.current_time().expect("after 1970").as_secs(),
            FAR_AHEAD.0 as u64 / 1_000
        );
    }

    #[test]
    fn a_fresh_stamp_means_synchronized_and_an_old_one_free() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = folder.path().join("synchronized");
        let quality = || Clock::with_stamp(UnixMs(0), stamp.clone()).now().quality;
        assert_eq!(quality(), ClockQuality::Free);
        let file = File::create(&stamp).unwrap();
        assert_eq!(quality(), ClockQuality::Synchronized);
        let long_ago = system_time_shifted_ms(-STAMP_FRESH_MS - 1_000);
        file.set_times(FileTimes::new().set_modified(long_ago))
            .unwrap();
        assert_eq!(quality(), ClockQuality::Free);
        let ahead = system_time_shifted_ms(60_000);
        file.set_times(FileTimes::new().set_modified(ahead))
            .unwrap();
        assert_eq!(
            quality(),
            ClockQuality::Free,
            "the clock was set back since the stamp"
        );
    }

    #[test]
    fn numbers_of_the_build_environment_are_read() {
        assert_eq!(decimal("1785542400"), 1_785_542_400);
    }
}
