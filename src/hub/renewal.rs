//! Certificates of boxes, renewed in good time: the hub orders a new key when two thirds of a
//! certificate's life are over, issues a certificate for the key that the box has made, and sends it
//! down. What then becomes of the old key, the engine decides when the new one has signed.
//!
//! Nothing is timed: at every look the wall clock is held against each certificate's end, so a clock
//! that jumps over a moment misses nothing. An order that is not answered is given again.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use crate::evidence::{KeyClaim, PublicKey, SigningKey, sha256};
use crate::hub::authority::{Authority, CERTIFICATE_LIFE_MS};
use crate::hub::config::{CLIENT_NAME, Config};
use crate::hub::orders::{Wish, give_one, send_due, signing_key};
use crate::hub::registry;
use crate::model::order::{NewKey, ROTATE_KEY, USE_CERTIFICATE};
use crate::model::{BoxId, UnixMs};
use crate::store::hub::keys::{NewKeyRow, RotationRow};
use crate::store::hub::rights::AuditRow;
use crate::store::hub::{BoxState, HubStore};
use crate::store::hub_view::{BoxRow, Snapshot};

const DAY_MS: i64 = 86_400_000;
/// With less than this left, a certificate is renewed.
pub const RENEW_BEFORE_MS: i64 = CERTIFICATE_LIFE_MS / 3;
/// Boxes that were registered together are not ordered together.
const SPREAD_MS: i64 = 7 * DAY_MS;
/// An order that nobody has answered holds so long; the box may be off line.
const ORDER_LIFE_MS: i64 = 30 * DAY_MS;
/// After an order that came to nothing the next one waits so long, and up to as much again.
const RETRY_MS: i64 = 6 * 3_600_000;
/// Orders given at one look.
const ORDERS_MAX: usize = 20;

/// One look: what boxes have said, then which certificates are due.
pub fn look_after(config: &Config, now: UnixMs) -> anyhow::Result<()> {
    let (said, due) = {
        let view = registry::open_view(config)?;
        let snapshot = view.snapshot()?;
        let rotations = snapshot.rotations()?;
        let due = due(&snapshot, &rotations, now)?;
        let said: Vec<_> = rotations
            .into_iter()
            .filter(|row| row.answer.is_some())
            .collect();
        (said, due)
    };
    if said.is_empty() && due.is_empty() {
        return Ok(());
    }
    let key = signing_key(config)?;
    let mut store = registry::open(config)?;
    for row in said {
        answer(config, &mut store, &key, &row, now)
            .with_context(|| format!("the new key of box {}", row.box_id))?;
    }
    store.begin()?;
    for box_id in due {
        let wish = Wish {
            box_id: None,
            name: ROTATE_KEY,
            arguments: "{}".to_owned(),
            expires: UnixMs(now.0 + ORDER_LIFE_MS),
            by: CLIENT_NAME,
        };
        give_one(&mut store, &key, &box_id, &wish, now)?;
        tracing::info!(%box_id, "the box's certificate is to be renewed; a new key was ordered");
    }
    send_due(&mut store, now)?;
    Ok(store.commit()?)
}

/// The boxes to be ordered a new key now.
fn due(
    snapshot: &Snapshot<'_>,
    rotations: &[RotationRow],
    now: UnixMs,
) -> anyhow::Result<Vec<BoxId>> {
    let boxes = snapshot.boxes()?.into_iter();
    let due = boxes.filter(|known| {
        let last = rotations.iter().find(|row| row.box_id == known.box_id);
        is_due(known, last, now)
    });
    Ok(due.take(ORDERS_MAX).map(|known| known.box_id).collect())
}

fn is_due(known: &BoxRow, last: Option<&RotationRow>, now: UnixMs) -> bool {
    let left_ms = known.not_after.0 - now.0;
    let spread_ms = spread(&known.box_id, 0, SPREAD_MS);
    if known.state != BoxState::Active || RENEW_BEFORE_MS - spread_ms <= left_ms {
        return false;
    }
    let Some(last) = last else {
        return true;
    };
    let pause_ms = RETRY_MS + spread(&known.box_id, last.tries, RETRY_MS);
    match last.state.as_str() {
        // It is on its way, or the box has the certificate and proves it.
        "ordered" | "offered" if now < last.expires && last.ordered <= now => false,
        _ => !(last.ordered.0..last.ordered.0 + pause_ms).contains(&now.0),
    }
}

/// Between 0 and `most`, another one for each box and try.
fn spread(box_id: &BoxId, tries: u32, most: i64) -> i64 {
    let digest = sha256(format!("{box_id} {tries}").as_bytes());
    let number = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    i64::from(number) * most / i64::from(u32::MAX)
}

