//! How much the program writes to the disk: what wears a memory card out.
//!
//! The kernel counts the pages that the process made dirty, so that a page written twice counts
//! twice; what the file system's own journal adds is not in it.

use crate::model::MonoMs;

/// What was written is noted so often, and only when something else is written anyway.
const EVERY_MS: MonoMs = 600_000;

/// Counts between two notes.
#[derive(Debug)]
pub struct Wear {
    noted_bytes: u64,
    due_at_ms: MonoMs,
}

impl Wear {
    /// Counts from the start of the process on.
    pub fn start(now_ms: MonoMs) -> Wear {
        Wear {
            noted_bytes: 0,
            due_at_ms: now_ms + EVERY_MS,
        }
    }

    /// Bytes since the last note, where one is due; the note is then taken to be made.
    pub fn due(&mut self, now_ms: MonoMs) -> Option<u64> {
        if now_ms < self.due_at_ms {
            return None;
        }
        self.due_at_ms = now_ms + EVERY_MS;
        self.rest()
    }

    /// Bytes since the last note; the note is then taken to be made. None where there are none, or
    /// where the kernel does not count.
    pub fn rest(&mut self) -> Option<u64> {
        let bytes = written_bytes(&std::fs::read_to_string("/proc/self/io").ok()?)?;
        let more = bytes.saturating_sub(std::mem::replace(&mut self.noted_bytes, bytes));
        (0 < more).then_some(more)
    }
}

/// Field `write_bytes` of `/proc/PID/io` (proc(5)).
fn written_bytes(io: &str) -> Option<u64> {
    io.lines()
        .find_map(|line| line.strip_prefix("write_bytes: "))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_counts() {
        let io = "rchar: 1\nwchar: 99\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(written_bytes(io), Some(4_096));
        assert_eq!(written_bytes("rchar: 1\n"), None);
    }

    #[test]
    fn a_note_is_due_after_a_while_and_tells_only_what_is_new() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).expect("a folder on a disk");
        let write = |name: &str| {
            std::fs::write(folder.path().join(name), vec![7; 1 << 20]).expect("written");
        };
        write("first");
        let mut wear = Wear::start(0);
        assert_eq!(wear.due(EVERY_MS - 1), None);
        assert!(wear.due(EVERY_MS).is_some_and(|bytes| 1 << 20 <= bytes));
        assert_eq!(wear.due(EVERY_MS + 1), None, "not due yet");
        write("second");
        assert!(wear.rest().is_some_and(|bytes| 1 << 20 <= bytes));
    }
}
