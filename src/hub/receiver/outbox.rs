//! What waits for the courier. Receipts that do not fit are dropped, because a box that hears nothing
//! offers again; of batches no more are made than there is room for.

use std::collections::VecDeque;

use bytes::Bytes;

/// Most receipts that wait for the broker; each has about 200 bytes.
const OUTBOX_MAX: usize = 8192;
/// Bytes of batches to boxes that wait for the broker.
const OFFERS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What waits for the courier, oldest first.
#[derive(Default)]
pub(super) struct Outbox {
    receipts: VecDeque<(String, Bytes)>,
    /// Batches to boxes, which let receipts go first.
    offers: VecDeque<(String, Bytes)>,
    offers_bytes: usize,
}

impl Outbox {
    /// Returns whether an older receipt had to go.
    pub(super) fn push(&mut self, topic: String, message: Bytes) -> bool {
        let full = OUTBOX_MAX <= self.receipts.len();
        if full {
            self.receipts.pop_front();
        }
        self.receipts.push_back((topic, message));
        full
    }

    pub(super) fn push_offer(&mut self, topic: String, message: Bytes) {
        self.offers_bytes += message.len();
        self.offers.push_back((topic, message));
    }

    /// How many bytes of batches there is room for.
    pub(super) fn room_bytes(&self) -> usize {
        OFFERS_BYTES_MAX.saturating_sub(self.offers_bytes)
    }

    pub(super) fn front(&self) -> Option<&(String, Bytes)> {
        self.receipts.front().or_else(|| self.offers.front())
    }

    pub(super) fn pop(&mut self) {
        if self.receipts.pop_front().is_none()
            && let Some((_, message)) = self.offers.pop_front()
        {
            self.offers_bytes -= message.len();
        }
    }

    /// Without a link nobody waits for these: the next link begins with where everybody stands.
    pub(super) fn forget(&mut self) {
        *self = Outbox::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outbox_keeps_the_newest() {
        let mut outbox = Outbox::default();
        for number in 0..OUTBOX_MAX {
            assert!(!outbox.push(number.to_string(), Bytes::new()));
        }
        assert!(outbox.push("last".to_owned(), Bytes::new()));
        assert_eq!(outbox.receipts.len(), OUTBOX_MAX);
        assert_eq!(outbox.front().unwrap().0, "1");
        assert_eq!(outbox.receipts.back().unwrap().0, "last");
    }
}
