//! Commands that the hub may give to a box: the closed list, and the timetable of the link's width.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{DatasetId, Epoch, Seq, SourceName, UnixMs};

/// The dataset that takes the boxes' answers.
pub const ANSWERS: &str = "lenh_tram";
/// Kind of an answer by which a box asks for a file that it lacks.
pub const FILE_WANTED: &str = "tep";

/// How a box that asks for a file says up to where it has the log in which files travel: what was sent
/// before that will not come any more, even where its receipt is still on the way.
pub fn say_applied(epoch: Epoch, applied: Seq) -> String {
    format!("{}/{}", epoch.0, applied.0)
}

/// What [`say_applied`] has said.
pub fn has_applied(text: &str) -> Option<(Epoch, Seq)> {
    let (epoch, applied) = text.split_once('/')?;
    Some((Epoch(epoch.parse().ok()?), Seq(applied.parse().ok()?)))
}

const DAY_MIN: u16 = 24 * 60;
const SPANS_MAX: usize = 48;

/// One command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Answer with the status.
    SendDiagnostics,
    /// How wide the link may be used from now on; empty: as the box's own configuration says.
    SetBandwidth(Timetable),
    PauseSource(SourceName),
    ResumeSource(SourceName),
    /// The copies of one dataset, or of all, are loaded anew.
    ReloadCopies(Option<DatasetId>),
    /// Answer with which catalogue holds; the hub sends what it has published again.
    UpdateCatalogue,
    /// Say where the logs stand; the hub then compares the copies.
    Compare,
    Restart,
    /// Make a new key beside the old one, and answer with its public half.
    RotateKey,
    /// Prove that this certificate of the new key is let in, and use both from then on.
    UseCertificate(String),
}

/// Why a command cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOrder {
    #[error("no such command")]
    Unknown,
    #[error("{0}")]
    Arguments(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Arguments {
    #[serde(default)]
    hours: Option<Vec<String>>,
    #[serde(default)]
    source: Option<SourceName>,
    #[serde(default)]
    dataset: Option<DatasetId>,
    #[serde(default)]
    certificate: Option<String>,
}

/// The command by which a box makes itself a new key.
pub const ROTATE_KEY: &str = "rotate_key";
/// The command that brings the new key's certificate; the hub gives it by itself.
pub const USE_CERTIFICATE: &str = "use_certificate";

/// What a box answers to [`ROTATE_KEY`], within the answer's detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// The uncompressed point, base64.
    pub public_key: String,
    /// By the new key itself (`evidence::KeyClaim`), base64.
    pub signature: String,
}

impl Order {
    /// The list.
    pub const NAMES: [&str; 10] = [
        "send_diagnostics",
        "set_bandwidth",
        "pause_source",
        "resume_source",
        "reload_copies",
        "update_catalogue",
        "compare",
        "restart",
        ROTATE_KEY,
        USE_CERTIFICATE,
    ];

    /// Reads a command's name and arguments, a JSON object.
    pub fn parse(name: &str, arguments: &str) -> Result<Order, NotAnOrder> {
        if !Order::NAMES.contains(&name) {
            return Err(NotAnOrder::Unknown);
        }
        let wrong = |why: &str| NotAnOrder::Arguments(why.to_owned());
        if !arguments.trim_start().starts_with('{') {
            return Err(wrong("arguments are not a JSON object"));
        }
        let Arguments {
            hours,
            source,
            dataset,
            certificate,
        } = serde_json::from_str(arguments)
            .map_err(|error| NotAnOrder::Arguments(format!("arguments: {error}")))?;
        let is_fitting = (hours.is_none() || name == "set_bandwidth")
            && (source.is_none() || name.ends_with("_source"))
            && (dataset.is_none() || name == "reload_copies")
            && (certificate.is_none() || name == USE_CERTIFICATE);
        if !is_fitting {
            return Err(wrong("an argument of another command"));
        }
        let source = || source.ok_or(wrong("source is missing"));
        Ok(match name {
            "send_diagnostics" => Order::SendDiagnostics,
            "set_bandwidth" => {
                let hours = hours.ok_or(wrong("hours is missing"))?;
                let timetable = Timetable::parse(hours.iter().map(String::as_str));
                Order::SetBandwidth(timetable.map_err(NotAnOrder::Arguments)?)
            }
            "pause_source" => Order::PauseSource(source()?),
            "resume_source" => Order::ResumeSource(source()?),
            "reload_copies" => Order::ReloadCopies(dataset),
            "update_catalogue" => Order::UpdateCatalogue,
            "compare" => Order::Compare,
            ROTATE_KEY => Order::RotateKey,
            USE_CERTIFICATE => {
                Order::UseCertificate(certificate.ok_or(wrong("certificate is missing"))?)
            }
            _ => Order::Restart,
        })
    }
}

