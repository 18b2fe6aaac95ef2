//! Waiting with an end, and with an ear for Ctrl-C: whoever waits gives up with an error, so that
//! all processes end on the usual way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::signal::unix::{SignalKind, signal};

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on an interrupt is noted instead of ending this process.
pub fn listen_for_interrupts() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .spawn(move || {
            runtime.block_on(async {
                let (Ok(mut interrupt), Ok(mut terminate)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                ) else {
                    return;
                };
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                IS_INTERRUPTED.store(true, Ordering::Relaxed);
            });
        })
        .context("a thread for signals")?;
    Ok(())
}

pub fn pause(time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        check()?;
        let left = until.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    check()
}

pub fn until(what: &str, most: Duration, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let until = Instant::now() + most;
    while !is_so() {
        check()?;
        ensure!(
            Instant::now() < until,
            "waited {most:?} in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

pub fn check() -> Result<()> {
    ensure!(!IS_INTERRUPTED.load(Ordering::Relaxed), "interrupted");
    Ok(())
}
