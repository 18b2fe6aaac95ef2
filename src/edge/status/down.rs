//! What the status says of what comes down: copies, the inbox and its ways out, commands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::edge::config::inbox::{InboxConfig, InboxKind};
use crate::edge::inbox::files::received_pieces;
use crate::edge::status::Stamp;
use crate::model::chunk::pieces;
use crate::model::{DatasetId, UnixMs};
use crate::store::StoreError;
use crate::store::copies::compare::ComparedRow;
use crate::store::down_status::{CommandFacts, CopyFacts, DownFacts, DownView};
use crate::store::files::{FileFacts, FileRow};

/// A command's result is told up to so many characters; `tramd audit` has all of it.
const DETAIL_CHARS_MAX: usize = 120;

/// What this box holds of the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownStatus {
    /// When entries last came.
    pub heard: Option<Stamp>,
    /// Applied since the file was begun.
    pub entries: u64,
    /// Kept for a newer program, which may understand them.
    pub unknown: u64,
    /// Entries that the hub no longer held; it has been asked to load again.
    pub lost: u64,
    pub used_bytes: u64,
    /// What the file suffers from; none while it works.
    pub trouble: Option<String>,
    /// By dataset.
    #[serde(default)]
    pub copies: Vec<CopyStatus>,
    /// How the logs were last compared with the hub's.
    #[serde(default)]
    pub logs_compared: Option<ComparedStatus>,
    #[serde(default)]
    pub inbox: InboxStatus,
    #[serde(default)]
    pub files: FilesStatus,
    /// The last ones, newest first.
    #[serde(default)]
    pub commands: Vec<CommandStatus>,
}

/// A dataset of others that this office may read, or might.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyStatus {
    pub dataset: DatasetId,
    /// When the hub last said something of it, by the hub's clock.
    pub as_of: Stamp,
    /// Subjects that the copy holds; after a withdrawal those that are still to be deleted.
    pub subjects: u64,
    /// The load that goes on: how many of the hub's subjects it has looked at; none when all are here.
    pub load: Option<LoadStatus>,
    /// The right has ended: nothing of it can be read.
    pub withdrawn: bool,
    /// How it was last compared with what the hub has; none: not yet.
    #[serde(default)]
    pub compared: Option<ComparedStatus>,
}

/// How a comparison with the hub has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComparedStatus {
    pub at: Stamp,
    /// `equal`, `mended`, `reloaded`, `unsettled`, `failed` or `differs`.
    pub result: String,
    /// Of 256 parts of the copy, those that differed; of the logs, how many.
    pub buckets: u64,
    /// Subjects that were sent again.
    pub subjects: u64,
}

impl ComparedStatus {
    fn of(row: ComparedRow) -> ComparedStatus {
        ComparedStatus {
            at: Stamp(row.at),
            result: row.result,
            buckets: row.buckets,
            subjects: row.subjects,
        }
    }

    /// Whether a person ought to know.
    pub fn is_alarming(&self) -> bool {
        ["failed", "differs"].contains(&self.result.as_str())
    }

    /// Vietnamese.
    pub fn words(&self) -> String {
        let what = match self.result.as_str() {
            "equal" => "khớp với trục".to_owned(),
            "mended" => format!("đã tự sửa {} hồ sơ", self.subjects),
            "reloaded" => "lệch nhiều, nạp lại toàn bộ".to_owned(),
            "unsettled" => "khớp, trừ phần đang thay đổi liên tục".to_owned(),
            _ => "còn lệch với trục".to_owned(),
        };
        format!("đối chiếu {}: {what}", self.at)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadStatus {
    pub seen: u64,
    pub of: u64,
}

/// Documents that are addressed to this office.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxStatus {
    /// That the office's software has not taken over.
    pub unread: u64,
    /// When the oldest of them came.
    pub oldest: Option<Stamp>,
    pub oldest_s: u64,
    /// The unread ones by the highest status that was said of each.
    pub by_status: BTreeMap<String, u64>,
    /// Statuses of this office's that are not yet on their way to the sender.
    pub unsaid: u64,
    /// The `[[inbox]]` of the configuration.
    pub ways: Vec<WayStatus>,
}

/// Files that come with documents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesStatus {
    /// That documents name and that are not whole yet.
    pub coming: u64,
    /// Bytes of these that have not come.
    pub coming_bytes: u64,
    /// When the oldest document came that lacks one.
    pub oldest: Option<Stamp>,
    pub kept: u64,
    /// Bytes that files take here.
    pub used_bytes: u64,
    /// For which there is no room.
    pub full: u64,
    /// That the hub keeps back, because they did not pass its check.
    pub refused: u64,
    /// Some of those that are coming, oldest first.
    pub under_way: Vec<FileStatus>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatus {
    pub sha256: String,
    pub bytes: u64,
    /// `waiting`, `receiving`, `checking`, `lost` or `full`.
    pub state: String,
    pub chunks: u64,
    pub received_chunks: u64,
}

/// How documents go to the office's software.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayStatus {
    pub name: String,
    /// `folder` or `http`.
    pub kind: String,
    pub waiting: u64,
    /// Of these, tried in vain.
    pub failed: u64,
    pub last: Option<Stamp>,
    /// When it is tried again, and why it failed.
    pub retry: Option<Stamp>,
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandStatus {
    pub id: String,
    pub name: String,
    pub by: String,
    /// `waiting`, `begun`, `done`, `failed`, `expired`, `refused` or `unknown`.
    pub state: String,
    pub received: Stamp,
    /// Of the state.
    pub since: Stamp,
    /// The beginning of what came of it.
    pub detail: String,
}

impl DownStatus {
    /// Reads all of it from the store of the downlink; none where nothing ever came.
    pub fn read(
        view: &DownView,
        ways: &[InboxConfig],
        now: UnixMs,
    ) -> Result<Option<DownStatus>, StoreError> {
        let Some(facts) = view.facts()? else {
            return Ok(None);
        };
        let mut status = DownStatus::of(facts, now);
        for way in ways {
            let facts = view.way(way.name.as_str())?;
            let kind = match way.kind {
                InboxKind::Folder { .. } => "folder",
                InboxKind::Http(_) => "http",
            };
            status.inbox.ways.push(WayStatus {
                name: way.name.to_string(),
                kind: kind.to_owned(),
                waiting: facts.waiting,
                failed: facts.failed,
                last: facts.last.map(Stamp),
                retry: facts.retry.map(Stamp),
                error: facts.error,
            });
        }
        Ok(Some(status))
    }