/// How much of the link the lanes P2 to P4 may use at which hours of the day, Vietnam time. What no
/// span covers is free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timetable(Vec<Span>);

/// `07:30-17:00 256`: from one minute of the day to before the other, kilobits a second. It may lead
/// over midnight; 0 closes the lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    from_min: u16,
    to_min: u16,
    kbps: u32,
}

impl Timetable {
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Timetable, String> {
        let spans: Result<Vec<Span>, String> = texts.into_iter().map(str::parse).collect();
        let spans = spans?;
        match spans.len() <= SPANS_MAX {
            true => Ok(Timetable(spans)),
            false => Err(format!("more than {SPANS_MAX} spans")),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As it is written.
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(Span::to_string).collect()
    }

    /// Kilobits a second that are allowed now; none: as many as there are. The first span that covers
    /// the minute counts.
    pub fn kbps(&self, now: UnixMs) -> Option<u32> {
        let minute_ms = 60_000;
        let local_min = (now.0 + 7 * 3_600_000).div_euclid(minute_ms);
        let minute = local_min.rem_euclid(i64::from(DAY_MIN)) as u16;
        let span = self.0.iter().find(|span| span.covers(minute))?;
        Some(span.kbps)
    }
}

impl From<Vec<Span>> for Timetable {
    fn from(spans: Vec<Span>) -> Timetable {
        Timetable(spans)
    }
}

impl Span {
    fn covers(self, minute: u16) -> bool {
        match self.from_min < self.to_min {
            true => (self.from_min..self.to_min).contains(&minute),
            false => self.from_min <= minute || minute < self.to_min,
        }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong = || format!("{text:?} is not hours and kbit/s such as 07:30-17:00 256");
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let is_written = hours.len() == 2 && minutes.len() == 2;
            let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
            let minute = hours * 60 + minutes;
            (is_written && minutes < 60 && minute <= DAY_MIN).then_some(minute)
        };
        let (hours, kbps) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let (from, to) = hours.split_once('-').ok_or_else(wrong)?;
        let span = Span {
            from_min: minute(from).ok_or_else(wrong)?,
            to_min: minute(to).ok_or_else(wrong)?,
            kbps: kbps.trim().parse().map_err(|_| wrong())?,
        };
        match span.from_min != span.to_min && span.from_min < DAY_MIN && span.kbps <= 10_000_000 {
            true => Ok(span),
            false => Err(wrong()),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span {
            from_min,
            to_min,
            kbps,
        } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02} {kbps}",
            from_min / 60,
            from_min % 60,
            to_min / 60,
            to_min % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_list_is_understood() {
        let parse = Order::parse;
        for name in Order::NAMES {
            let arguments = match name {
                "set_bandwidth" => r#"{"hours":["07:30-17:00 256"]}"#,
                "pause_source" | "resume_source" => r#"{"source":"mot-cua"}"#,
                USE_CERTIFICATE => r#"{"certificate":"-----BEGIN CERTIFICATE-----"}"#,
                _ => "{}",
            };
            assert!(parse(name, arguments).is_ok(), "{name}");
            assert!(parse(name, r#"{"shell":"rm"}"#).is_err(), "{name}");
            assert!(
                parse(name, "[]").is_err() && parse(name, "").is_err(),
                "{name}"
            );
        }
        assert_eq!(parse("format_disk", "{}"), Err(NotAnOrder::Unknown));
        assert!(parse("pause_source", "{}").is_err());
        assert!(parse("restart", r#"{"source":"mot-cua"}"#).is_err());
    }

    #[test]
    fn hours_count_in_vietnam_and_may_lead_over_midnight() {
        let table = Timetable::parse(["07:30-17:00 256", "22:00-05:00 0"]).expect("well written");
        let at = |hours: i64, minutes: i64| UnixMs(((hours - 7) * 60 + minutes) * 60_000);
        for (time, kbps) in [
            (at(7, 29), None),
            (at(7, 30), Some(256)),
            (at(16, 59), Some(256)),
            (at(17, 0), None),
            (at(23, 0), Some(0)),
            (at(28, 59), Some(0)),
            (at(29, 0), None),
        ] {
            assert_eq!(table.kbps(time), kbps, "{time}");
        }
        assert_eq!(table.texts(), ["07:30-17:00 256", "22:00-05:00 0"]);
        for bad in [
            "7:30-17:00 256",
            "07:30-07:30 1",
            "07:30 256",
            "25:00-26:00 1",
            "07:30-17:00 -1",
        ] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
