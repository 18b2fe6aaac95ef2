//! The log: systemd's journal with each field as a journal field, or a readable line on stderr.
//!
//! We emit with `tracing`. `systemd-journal-logger` speaks `log`, so a small layer hands it each
//! event as a `log` record whose key-values are the event's fields. The other way round, what
//! libraries say through `log` becomes an event. Colours only on a terminal without `NO_COLOR`.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};

use anyhow::{Context as _, bail};
use log::kv::{self, VisitSource};
use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::shell::clock;

/// Overrides the default level where no `--log-level` is given.
pub const LEVEL_VARIABLE: &str = "LIENTHONG_LOG";
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
/// Programs of this package; everything else is a library and heard from `warn` on.
const OURS: [&str; 4] = ["lienthong", "tramd", "trucd", "demo"];
/// Target of what libraries say through `log`.
const LIBRARY: &str = "library";
/// A library may print a whole packet; that is of no use in a log.
const LIBRARY_CHARS_MAX: usize = 300;

/// Starts the log once for the process. `level` is the value of `--log-level`, if given.
pub fn init(level: Option<&str>) -> anyhow::Result<()> {
    let from_environment = std::env::var(LEVEL_VARIABLE).ok();
    let level = parse_level(level.or(from_environment.as_deref()).unwrap_or("info"))?;
    let filter = OURS.iter().fold(
        Targets::new().with_default(level.min(LevelFilter::WARN)),
        |filter, target| filter.with_target(*target, level),
    );
    tracing_subscriber::registry()
        .with(filter)
        .with(Lines {
            output: Output::of_this_process(),
        })
        .try_init()
        .context("the log was started twice")?;
    log::set_boxed_logger(Box::new(Libraries)).context("another logger was installed")?;
    log::set_max_level(log::LevelFilter::Warn);
    Ok(())
}

fn parse_level(text: &str) -> anyhow::Result<LevelFilter> {
    match LEVELS
        .iter()
        .find(|(name, _)| text.eq_ignore_ascii_case(name))
    {
        Some((_, level)) => Ok(*level),
        None => bail!("log level {text:?} is not one of off, error, warn, info, debug, trace"),
    }
}

/// Where lines go.
enum Output {
    Journal(Box<dyn log::Log>),
    Stderr { time: bool, colour: bool },
}

impl Output {
    fn of_this_process() -> Output {
        if connected_to_journal() {
            return match JournalLog::new() {
                Ok(journal) => Output::Journal(Box::new(journal)),
                // The journal stamps each line that it reads from stderr.
                Err(_) => Output::Stderr {
                    time: false,
                    colour: false,
                },
            };
        }
        let colour = io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Output::Stderr { time: true, colour }
    }
}

/// Turns events into lines.
struct Lines {
    output: Output,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        match &self.output {
            Output::Journal(journal) => said.send(event.metadata(), journal.as_ref()),
            Output::Stderr { time, colour } => {
                let line = said.line(event.metadata().level(), *time, *colour);
                // A log that cannot be written has nowhere to say so.
                let _ = io::stderr().lock().write_all(line.as_bytes());
            }
        }
    }
}

/// Message and fields of one event.
#[derive(Default)]
struct Said {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, format!("{value:?}"));
    }
}

impl Said {
    fn keep(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name, value)),
        }
    }

    /// The message with its fields on one line, whatever they contain.
    fn text(&self) -> String {
        let mut text = one_line(&self.message);
        for (name, value) in &self.fields {
            let value = one_line(value);
            let written = match value.is_empty() || value.contains([' ', '"', '=']) {
                true => write!(text, " {name}={value:?}"),
                false => write!(text, " {name}={value}"),
            };
            written.expect("a string takes any text");
        }
        text
    }

    fn line(&self, level: &Level, time: bool, colour: bool) -> String {
        let time = match time {
            true => format!("{} ", clock::system_time()),
            false => String::new(),
        };
        let (on, off) = match (colour, *level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[0m"),
        };
        format!("{time}{on}{level:>5}{off} {}\n", self.text())
    }

    fn send(&self, metadata: &tracing::Metadata<'_>, journal: &dyn log::Log) {
        let level = match *metadata.level() {
            Level::ERROR => log::Level::Error,
            Level::WARN => log::Level::Warn,
            Level::INFO => log::Level::Info,
            Level::DEBUG => log::Level::Debug,
            Level::TRACE => log::Level::Trace,
        };
        journal.log(
            &log::Record::builder()
                .args(format_args!("{}", self.text()))
                .level(level)
                .target(metadata.target())
                .module_path(metadata.module_path())
                .file(metadata.file())
                .line(metadata.line())
                .key_values(self)
                .build(),
        );
    }
}

