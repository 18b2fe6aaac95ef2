//! Files that documents name, on their way down: which box is to have which, decided in the
//! transaction that posts the document, and told when one will not come.

use serde::Deserialize;

use crate::model::chunk::Digest;
use crate::model::down::{Down, FileNews};
use crate::model::order::{ANSWERS, FILE_WANTED};
use crate::model::record::{Attachment, Entry};
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

/// A box's word that it lacks a file.
#[derive(Deserialize)]
struct Wanted {
    thiet_bi: BoxId,
    loai: String,
    ma: Digest,
}

/// Takes a box's word that it lacks a file which was sent to it.
pub(super) fn hear(
    store: &mut HubStore,
    box_id: &BoxId,
    entry: &Entry<'_>,
    now: UnixMs,
) -> Result<(), StoreError> {
    if entry.kind.dataset.as_str() != ANSWERS {
        return Ok(());
    }
    let Ok(wanted) = serde_json::from_str::<Wanted>(entry.data.get()) else {
        return Ok(());
    };
    if wanted.loai == FILE_WANTED && wanted.thiet_bi == *box_id {
        store.want_file_again(box_id, wanted.ma, now)?;
    }
    Ok(())
}