    /// Of a store that cannot be read.
    pub fn unreadable() -> DownStatus {
        DownStatus::of(DownFacts::default(), UnixMs(0))
    }

    fn of(facts: DownFacts, now: UnixMs) -> DownStatus {
        let age_ms = facts.inbox.oldest.map_or(0, |oldest| now.0 - oldest.0);
        DownStatus {
            heard: facts.heard.map(Stamp),
            entries: facts.entries,
            unknown: facts.unknown,
            lost: facts.lost,
            used_bytes: facts.used_bytes,
            trouble: None,
            copies: facts.copies.into_iter().map(copy).collect(),
            logs_compared: facts.logs_compared.map(ComparedStatus::of),
            inbox: InboxStatus {
                unread: facts.inbox.open,
                oldest: facts.inbox.oldest.map(Stamp),
                oldest_s: u64::try_from(age_ms / 1_000).unwrap_or(0),
                by_status: facts.inbox.by_status,
                unsaid: facts.inbox.unsaid,
                ways: Vec::new(),
            },
            files: files(facts.files),
            commands: facts.commands.into_iter().map(command).collect(),
        }
    }

    /// Commands that are not through.
    pub fn pending(&self) -> u64 {
        let is_pending = |command: &&CommandStatus| command.is_pending();
        self.commands.iter().filter(is_pending).count() as u64
    }
}

impl CommandStatus {
    pub fn is_pending(&self) -> bool {
        ["waiting", "begun"].contains(&self.state.as_str())
    }

    /// Vietnamese and English.
    pub fn state_words(&self) -> [&'static str; 2] {
        match self.state.as_str() {
            "waiting" => ["đang chờ", "waiting"],
            "begun" => ["đang làm", "begun"],
            "done" => ["đã làm xong", "done"],
            "failed" => ["không làm được", "failed"],
            "expired" => ["quá hạn", "expired"],
            "refused" => ["bị từ chối", "refused"],
            _ => ["phiên bản này chưa có lệnh này", "unknown"],
        }
    }
}

fn files(facts: FileFacts) -> FilesStatus {
    let file = |row: &FileRow| FileStatus {
        sha256: row.digest.to_string(),
        bytes: row.bytes,
        state: row.state.as_str().to_owned(),
        chunks: pieces(row.bytes),
        received_chunks: received_pieces(Some(row)),
    };
    FilesStatus {
        coming: facts.coming,
        coming_bytes: facts.coming_bytes,
        oldest: facts.oldest.map(Stamp),
        kept: facts.kept,
        used_bytes: facts.bytes,
        full: facts.full,
        refused: facts.refused,
        under_way: facts.under_way.iter().map(file).collect(),
    }
}

fn copy(facts: CopyFacts) -> CopyStatus {
    let load = LoadStatus {
        seen: facts.seen,
        of: facts.subjects,
    };
    CopyStatus {
        dataset: facts.dataset,
        as_of: Stamp(facts.as_of),
        subjects: facts.held,
        load: (!facts.complete && !facts.withdrawn).then_some(load),
        withdrawn: facts.withdrawn,
        compared: facts.compared.map(ComparedStatus::of),
    }
}

fn command(facts: CommandFacts) -> CommandStatus {
    // Some results are a whole status in JSON, which is for the hub.
    let is_json = facts.detail.starts_with(['{', '[']);
    let detail = facts.detail.chars().take(DETAIL_CHARS_MAX);
    CommandStatus {
        id: facts.id,
        name: facts.name,
        by: facts.by,
        state: facts.state,
        received: Stamp(facts.received),
        since: Stamp(facts.since),
        detail: if is_json {
            String::new()
        } else {
            detail.collect()
        },
    }
}
