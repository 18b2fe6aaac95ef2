//! A box changes its key: what it says of it, and the first batch that the new one has signed.
//!
//! From the moment that a certificate is issued until the box has used it, both keys count. The first
//! batch under the new one ends the old, in the transaction that keeps the batch: what was signed
//! before and comes again is offered anew by the box, under the key that it has then.

use super::HubEngine;
use super::effect::Effect;
use crate::engine::answers::Answer;
use crate::evidence::PublicKey;
use crate::model::order::{ROTATE_KEY, USE_CERTIFICATE};
use crate::model::{BoxId, Now};
use crate::store::StoreError;
use crate::store::hub::HubStore;
use crate::store::hub::rights::AuditRow;

/// Kind of an answer to a command.
const COMMAND: &str = "lenh";
/// Longest word of a box about why it failed.
const DETAIL_CHARS_MAX: usize = 500;

impl HubEngine {
    /// The box has signed with a key that it was offered.
    pub(super) fn change_key(
        &mut self,
        now: Now,
        box_id: &BoxId,
        key: &PublicKey,
    ) -> Result<(), StoreError> {
        self.store.promote_key(box_id, key.as_bytes(), now.wall)?;
        self.store.add_audit(&AuditRow {
            at: now.wall,
            who: box_id.to_string(),
            action: "key_changed".to_owned(),
            detail: box_id.to_string(),
        })?;
        self.effects.push(Effect::KeyChanged {
            box_id: box_id.clone(),
        });
        Ok(())
    }
}

/// Notes what a box answers to the commands by which its key changes.
pub(super) fn hear(
    store: &mut HubStore,
    box_id: &BoxId,
    answer: &Answer,
) -> Result<(), StoreError> {
    if answer.loai != COMMAND {
        return Ok(());
    }
    let is_done = answer.trang_thai == "done";
    match answer.ten.as_str() {
        ROTATE_KEY if is_done => store.note_new_key(box_id, &answer.ma, &answer.chi_tiet),
        USE_CERTIFICATE if is_done => Ok(()),
        ROTATE_KEY | USE_CERTIFICATE => {
            let detail = answer.chi_tiet.chars().take(DETAIL_CHARS_MAX);
            let detail: String = detail.collect();
            store.fail_rotation(box_id, &format!("{}: {detail}", answer.trang_thai))
        }
        _ => Ok(()),
    }
}
