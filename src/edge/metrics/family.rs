//! One metric in Prometheus' text format 0.0.4.

use std::fmt::{self, Write};

use crate::edge::status::Stamp;

/// One metric, with its samples in one group as the format wants it.
pub(super) struct Family<'o, 'n> {
    out: &'o mut String,
    name: &'n str,
}

impl<'o, 'n> Family<'o, 'n> {
    pub fn gauge(out: &'o mut String, name: &'n str, help: &str) -> Self {
        Family::new(out, name, "gauge", help)
    }

    pub fn counter(out: &'o mut String, name: &'n str, help: &str) -> Self {
        Family::new(out, name, "counter", help)
    }

    fn new(out: &'o mut String, name: &'n str, kind: &str, help: &str) -> Self {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("writing to memory");
        Family { out, name }
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        self.out.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            write!(self.out, "{label}=\"").expect("writing to memory");
            push_escaped(self.out, text);
            self.out.push('"');
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        writeln!(self.out, " {value}").expect("writing to memory");
    }
}

fn push_escaped(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Seconds since 1970, with milliseconds and without the rounding of floating point.
pub(super) fn seconds(at: Stamp) -> impl fmt::Display {
    let ms = at.0.0;
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    format!("{sign}{}.{:03}", ms / 1_000, ms % 1_000)
}
