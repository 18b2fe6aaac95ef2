//! The box changes its key: makes a new one beside the old, proves the hub's certificate for it by
//! connecting with it, and only then uses both.
//!
//! What has been done stands in the folders of `generations`, so after a crash each command is met
//! again where it was: a key that was made is the same key, a certificate that counts is through.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Orders;
use super::obey::Outcome;
use crate::edge::generations::{Generations, Pair};
use crate::edge::identity::{Own, signing_key};
use crate::edge::link::{Trial, Verdict};
use crate::engine::sending::Level;
use crate::evidence::{CurrentKey, KeyClaim, SigningKey};
use crate::model::order::NewKey;
use crate::model::{MonoMs, UnixMs};
use crate::store::orders::CommandState;

/// A certificate that the hub has turned away so often is given up.
const REFUSALS_MAX: u32 = 5;
/// Between a trial that proved nothing and the next one.
const TRIAL_AGAIN_MS: MonoMs = 30_000;

/// What it takes to change the key of the running daemon.
pub struct Rotation {
    pub generations: Generations,
    /// What signs.
    pub signing: CurrentKey,
    /// To the link.
    pub trials: mpsc::Sender<Trial>,
    tries: Mutex<Tries>,
}

/// What came of the trials of this process.
#[derive(Default)]
struct Tries {
    refusals: u32,
    /// Why a pair was given up, and which.
    given_up: Option<(u64, String)>,
    again_at_ms: MonoMs,
}

impl Rotation {
    pub fn new(
        generations: Generations,
        signing: CurrentKey,
        trials: mpsc::Sender<Trial>,
    ) -> Rotation {
        Rotation {
            generations,
            signing,
            trials,
            tries: Mutex::default(),
        }
    }

    fn tries(&self) -> MutexGuard<'_, Tries> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pair that is to be proved.
pub(super) struct ToProve {
    pair: Pair,
    own: Own,
    is_desperate: bool,
}

/// How a certificate from the hub stands.
pub(super) enum Certificate {
    Settled(Outcome),
    ToProve(Box<ToProve>),
    /// It is tried again after a while.
    Waits,
}

impl Orders {
    /// Makes the new key, or finds the one that waits, and says what it is.
    pub(super) fn new_key(&self, order: &str) -> Outcome {
        let made = self.rotation.generations.make();
        let made = made.map_err(|error| error.to_string());
        let read = |pair: Pair| signing_key(&pair.key).map_err(|fault| fault.message_en);
        match made.and_then(read) {
            Ok(key) => {
                let public_key = key.public_key();
                let claim = KeyClaim {
                    box_id: &self.config.box_id,
                    order,
                    public_key: &public_key,
                };
                let new = NewKey {
                    public_key: BASE64.encode(public_key.as_bytes()),
                    signature: BASE64.encode(key.sign(&claim)),
                };
                Outcome::new(CommandState::Done, json!(new).to_string())
            }
            Err(error) => {
                tracing::error!(error, "a new key cannot be made");
                let why = format!("không tạo được khóa mới: {error} / no new key can be made");
                Outcome::new(CommandState::Failed, why)
            }
        }
    }

    /// Holds a certificate from the hub against the key that it is to be for.
    pub(super) fn take_certificate(&self, pem: &str, now: UnixMs) -> Certificate {
        let generations = &self.rotation.generations;
        let in_force = generations.in_force();
        if std::fs::read_to_string(&in_force.certificate).is_ok_and(|text| text == pem) {
            let certificate = format!("identity/{}", in_force.number);
            return Certificate::Settled(Outcome::new(CommandState::Done, certificate));
        }
        let failed = |why: &str| {
            tracing::warn!(
                why,
                "a certificate from the hub is not used; the present one stays"
            );
            Certificate::Settled(Outcome::new(CommandState::Failed, why))
        };
        let Some(pair) = generations.candidate() else {
            return match self.rotation.tries().given_up.take() {
                Some((_, why)) => failed(&why),
                None => failed("không có khóa của chứng thư này / no key of it is here"),
            };
        };
        if self.clock.mono_ms() < self.rotation.tries().again_at_ms {
            return Certificate::Waits;
        }
        let present = Own::load(&self.config, &self.clock, &in_force);
        let is_desperate = present.is_ok_and(|own| own.identity.check(now).is_err());
        if let Err(error) = generations.put_certificate(&pair, pem) {
            tracing::warn!(%error, "the new certificate cannot be written; tried again");
            return Certificate::Waits;
        }
        let own = Own::load(&self.config, &self.clock, &pair);
        let unfit = match &own {
            Ok(own) => own.identity.check(now).err().map(|fault| fault.to_string()),
            Err(fault) => Some(fault.message_en.clone()),
        };
        match (unfit, own) {
            (None, Ok(own)) => Certificate::ToProve(Box::new(ToProve {
                pair,
                own,
                is_desperate,
            })),
            (unfit, _) => {
                // The hub would send the same certificate for the same key.
                generations.discard(pair.number);
                failed(&unfit.unwrap_or_default())
            }
        }
    }

    /// Connects with the new pair, and uses it when the hub lets it in; true when something is to be
    /// told.
    pub(super) async fn prove(&self, to_prove: ToProve) -> bool {
        let ToProve {
            pair,
            own,
            is_desperate,
        } = to_prove;
        let (verdict, heard) = oneshot::channel();
        let trial = Trial {
            tls: own.identity.config,
            is_desperate,
            verdict,
        };
        let heard = match self.rotation.trials.send(trial).await {
            Ok(()) => heard.await.unwrap_or(Verdict::Unknown),
            Err(_) => Verdict::Unknown,
        };
        match heard {
            Verdict::LetIn => self.take_over(pair, own.signing_key).await,
            Verdict::Refused(reason) => {
                let mut tries = self.rotation.tries();
                tries.refusals += 1;
                tracing::warn!(%reason, "the hub does not let the new certificate in");
                if tries.refusals < REFUSALS_MAX {
                    return false;
                }
                self.rotation.generations.discard(pair.number);
                *tries = Tries {
                    given_up: Some((pair.number, format!("trục từ chối / refused: {reason}"))),
                    ..Tries::default()
                };
                true
            }
            Verdict::Unknown => false,
        }
    }

    async fn take_over(&self, pair: Pair, key: SigningKey) -> bool {
        let generations = self.rotation.generations.clone();
        let number = pair.number;
        let switched = tokio::task::spawn_blocking(move || generations.switch(&pair)).await;
        match switched {
            Ok(Ok(())) => {
                *self.rotation.tries() = Tries::default();
                self.rotation.signing.replace(key);
                tracing::info!(number, "the box uses its new key and certificate");
                let detail = format!("identity/{number}");
                let intake = self.door.intake();
                intake.note(Level::Info, "key_changed", detail).await;
                true
            }
            Ok(Err(error)) => {
                let again_at_ms = self.clock.mono_ms() + TRIAL_AGAIN_MS;
                self.rotation.tries().again_at_ms = again_at_ms;
                tracing::error!(%error, "the new certificate cannot take over; tried again");
                false
            }
            Err(_) => false,
        }
    }
}