/// Issues a certificate for a box's new key and orders the box to use it; or notes why not.
fn answer(
    config: &Config,
    store: &mut HubStore,
    key: &SigningKey,
    row: &RotationRow,
    now: UnixMs,
) -> anyhow::Result<()> {
    store.begin()?;
    let issued = match read_key(store, row)? {
        Ok(public_key) => issue(config, store, row, &public_key, now)?,
        Err(why) => Err(why),
    };
    let (state, detail) = match issued {
        Ok(certificate) => {
            let wish = Wish {
                box_id: None,
                name: USE_CERTIFICATE,
                arguments: json!({ "certificate": certificate }).to_string(),
                expires: UnixMs(now.0 + ORDER_LIFE_MS),
                by: CLIENT_NAME,
            };
            give_one(store, key, &row.box_id, &wish, now)?;
            send_due(store, now)?;
            ("offered", String::new())
        }
        Err(why) => {
            tracing::warn!(box_id = %row.box_id, why, "no certificate was issued");
            store.add_audit(&AuditRow {
                at: now,
                who: CLIENT_NAME.to_owned(),
                action: "certificate_refused".to_owned(),
                detail: format!("{} {} {why}", row.box_id, row.order),
            })?;
            ("failed", why)
        }
    };
    store.set_rotation(&row.box_id, state, &detail)?;
    Ok(store.commit()?)
}

/// The key that a box has made, when it was made for this order, and for nobody else.
fn read_key(store: &HubStore, row: &RotationRow) -> anyhow::Result<Result<PublicKey, String>> {
    let box_id = &row.box_id;
    let known = store.box_key(box_id)?;
    if known.is_none_or(|known| known.state != BoxState::Active) {
        return Ok(Err("the box is suspended or revoked".to_owned()));
    }
    let said: Option<NewKey> = row
        .answer
        .as_ref()
        .and_then(|answer| serde_json::from_str(answer).ok());
    let read = said.and_then(|said| {
        let point = BASE64.decode(said.public_key).ok()?;
        let signature = BASE64.decode(said.signature).ok()?;
        Some((
            PublicKey::from_bytes(&point).ok()?,
            signature.try_into().ok()?,
        ))
    });
    let Some((public_key, signature)) = read else {
        return Ok(Err("the answer holds no key".to_owned()));
    };
    let claim = KeyClaim {
        box_id,
        order: &row.order,
        public_key: &public_key,
    };
    if public_key.verify(&claim, &signature).is_err() {
        return Ok(Err(
            "the key was not made by this box for this order".to_owned()
        ));
    }
    Ok(Ok(public_key))
}

