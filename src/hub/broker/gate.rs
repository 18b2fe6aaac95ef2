//! The access rule at rmqtt's hooks, and the bound on what waits for the hub.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rmqtt::codec::v5::{PublishAckReason, SubscribeAckReason};
use rmqtt::hook::{Handler, HookResult, Parameter, ReturnType};
use rmqtt::session::Session;
use rmqtt::types::{
    AuthResult, ConnectInfo, From as Sender, FromType, Publish, PublishAclResult, PublishResult,
    Reason, Subscribe, SubscribeAclResult,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::{Message, Rules, is_from_box};
use super::door::Links;
use super::{MayConnect, Shown};

/// How long a box is held back while the hub's waiting messages are full, before it is refused.
const FULL_WAIT: Duration = Duration::from_secs(5);
/// What a waiting message takes beside its payload, about.
const MESSAGE_OVERHEAD_BYTES: usize = 1024;
/// Where a message goes that must reach nobody. Hooks before the access rule can change a message
/// but not refuse it; nobody may subscribe to this topic or publish on it.
const NOWHERE: &str = "$nowhere";
const REMEMBERED_REFUSALS_MAX: usize = 4096;
const LOGGED_TOPIC_CHARS_MAX: usize = 80;

pub struct Gate {
    rules: Rules,
    may_connect: MayConnect,
    links: Arc<Links>,
    /// Free bytes for messages that wait for the hub.
    waiting: Arc<Semaphore>,
    /// What was refused and logged already.
    refused: Mutex<HashSet<(String, Deed)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Deed {
    Connect,
    Publish,
    Subscribe,
}

/// The gate as rmqtt calls it.
pub struct GateHandler(pub Arc<Gate>);

/// A payload that gives its bytes back to the bound when its last copy is gone.
struct Waiting {
    payload: Bytes,
    _bytes: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Gate {
    pub fn new(
        rules: Rules,
        may_connect: MayConnect,
        links: Arc<Links>,
        waiting_bytes_max: usize,
    ) -> Gate {
        Gate {
            rules,
            may_connect,
            links,
            waiting: Arc::new(Semaphore::new(waiting_bytes_max)),
            refused: Mutex::default(),
        }
    }

    /// Lets a client in, or says why not.
    fn admit(&self, info: &ConnectInfo) -> Result<(), String> {
        let inner = info.id().remote_addr.ok_or("its socket is unknown")?;
        let shown = self
            .links
            .guest_of(inner)
            .ok_or("it did not come through the door")?;
        self.admit_as(&shown, info)
            .inspect_err(|why| self.log_refusal(&shown.name, Deed::Connect, why))?;
        self.links.admit(inner);
        self.forget_refusals(&shown.name);
        Ok(())
    }

    fn admit_as(&self, guest: &Shown, info: &ConnectInfo) -> Result<(), String> {
        let name = guest.name.as_str();
        let ConnectInfo::V5(id, connect) = info else {
            return Err("it does not speak MQTT 5".into());
        };
        if !self.rules.may_use_client_id(name, &id.client_id) {
            return Err("its client id is not its common name".into());
        }
        if let Some(will) = &connect.last_will {
            let message = Message {
                topic: &will.topic,
                retain: will.retain,
                qos: will.qos.value(),
                bytes: will.message.len(),
            };
            if !self.rules.may_leave_as_will(name, message) {
                return Err(format!(
                    "its last will is not allowed on {}",
                    shown(&will.topic)
                ));
            }
        }
        match self.rules.is_hub(name) {
            // The hub's own certificate is no box's, and nobody waits for it to be renewed.
            true if guest.has_ended => Err("the hub's own certificate has ended".into()),
            true => Ok(()),
            false if (self.may_connect)(guest) => Ok(()),
            false => Err("the registry does not let it connect".into()),
        }
    }

    /// Changes a message before the access rule sees it, where that is needed.
    async fn on_message(
        &self,
        session: &Session,
        from: &Sender,
        publish: &Publish,
    ) -> Option<Publish> {
        if matches!(from.typ(), FromType::LastWill) {
            // The client lives on in the connection that took over; its will would call it dead.
            return was_taken_over(session).await.then(|| nowhere(publish));
        }
        if !is_from_box(&publish.topic) || !self.allows(session, publish) {
            return None;
        }
        let bytes = u32::try_from(publish.payload.len() + MESSAGE_OVERHEAD_BYTES).ok()?;
        let permit =
            tokio::time::timeout(FULL_WAIT, self.waiting.clone().acquire_many_owned(bytes));
        Some(match permit.await {
            Ok(Ok(permit)) => {
                let mut held = publish.clone();
                held.payload = Bytes::from_owner(Waiting {
                    payload: publish.payload.clone(),
                    _bytes: permit,
                });
                held
            }
            _ => nowhere(publish),
        })
    }

    fn check_publish(&self, session: &Session, publish: &Publish) -> PublishAclResult {
        if publish.topic == NOWHERE {
            tracing::debug!(client = %session.id.client_id, "message refused: too much waits for the hub");
            let full = "too much waits for the hub".into();
            PublishAclResult(PublishResult::reason_code(
                PublishAckReason::QuotaExceeded,
                Some(full),
                false,
            ))
        } else if self.allows(session, publish) {
            PublishAclResult::allow()
        } else {
            self.log_refusal(&session.id.client_id, Deed::Publish, &shown(&publish.topic));
            PublishAclResult::rejected(false, Some("not authorised".into()))
        }
    }

    fn allows(&self, session: &Session, publish: &Publish) -> bool {
        let message = Message {
            topic: &publish.topic,
            retain: publish.retain,
            qos: publish.qos.value(),
            bytes: publish.payload.len(),
        };
        self.rules.may_publish(&session.id.client_id, message)
    }

    fn check_subscribe(&self, session: &Session, subscribe: &Subscribe) -> SubscribeAclResult {
        let client_id = &session.id.client_id;
        let shared = subscribe.opts.has_shared_group();
        if self
            .rules
            .may_subscribe(client_id, &subscribe.topic_filter, shared)
        {
            SubscribeAclResult::new_success(subscribe.opts.qos(), None)
        } else {
            self.log_refusal(client_id, Deed::Subscribe, &shown(&subscribe.topic_filter));
            SubscribeAclResult::new_failure(SubscribeAckReason::NotAuthorized)
        }
    }

    /// Logs a kind of refusal once until the client comes in anew.
    fn log_refusal(&self, client: &str, deed: Deed, detail: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REMEMBERED_REFUSALS_MAX {
            refused.clear();
        }
        if refused.insert((client.to_owned(), deed)) {
            tracing::warn!(client, ?deed, detail, "refused; repeats are not logged");
        }
    }

    fn forget_refusals(&self, client: &str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|(name, _)| name != client);
    }
}

#[async_trait]
impl Handler for GateHandler {
    async fn hook(&self, parameter: &Parameter, before: Option<HookResult>) -> ReturnType {
        let gate = &self.0;
        match parameter {
            Parameter::ClientAuthenticate(info) => {
                let verdict = match gate.admit(info) {
                    Ok(()) => AuthResult::Allow(false, None),
                    Err(_) => AuthResult::NotAuthorized,
                };
                (false, Some(HookResult::AuthResult(verdict)))
            }
            Parameter::ClientSubscribeCheckAcl(session, subscribe) => (
                false,
                Some(HookResult::SubscribeAclResult(
                    gate.check_subscribe(session, subscribe),
                )),
            ),
            Parameter::MessagePublish(Some(session), from, publish) => (
                false,
                gate.on_message(session, from, publish)
                    .await
                    .map(HookResult::Publish),
            ),
            Parameter::MessagePublishCheckAcl(session, publish) => (
                false,
                Some(HookResult::PublishAclResult(
                    gate.check_publish(session, publish),
                )),
            ),
            Parameter::ClientDisconnected(session, reason) => {
                tracing::debug!(client = %session.id.client_id, %reason, "client disconnected");
                (true, before)
            }
            _ => (true, before),
        }
    }
}

async fn was_taken_over(session: &Session) -> bool {
    let reasons = session.disconnected_reasons().await.unwrap_or_default();
    reasons
        .iter()
        .any(|reason| matches!(reason, Reason::ConnectKicked(false)))
}

fn nowhere(publish: &Publish) -> Publish {
    let mut nowhere = publish.clone();
    nowhere.topic = NOWHERE.into();
    nowhere.retain = false;
    nowhere
}

fn shown(topic: &str) -> String {
    topic
        .chars()
        .take(LOGGED_TOPIC_CHARS_MAX)
        .collect::<String>()
        .escape_debug()
        .to_string()
}
