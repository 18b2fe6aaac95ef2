//! The trace: every event and decision of a world, as one running digest and, when asked for, as
//! text. Signatures are random and stay out of it; everything else in it follows from the seed.

use std::fmt;

pub struct Trace {
    digest: u64,
    print: bool,
}

impl Trace {
    pub fn new(print: bool) -> Self {
        Self {
            digest: 0xcbf2_9ce4_8422_2325,
            print,
        }
    }

    pub fn line(&mut self, at_ms: u64, what: fmt::Arguments<'_>) {
        if self.print {
            println!("{:>10.3} {what}", at_ms as f64 / 1000.0);
        }
        let mut hasher = Hasher(self.digest ^ at_ms);
        fmt::write(&mut hasher, what).expect("hashing cannot fail");
        self.digest = hasher.0;
    }

    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// FNV-1a, 64 bits.
struct Hasher(u64);

impl fmt::Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