/// The certificate of the key; the same again when it was issued for this box before.
fn issue(
    config: &Config,
    store: &mut HubStore,
    row: &RotationRow,
    public_key: &PublicKey,
    now: UnixMs,
) -> anyhow::Result<Result<String, String>> {
    let point = public_key.as_bytes();
    let known = store.key_row(point)?;
    if let Some(known) = &known
        && known.box_id == row.box_id
        && known.state == "offered"
    {
        return Ok(Ok(known.certificate.clone()));
    }
    if known.is_some() || store.is_registered(point)? {
        return Ok(Err("this key was used before".to_owned()));
    }
    let authority = Authority::open(&config.folder)?;
    let certified = authority.certify(row.box_id.as_str(), point, now)?;
    let new = NewKeyRow {
        public_key: point,
        serial: &certified.serial,
        certificate: &certified.cert_pem,
        not_after: certified.not_after,
    };
    let is_new = store.offer_key(&row.box_id, &new, now)?;
    anyhow::ensure!(is_new, "the key was registered by somebody else just now");
    store.add_audit(&AuditRow {
        at: now,
        who: CLIENT_NAME.to_owned(),
        action: "certificate_issued".to_owned(),
        detail: format!("{} {} {}", row.box_id, row.order, certified.serial),
    })?;
    Ok(Ok(certified.cert_pem))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::config::{FILE_NAME, load};
    use crate::hub::init::{Plan, init};
    use crate::hub::registry::{NewBoxPlan, add, set_state};

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    struct Rig {
        _folder: tempfile::TempDir,
        config: Config,
        box_id: BoxId,
    }

    impl Rig {
        fn new() -> Rig {
            let folder = tempfile::tempdir().unwrap();
            let plan = Plan {
                folder: folder.path().join("hub"),
                name: "truc.tinh.example".to_owned(),
                listen: "127.0.0.1:8883".parse().unwrap(),
                names: Vec::new(),
            };
            init(&plan, NOW).unwrap();
            let config = load(&plan.folder.join(FILE_NAME)).unwrap();
            let box_id: BoxId = "xa-tan-bien".parse().unwrap();
            let new = NewBoxPlan {
                box_id: box_id.clone(),
                agency: "H53.12".parse().unwrap(),
                out: None,
                addresses: Vec::new(),
            };
            add(&config, &new, NOW).unwrap();
            Rig {
                _folder: folder,
                config,
                box_id,
            }
        }

        fn look(&self, days: i64) {
            look_after(&self.config, UnixMs(NOW.0 + days * DAY_MS)).unwrap();
        }

        fn rotation(&self) -> Option<RotationRow> {
            let view = registry::open_view(&self.config).unwrap();
            view.snapshot().unwrap().rotations().unwrap().pop()
        }

        /// The state of the order after the box has said this key for it.
        fn said(&self, claimed: &BoxId, order: &str, key: &SigningKey) -> (String, String) {
            let public_key = key.public_key();
            let claim = KeyClaim {
                box_id: claimed,
                order,
                public_key: &public_key,
            };
            let new = NewKey {
                public_key: BASE64.encode(public_key.as_bytes()),
                signature: BASE64.encode(key.sign(&claim)),
            };
            let mut store = registry::open(&self.config).unwrap();
            let row = self.rotation().unwrap();
            store
                .note_new_key(&self.box_id, &row.order, &json!(new).to_string())
                .unwrap();
            self.look(500);
            let row = self.rotation().unwrap();
            (row.state, row.detail)
        }
    }

    fn key() -> SigningKey {
        SigningKey::from_pkcs8(&SigningKey::generate()).unwrap()
    }

    #[test]
    fn it_is_ordered_when_two_thirds_are_over_and_again_after_a_pause() {
        let rig = Rig::new();
        rig.look(0);
        rig.look(480);
        assert_eq!(rig.rotation(), None);
        rig.look(500);
        let first = rig.rotation().unwrap();
        assert_eq!((first.state.as_str(), first.tries), ("ordered", 1));
        rig.look(501);
        rig.look(529);
        assert_eq!(
            rig.rotation().unwrap().order,
            first.order,
            "it is on its way"
        );
        rig.look(531);
        let second = rig.rotation().unwrap();
        assert_ne!(second.order, first.order, "nobody has answered");
        let mut store = registry::open(&rig.config).unwrap();
        store.fail_rotation(&rig.box_id, "thử").unwrap();
        rig.look(531);
        assert_eq!(rig.rotation().unwrap().order, second.order);
        rig.look(532);
        assert_eq!(rig.rotation().unwrap().tries, 3);
        // A clock that was set back leaves nobody waiting for a day that is far.
        rig.look(510);
        assert_eq!(rig.rotation().unwrap().tries, 4);
        set_state(&rig.config, &rig.box_id, BoxState::Suspended).unwrap();
        rig.look(600);
        assert_eq!(rig.rotation().unwrap().tries, 4, "it is suspended");
    }

    #[test]
    fn only_a_key_that_the_box_has_made_for_this_order_is_certified() {
        let rig = Rig::new();
        rig.look(500);
        let order = rig.rotation().unwrap().order;
        let (good, other) = (key(), "xa-khac".parse().unwrap());
        let failed = |found: (String, String), word: &str| {
            assert_eq!(found.0, "failed");
            assert!(found.1.contains(word), "{}", found.1);
        };
        failed(rig.said(&other, &order, &good), "not made by this box");
        failed(rig.said(&rig.box_id, "0123", &good), "not made by this box");
        assert_eq!(rig.said(&rig.box_id, &order, &good).0, "offered");
        // The same key again is the same certificate; used once, it is no new key.
        let certificate = || {
            let store = registry::open(&rig.config).unwrap();
            let row = store.key_row(good.public_key().as_bytes()).unwrap();
            row.map(|row| row.certificate)
        };
        let first = certificate();
        assert_eq!(rig.said(&rig.box_id, &order, &good).0, "offered");
        assert_eq!(certificate(), first);
        let mut store = registry::open(&rig.config).unwrap();
        let point = *good.public_key().as_bytes();
        store.promote_key(&rig.box_id, &point, NOW).unwrap();
        store
            .note_rotation(&rig.box_id, &order, UnixMs(i64::MAX), NOW)
            .unwrap();
        failed(rig.said(&rig.box_id, &order, &good), "used before");
        set_state(&rig.config, &rig.box_id, BoxState::Suspended).unwrap();
        failed(rig.said(&rig.box_id, &order, &key()), "suspended");
    }
}
