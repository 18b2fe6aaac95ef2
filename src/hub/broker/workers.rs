//! Which of the hub's workers gets a message of a shared subscription: always the same one for a
//! topic, as long as the workers stay, so that a box's messages keep their order.

use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use rmqtt::context::ServerContext;
use rmqtt::subscribe::SharedSubscription;
use rmqtt::types::{
    ClientId, Id, IsOnline, NodeId, SharedGroup, SubscriptionIdentifier, SubscriptionOptions,
    TopicName,
};

pub struct StickyWorkers;

#[async_trait]
impl SharedSubscription for StickyWorkers {
    fn is_supported(&self) -> bool {
        true
    }

    async fn choice(
        &self,
        _context: &ServerContext,
        _group: &SharedGroup,
        _publisher: &Id,
        topic: &TopicName,
        workers: &[(
            NodeId,
            ClientId,
            SubscriptionOptions,
            Option<Vec<SubscriptionIdentifier>>,
            Option<IsOnline>,
        )],
    ) -> Option<(usize, IsOnline)> {
        workers
            .iter()
            .enumerate()
            .filter(|(_, worker)| worker.4 == Some(true))
            .max_by_key(|(_, worker)| weight(&worker.1, topic))
            .map(|(index, _)| (index, true))
    }
}

/// Rendezvous hashing: when a worker goes, only its own topics move.
fn weight(worker: &str, topic: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (worker, topic).hash(&mut hasher);
    hasher.finish()
}
