//! Files that documents name, on their way down: which box is to have which, decided in the
//! transaction that posts the document, and told when one will not come.

use super::answers::Answer;
use crate::model::down::{Down, FileNews};
use crate::model::order::{FILE_WANTED, has_applied};
use crate::model::record::Attachment;
use crate::model::{BoxId, UnixMs};
use crate::store::StoreError;
use crate::store::hub::HubStore;

/// A document for these boxes names these files.
pub(super) fn want<'a>(
    store: &mut HubStore,
    boxes: impl Iterator<Item = &'a BoxId>,
    files: &[Attachment],
    now: UnixMs,
) -> Result<(), StoreError> {
    for box_id in boxes {
        for file in files {
            if let Ok(digest) = file.sha256.parse() {
                store.want_file(box_id, digest, now)?;
            }
        }
    }
    Ok(())
}

/// Tells boxes of the files that were found to be unsound.
pub(super) fn refuse(store: &mut HubStore, now: UnixMs) -> Result<(), StoreError> {
    for (box_id, sha256) in store.refuse_files(now)? {
        let news = Down::File(FileNews {
            sha256,
            state: "quarantined".to_owned(),
            at: now,
        });
        let bytes = serde_json::to_vec(&news).expect("an entry holds only what JSON can say");
        store.post(&box_id, news.lane(), &bytes, now)?;
    }
    Ok(())
}

/// Takes a box's word that it lacks a file which was sent to it.
pub(super) fn hear(
    store: &mut HubStore,
    box_id: &BoxId,
    answer: &Answer,
    now: UnixMs,
) -> Result<(), StoreError> {
    if answer.loai != FILE_WANTED {
        return Ok(());
    }
    if let Ok(digest) = answer.ma.parse() {
        store.want_file_again(box_id, digest, has_applied(&answer.chi_tiet), now)?;
    }
    Ok(())
}
