//! Messages of boxes, as the broker brings them.

use bytes::Bytes;

use crate::engine::receiving::Event;
use crate::hub::status::Presence;
use crate::model::BoxId;
use crate::wire::{self, TopicKind};

/// Longest presence that is kept.
const PRESENCE_BYTES_MAX: usize = 1024;

/// A message of a box; an event can be made of it more than once.
#[derive(Clone)]
pub(super) enum Taken {
    /// A batch or a receipt.
    Batch {
        box_id: BoxId,
        message: Bytes,
    },
    Presence {
        box_id: BoxId,
        presence: String,
    },
}

impl Taken {
    pub(super) fn box_id(&self) -> &BoxId {
        match self {
            Taken::Batch { box_id, .. } | Taken::Presence { box_id, .. } => box_id,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Taken::Batch { message, .. } => message.len(),
            Taken::Presence { presence, .. } => presence.len(),
        }
    }
}

impl From<Taken> for Event {
    fn from(taken: Taken) -> Event {
        match taken {
            Taken::Batch { box_id, message } => Event::Received { box_id, message },
            Taken::Presence { box_id, presence } => Event::Presence { box_id, presence },
        }
    }
}

/// Anything that is not ours, or no presence that could be shown, is passed over.
pub(super) fn read_message(topic: &str, payload: Bytes) -> Option<Taken> {
    let (box_id, kind) = wire::parse_topic(topic)?;
    match kind {
        TopicKind::Up => Some(Taken::Batch {
            box_id,
            message: payload,
        }),
        TopicKind::Presence if payload.len() <= PRESENCE_BYTES_MAX => {
            let presence = Presence::parse(std::str::from_utf8(&payload).ok()?)?;
            Some(Taken::Presence {
                box_id,
                presence: serde_json::to_string(&presence).expect("a presence is plain data"),
            })
        }
        TopicKind::Presence | TopicKind::Down => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_shown_is_a_presence() {
        let read = |topic, payload: &'static str| {
            read_message(topic, Bytes::from_static(payload.as_bytes()))
        };
        assert!(matches!(
            read("lt/1/xa-a/presence", r#"{"online":true,"x":"<b>"}"#),
            Some(Taken::Presence { presence, .. }) if presence == r#"{"online":true}"#
        ));
        assert!(read("lt/1/xa-a/presence", "true").is_none());
        assert!(read("lt/1/xa-a/presence", "").is_none());
        assert!(read("lt/1/xa-a/down", "x").is_none());
        assert!(read("lt/2/xa-a/up", "x").is_none());
        assert!(matches!(
            read("lt/1/xa-a/up", "x"),
            Some(Taken::Batch { .. })
        ));
    }
}
