//! The outputs that run: a thread each, ended together.

use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;

use crate::hub::config::Config;
use crate::hub::output::outlook;
use crate::hub::output::runner::Runner;
use crate::shell::clock::Clock;
use crate::store::outputs::OutputStore;

/// Between two looks whether a thread has ended.
const LOOK: Duration = Duration::from_millis(20);
/// A thread that waits for its target longer is left behind: what it does is harmless again.
const STOP_LOOKS_MAX: u32 = 250;

/// Tells the threads to end.
#[derive(Debug, Default)]
pub struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    pub fn is_set(&self) -> bool {
        *self.is_set.lock().expect("no holder panics")
    }

    /// Waits; true when it is time to end.
    pub fn wait(&self, pause: Duration) -> bool {
        let is_set = self.is_set.lock().expect("no holder panics");
        let waited = self
            .changed
            .wait_timeout_while(is_set, pause, |is_set| !*is_set);
        *waited.expect("no holder panics").0
    }

    fn set(&self) {
        *self.is_set.lock().expect("no holder panics") = true;
        self.changed.notify_all();
    }
}

pub struct Outputs {
    threads: Vec<JoinHandle<()>>,
    stop: Arc<Stop>,
}

impl Outputs {
    /// Starts the outputs of the configuration; fails when their store cannot be opened.
    pub fn start(config: &Arc<Config>, clock: &Clock) -> anyhow::Result<Outputs> {
        let mut outputs = Outputs {
            threads: Vec::new(),
            stop: Arc::default(),
        };
        if config.outputs.is_empty() {
            return Ok(outputs);
        }
        let path = outlook::store_path(config);
        OutputStore::open(&path, outlook::OPTIONS)
            .with_context(|| format!("cannot open the outputs' store {}", path.display()))?;
        for output in &config.outputs {
            let runner = Runner {
                hub: Arc::clone(config),
                config: output.clone(),
                clock: clock.clone(),
                stop: Arc::clone(&outputs.stop),
            };
            let thread = std::thread::Builder::new()
                .name(format!("out-{}", output.name))
                .spawn(move || runner.run())
                .context("cannot start an output's thread")?;
            outputs.threads.push(thread);
        }
        Ok(outputs)
    }

    /// Ends the threads; blocks for some seconds at most.
    pub fn stop(self) {
        self.stop.set();
        let mut looks = 0;
        for thread in self.threads {
            while !thread.is_finished() && looks < STOP_LOOKS_MAX {
                looks += 1;
                std::thread::sleep(LOOK);
            }
            if thread.is_finished() && thread.join().is_err() {
                tracing::error!("an output's thread panicked");
            }
        }
    }
}
