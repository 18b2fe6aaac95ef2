//! The retained messages: each box's presence and nothing else.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rmqtt::Result;
use rmqtt::retain::{DefaultRetainStorage, RetainStorage};
use rmqtt::types::{Retain, TopicFilter, TopicName};

use super::access::{PRESENCE_BYTES_MAX, is_presence};

/// Most boxes whose presence is kept; of more, the new ones are not.
const PRESENCES_MAX: isize = 10_000;

#[derive(Default)]
pub struct PresenceStore(DefaultRetainStorage);

#[async_trait]
impl RetainStorage for PresenceStore {
    fn enable(&self) -> bool {
        true
    }

    /// A presence stands until the next one, so the broker's expiry of messages is not for it.
    async fn set(
        &self,
        topic: &TopicName,
        mut retain: Retain,
        _expiry: Option<Duration>,
    ) -> Result<()> {
        let known = || async {
            self.0
                .get_message(topic)
                .await
                .is_ok_and(|found| !found.is_empty())
        };
        let small = retain.publish.payload.len() <= PRESENCE_BYTES_MAX;
        if is_presence(topic) && small && (self.0.count().await < PRESENCES_MAX || known().await) {
            // A copy, so that what is kept does not count as waiting for the hub.
            retain.publish.payload = Bytes::copy_from_slice(&retain.publish.payload);
            self.0.set_with_timeout(topic, retain, None).await?;
        }
        Ok(())
    }

    async fn get(&self, filter: &TopicFilter) -> Result<Vec<(TopicName, Retain)>> {
        self.0.get_message(filter).await
    }

    async fn count(&self) -> isize {
        self.0.count().await
    }

    async fn max(&self) -> isize {
        PRESENCES_MAX
    }
}
