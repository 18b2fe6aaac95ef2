//! The access rule: which client id, topics and filters a common name may use. Pure.
//!
//! Whoever is admitted bears its common name in its client id, so that the rule needs nothing but
//! the client id afterwards: a box's *is* its common name, so that its connections take over each
//! other; the hub's is its common name, or begins with it and a slash, so that its workers can stand
//! side by side. No box id holds a slash.

use crate::model::BoxId;
use crate::wire::{TopicKind, parse_topic};

/// Largest presence message.
pub const PRESENCE_BYTES_MAX: usize = 1024;

/// All topics of this product's protocol.
const ROOT: &str = "lt/1/";

pub struct Rules {
    hub_name: String,
}

/// What the rule looks at in a message.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub topic: &'a str,
    pub retain: bool,
    pub qos: u8,
    pub bytes: usize,
}

impl Rules {
    pub fn new(hub_name: String) -> Rules {
        Rules { hub_name }
    }

    pub fn is_hub(&self, common_name: &str) -> bool {
        common_name == self.hub_name
    }

    pub fn may_use_client_id(&self, common_name: &str, client_id: &str) -> bool {
        if self.is_hub(common_name) {
            self.is_hubs_client(client_id)
        } else {
            common_name == client_id && common_name.parse::<BoxId>().is_ok()
        }
    }

    pub fn may_publish(&self, client_id: &str, message: Message) -> bool {
        let Some((owner, kind)) = parse_topic(message.topic) else {
            return false;
        };
        let from_hub = self.is_hubs_client(client_id);
        let from_owner = owner.as_str() == client_id;
        let allowed = match kind {
            TopicKind::Up => from_owner && !message.retain,
            TopicKind::Down => from_hub && !message.retain,
            TopicKind::Presence => from_owner && message.bytes <= PRESENCE_BYTES_MAX,
        };
        allowed && message.qos <= 1
    }

    /// A last will says that its box is gone, and nothing else.
    pub fn may_leave_as_will(&self, client_id: &str, message: Message) -> bool {
        is_presence(message.topic) && self.may_publish(client_id, message)
    }

    /// `shared`: the filter came behind `$share/<group>/`.
    pub fn may_subscribe(&self, client_id: &str, filter: &str, shared: bool) -> bool {
        if self.is_hubs_client(client_id) {
            filter.starts_with(ROOT)
        } else {
            let own = |(owner, kind): (BoxId, TopicKind)| {
                owner.as_str() == client_id && kind == TopicKind::Down
            };
            !shared && parse_topic(filter).is_some_and(own)
        }
    }

    fn is_hubs_client(&self, client_id: &str) -> bool {
        client_id
            .strip_prefix(&self.hub_name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A box's message to the hub, as against the hub's to a box.
pub fn is_from_box(topic: &str) -> bool {
    matches!(
        parse_topic(topic),
        Some((_, TopicKind::Up | TopicKind::Presence))
    )
}

pub fn is_presence(topic: &str) -> bool {
    matches!(parse_topic(topic), Some((_, TopicKind::Presence)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules::new("trucd".into())
    }

    fn message(topic: &str) -> Message<'_> {
        Message {
            topic,
            retain: false,
            qos: 1,
            bytes: 100,
        }
    }

    #[test]
    fn client_ids() {
        for (name, client_id, allowed) in [
            ("xa-a", "xa-a", true),
            ("xa-a", "xa-b", false),
            ("xa-a", "xa-a/2", false),
            ("xa-a", "trucd", false),
            ("xa-a", "trucd/1", false),
            ("xa-a", "", false),
            ("Xa-A", "Xa-A", false),
            ("trucd-2", "trucd-2", true),
            ("trucd-2", "trucd/2", false),
            ("trucd", "trucd", true),
            ("trucd", "trucd/2", true),
            ("trucd", "trucd-2", false),
            ("trucd", "xa-a", false),
        ] {
            assert_eq!(
                rules().may_use_client_id(name, client_id),
                allowed,
                "{name} as {client_id}"
            );
        }
    }

    #[test]
    fn publishing() {
        for (client_id, topic, allowed) in [
            ("xa-a", "lt/1/xa-a/up", true),
            ("xa-a", "lt/1/xa-a/presence", true),
            ("xa-a", "lt/1/xa-a/down", false),
            ("xa-a", "lt/1/xa-b/up", false),
            ("xa-a", "lt/1/xa-b/presence", false),
            ("xa-a", "lt/1/xa-a/up/more", false),
            ("xa-a", "lt/1/xa-a", false),
            ("xa-a", "lt/2/xa-a/up", false),
            ("xa-a", "/lt/1/xa-a/up", false),
            ("xa-a", "$SYS/up", false),
            ("xa-a", "", false),
            ("trucd", "lt/1/xa-a/down", true),
            ("trucd/2", "lt/1/xa-a/down", true),
            ("trucd", "lt/1/xa-a/up", false),
            ("trucd", "lt/1/+/down", false),
            ("trucd", "lt/1//down", false),
            ("trucd", "lt/1/xa-a/presence", false),
            ("trucd-2", "lt/1/xa-a/down", false),
        ] {
            assert_eq!(
                rules().may_publish(client_id, message(topic)),
                allowed,
                "{client_id} on {topic}"
            );
        }
    }

    #[test]
    fn only_presence_is_retained_and_small() {
        let retained = |topic| Message {
            retain: true,
            ..message(topic)
        };
        assert!(rules().may_publish("xa-a", retained("lt/1/xa-a/presence")));
        assert!(!rules().may_publish("xa-a", retained("lt/1/xa-a/up")));
        assert!(!rules().may_publish("trucd", retained("lt/1/xa-a/down")));
        let large = Message {
            bytes: PRESENCE_BYTES_MAX + 1,
            ..message("lt/1/xa-a/presence")
        };
        assert!(!rules().may_publish("xa-a", large));
        let exactly_once = Message {
            qos: 2,
            ..message("lt/1/xa-a/up")
        };
        assert!(!rules().may_publish("xa-a", exactly_once));
    }

    #[test]
    fn a_will_is_a_presence_of_ones_own() {
        for (client_id, topic, allowed) in [
            ("xa-a", "lt/1/xa-a/presence", true),
            ("xa-a", "lt/1/xa-a/up", false),
            ("xa-a", "lt/1/xa-b/presence", false),
            ("trucd", "lt/1/xa-a/down", false),
        ] {
            let found = rules().may_leave_as_will(client_id, message(topic));
            assert_eq!(found, allowed, "{client_id} on {topic}");
        }
    }

    #[test]
    fn subscribing() {
        for (client_id, filter, shared, allowed) in [
            ("xa-a", "lt/1/xa-a/down", false, true),
            ("xa-a", "lt/1/xa-a/down", true, false),
            ("xa-a", "lt/1/xa-b/down", false, false),
            ("xa-a", "lt/1/xa-a/up", false, false),
            ("xa-a", "lt/1/xa-a/#", false, false),
            ("xa-a", "lt/1/+/down", false, false),
            ("xa-a", "lt/1/#", false, false),
            ("xa-a", "#", false, false),
            ("trucd", "lt/1/#", false, true),
            ("trucd", "lt/1/+/up", true, true),
            ("trucd/2", "lt/1/+/presence", false, true),
            ("trucd", "#", false, false),
            ("trucd", "$SYS/#", false, false),
            ("trucd", "lt/#", false, false),
        ] {
            assert_eq!(
                rules().may_subscribe(client_id, filter, shared),
                allowed,
                "{client_id} to {filter}, shared {shared}"
            );
        }
    }
}
