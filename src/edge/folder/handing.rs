//! Hands a group of files to the engine together, so that one commit takes them.

use std::io;
use std::pin::Pin;
use std::task::Poll;

use crate::edge::door::{Door, short_digest};
use crate::edge::folder::FolderSource;
use crate::edge::folder::files::{Found, Verdict};
use crate::edge::folder::reading::Refused;
use crate::engine::sending::{Answer, NewRecord, Submission};
use crate::model::SourceName;
use crate::store::edge::OnceKey;
use crate::store::rows::Beside;

/// Files of one group.
const GROUP_FILES: usize = 128;
/// Bytes of files that are in memory together; one file may be as large as the limit.
const GROUP_BYTES: u64 = 4 * 1024 * 1024;

pub(super) type Job = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What became of one file's records.
pub(in crate::edge) enum Outcome {
    Verdict(Verdict),
    /// Something that passes by itself: full lane, closed store.
    Later,
    /// A record names an attachment that is to be put first.
    Waits,
    /// The file changed while it was read.
    Changed,
    Unreadable,
    /// The network share is gone for now.
    Away(io::Error),
}

pub(in crate::edge) async fn submit(
    door: &Door,
    source: &FolderSource,
    records: Vec<NewRecord>,
    once: OnceKey,
) -> Outcome {
    let count = records.len() as u64;
    let submission = Submission {
        reply: (),
        source: source.name.clone(),
        records,
        once: Some(once),
        cursor: None,
        beside: Beside::default(),
    };
    match door.intake().submit(submission).await {
        Ok(Answer::Stored { .. }) => Outcome::Verdict(Verdict::Done),
        Ok(Answer::NoAttachment { .. }) => Outcome::Waits,
        Ok(Answer::LaneFull(_)) | Err(_) => Outcome::Later,
        Ok(Answer::OtherContent { index }) => {
            refuse(door, source, Refused::other_content(index, count)).await
        }
        Ok(Answer::TooLarge { index, bytes }) => {
            refuse(door, source, Refused::record_too_large(index, bytes, count)).await
        }
    }
}

pub(in crate::edge) async fn refuse(
    door: &Door,
    source: &FolderSource,
    refused: Refused,
) -> Outcome {
    let Refused {
        reason,
        records,
        summary,
        refusal,
        ..
    } = refused;
    match refusal {
        Some(refusal) => {
            door.refused(&source.name, &source.dataset, records, &refusal)
                .await;
        }
        None => {
            door.intake()
                .refused(source.name.clone(), records, summary)
                .await;
        }
    }
    Outcome::Verdict(Verdict::Refused(reason))
}

/// The key that makes a repeat of the same file harmless.
pub(super) fn once_key(source: &SourceName, name: &str, sha256_hex: &str) -> OnceKey {
    OnceKey {
        key: short_digest(&["file", source.as_str(), name, sha256_hex]),
        digest: short_digest(&[sha256_hex]),
    }
}

/// Splits files into groups that are small enough to be in memory together.
pub(super) fn groups(files: Vec<Found>) -> Vec<Vec<Found>> {
    let mut groups: Vec<Vec<Found>> = Vec::new();
    let mut bytes = 0;
    for found in files {
        bytes += found.print.bytes;
        match groups.last_mut() {
            Some(group) if group.len() < GROUP_FILES && bytes <= GROUP_BYTES => group.push(found),
            _ => {
                bytes = found.print.bytes;
                groups.push(vec![found]);
            }
        }
    }
    groups
}

/// Waits for all. They are polled in their order, and the intake's queue is fair, so the engine
/// meets them in their order too.
pub(super) async fn join(mut jobs: Vec<Job>) -> Vec<Outcome> {
    let mut results: Vec<Option<Outcome>> = jobs.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (job, result) in jobs.iter_mut().zip(&mut results) {
            if result.is_none() {
                match job.as_mut().poll(context) {
                    Poll::Ready(value) => *result = Some(value),
                    Poll::Pending => all = false,
                }
            }
        }
        if all { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}
