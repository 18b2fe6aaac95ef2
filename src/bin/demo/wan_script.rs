//! What happens to each box's line: open, slow, cut, half-open, in an order that the seed decides.

use std::time::Duration;

use crate::wan::Line;

/// A stretch of time with one state of the line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene {
    pub line: Line,
    pub lasts: Duration,
}

/// Endless scenes for one box: every second one is the open line, in between something breaks.
pub struct Script {
    dice: u64,
    is_open: bool,
}

/// 64 kbit/s and a satellite's delay.
const SLOW: Line = Line::Open {
    bytes_per_s: 8_000,
    delay_ms: 300,
};
/// An ordinary office line.
const OPEN: Line = Line::Open {
    bytes_per_s: 2_500_000,
    delay_ms: 15,
};

impl Script {
    pub fn new(seed: u64) -> Script {
        Script {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            is_open: false,
        }
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % below
    }
}

impl Iterator for Script {
    type Item = Scene;

    fn next(&mut self) -> Option<Scene> {
        self.is_open = !self.is_open;
        let (line, seconds) = if self.is_open {
            (OPEN, 3 + self.roll(5))
        } else {
            match self.roll(5) {
                0 | 1 => (Line::Cut, 3 + self.roll(8)),
                2 | 3 => (SLOW, 4 + self.roll(6)),
                _ => (Line::HalfOpen, 4 + self.roll(6)),
            }
        };
        Some(Scene {
            line,
            lasts: Duration::from_secs(seconds),
        })
    }
}

/// The line in words.
pub fn words(line: Line) -> &'static str {
    match line {
        Line::Cut => "cut",
        Line::HalfOpen => "half-open",
        line if line == SLOW => "slow",
        Line::Open { .. } => "open",
    }
}

pub fn open() -> Line {
    OPEN
}