impl kv::Source for Said {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), kv::Error> {
        self.fields
            .iter()
            .try_for_each(|(name, value)| visitor.visit_pair((*name).into(), value.as_str().into()))
    }
}

/// What would begin another line, or steer a terminal, becomes a space.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// What libraries say through `log`, as events.
struct Libraries;

impl log::Log for Libraries {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text: String = record
            .args()
            .to_string()
            .chars()
            .take(LIBRARY_CHARS_MAX)
            .collect();
        match record.level() {
            log::Level::Error => {
                tracing::error!(target: LIBRARY, module = record.target(), "{text}")
            }
            _ => tracing::warn!(target: LIBRARY, module = record.target(), "{text}"),
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    #[derive(Default, Clone)]
    struct Caught(Arc<Mutex<Vec<Line>>>);

    type Line = (log::Level, String, BTreeMap<String, String>);

    impl log::Log for Caught {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            struct Pairs(BTreeMap<String, String>);
            impl<'kvs> VisitSource<'kvs> for Pairs {
                fn visit_pair(
                    &mut self,
                    key: kv::Key<'kvs>,
                    value: kv::Value<'kvs>,
                ) -> Result<(), kv::Error> {
                    self.0.insert(key.to_string(), value.to_string());
                    Ok(())
                }
            }
            let mut pairs = Pairs(BTreeMap::new());
            record.key_values().visit(&mut pairs).unwrap();
            self.0
                .lock()
                .unwrap()
                .push((record.level(), record.args().to_string(), pairs.0));
        }

        fn flush(&self) {}
    }

    #[test]
    fn events_reach_the_journal_with_their_fields() {
        let caught = Caught::default();
        let lines = Lines {
            output: Output::Journal(Box::new(caught.clone())),
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            tracing::warn!(
                address = "hub.example:8883",
                reason = "tls-expired",
                tries = 3,
                "link is down"
            );
            tracing::info!(path = ?"a b", "two\nlines");
        });
        let caught = caught.0.lock().unwrap();
        let (level, text, fields) = &caught[0];
        assert_eq!(*level, log::Level::Warn);
        assert_eq!(
            text,
            "link is down address=hub.example:8883 reason=tls-expired tries=3"
        );
        assert_eq!(fields["address"], "hub.example:8883");
        assert_eq!(fields["tries"], "3");
        assert_eq!(caught[1].1, "two lines path=\"\\\"a b\\\"\"");
    }

    #[test]
    fn a_terminal_line_has_time_and_colour_only_when_asked() {
        let said = Said {
            message: "ready".to_owned(),
            fields: vec![("port", "8480".to_owned())],
        };
        assert_eq!(
            said.line(&Level::INFO, false, false),
            " INFO ready port=8480\n"
        );
        assert_eq!(
            said.line(&Level::ERROR, false, true),
            "\x1b[31mERROR\x1b[0m ready port=8480\n"
        );
        let line = said.line(&Level::INFO, true, false);
        assert!(line.contains("+07:00  INFO ready"), "{line}");
    }

    #[test]
    fn levels_are_read_and_others_named() {
        assert_eq!(parse_level("WARN").unwrap(), LevelFilter::WARN);
        let error = parse_level("loud").unwrap_err().to_string();
        assert!(
            error.contains("\"loud\"") && error.contains("trace"),
            "{error}"
        );
    }
}
