//! `trucd attachments`: what the hub holds of the files that records name, the way to one of them, and
//! whether those that are kept are what their digests say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::evidence::Hasher;
use crate::hub::attachments::{fault_of, kept_path};
use crate::hub::commands::arguments::{AttachmentsArgs, AttachmentsCommand, GetArgs, ListArgs};
use crate::hub::config::Config;
use crate::hub::status::Stamp;
use crate::hub::{grants, registry};
use crate::model::UnixMs;
use crate::model::chunk::{Digest, pieces};
use crate::model::record::Entry;
use crate::store::StoreError;
use crate::store::hub::blobs::BlobState;
use crate::store::hub::rights::AuditRow;
use crate::store::hub_view::blobs::{BlobRow, received_pieces};
use crate::store::hub_view::{HubView, Snapshot, log_of, seq_of};

/// Records and boxes that are named with a file.
const NAMED_MAX: usize = 20;
const PIECE_BYTES: usize = 256 * 1024;

pub fn run(config: &Config, args: AttachmentsArgs, now: UnixMs) -> anyhow::Result<()> {
    match args.command {
        Some(AttachmentsCommand::Get(get)) => take_out(config, get, now),
        None => list(config, &args.list),
    }
}

/// A line each, because there may be many.
fn list(config: &Config, args: &ListArgs) -> anyhow::Result<()> {
    let state = match args.state.as_deref() {
        None => None,
        Some(text) => match BlobState::parse(text) {
            Some(state) => Some(state),
            None => bail!(
                "{text:?} is no state; one of: {}",
                BlobState::ALL.map(BlobState::as_str).join(", ")
            ),
        },
    };
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let mut out = BufWriter::new(io::stdout().lock());
    snapshot.for_each_blob::<anyhow::Error>(args.box_id.as_ref(), state, |blob| {
        let records = records(&snapshot, blob.digest)?;
        let boxes = snapshot.blob_ways(blob.digest)?;
        if args.json {
            let boxes: Vec<Value> = boxes
                .iter()
                .map(|way| {
                    json!({
                        "box": way.box_id, "state": way.state,
                        "queued_chunks": way.queued.div_ceil(CHUNK), "since": Stamp(way.since),
                    })
                })
                .collect();
            let line = json!({
                "sha256": blob.digest, "bytes": blob.bytes, "mime": blob.mime,
                "state": blob.state, "detail": blob.detail, "box": blob.box_id,
                "chunks": pieces(blob.bytes), "received_chunks": received_pieces(&blob),
                "first": Stamp(blob.first), "changed": Stamp(blob.changed),
                "records": records, "to": boxes,
            });
            writeln!(out, "{line}")?;
            return Ok(());
        }
        writeln!(
            out,
            "{} {} byte {} {} {} {}",
            blob.digest,
            blob.bytes,
            state_text(&blob),
            blob.box_id,
            blob.mime,
            blob.detail
        )?;
        for record in &records {
            writeln!(
                out,
                "  ← {} {} {} ({})",
                text(record, "dataset"),
                text(record, "agency"),
                text(record, "subject"),
                text(record, "entry")
            )?;
        }
        for way in &boxes {
            let chunks = pieces(blob.bytes);
            let queued = way.queued.div_ceil(CHUNK).min(chunks);
            writeln!(out, "  → {} {} {queued}/{chunks}", way.box_id, way.state)?;
        }
        Ok(())
    })?;
    Ok(out.flush()?)
}

const CHUNK: u64 = crate::model::limits::CHUNK_BYTES_MAX as u64;

fn text<'a>(record: &'a Value, name: &str) -> &'a str {
    record[name].as_str().unwrap_or_default()
}

fn state_text(blob: &BlobRow) -> String {
    let (received, chunks) = (received_pieces(blob), pieces(blob.bytes));
    format!(
        "{} ({received} trên {chunks} đoạn / {received} of {chunks} chunks)",
        blob.state.as_str()
    )
}

/// The records that name a file, as far as they can be read.
fn records(snapshot: &Snapshot<'_>, digest: Digest) -> Result<Vec<Value>, StoreError> {
    let mut records = Vec::new();
    for place in snapshot.blob_places(digest, NAMED_MAX)? {
        let (log, seq) = (log_of(place), seq_of(place));
        let Some(bytes) = snapshot.entry(log, seq)? else {
            continue;
        };
        if let Ok(entry) = Entry::parse(&bytes) {
            records.push(json!({
                "entry": format!("{log}/{seq}"),
                "dataset": entry.kind.dataset,
                "agency": entry.agency,
                "subject": entry.subject,
            }));
        }
    }
    Ok(records)
}

/// Copies a kept file out, and writes down who has it now.
fn take_out(config: &Config, args: GetArgs, now: UnixMs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let blob = view.snapshot()?.blob(args.sha256)?;
    let Some(blob) = blob else {
        bail!(
            "the hub knows no attachment {}; see trucd attachments",
            args.sha256
        );
    };
    ensure!(
        blob.state == BlobState::Kept,
        "attachment {} is not to be had: {}",
        blob.digest,
        state_text(&blob)
    );
    let by = grants::caller(args.by);
    // Written down first: nobody has the file and is not in the audit.
    registry::open(config)?.add_audit(&AuditRow {
        at: now,
        who: by,
        action: "take_out".to_owned(),
        detail: format!("{} {} byte", blob.digest, blob.bytes),
    })?;
    copy_sound(
        &kept_path(&config.store.path, blob.digest),
        &args.to,
        blob.digest,
    )?;
    println!("{}: {} byte", args.to.display(), blob.bytes);
    Ok(())
}

/// Copies a file whose digest is found right on the way; else nothing is left.
fn copy_sound(from: &Path, to: &Path, digest: Digest) -> anyhow::Result<()> {
    let mut from = File::open(from).context("the kept content cannot be read")?;
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .with_context(|| format!("cannot create {}", to.display()))?;
    let mut copy = || -> anyhow::Result<()> {
        let mut hasher = Hasher::default();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match from.read(&mut piece)? {
                0 => break,
                length => {
                    hasher.update(&piece[..length]);
                    file.write_all(&piece[..length])?;
                }
            }
        }
        file.sync_all()?;
        ensure!(
            hasher.finish() == digest,
            "the kept content has another digest; restore it from a backup"
        );
        Ok(())
    };
    copy().inspect_err(|_| {
        // What is left of it would be taken for the file.
        let _ = fs::remove_file(to);
    })
}

/// Computes the digest of every kept file anew.
pub fn verify(config: &Config, view: &HubView, as_json: bool) -> anyhow::Result<ExitCode> {
    let store = &config.store.path;
    let (mut files, mut bytes, mut faults) = (0_u64, 0_u64, 0_u64);
    let mut kept = Vec::new();
    // Names first, so that the hub's log is not held open while files are read.
    view.snapshot()?
        .for_each_blob::<StoreError>(None, Some(BlobState::Kept), |blob| {
            kept.push((blob.digest, blob.bytes));
            Ok(())
        })?;
    for (digest, length) in kept {
        files += 1;
        bytes += length;
        if let Some(fault) = fault_of(store, digest)? {
            faults += 1;
            if as_json {
                println!("{}", json!({ "fault": fault, "sha256": digest }));
            }
            eprintln!("trucd: attachment {digest}: {fault}");
        }
    }
    match as_json {
        true => println!(
            "{}",
            json!({ "attachments": files, "bytes": bytes, "damaged": faults })
        ),
        false => println!(
            "Tệp đính kèm: {files} tệp, {bytes} byte, {faults} hỏng / attachments: {files} files, {bytes} \
             bytes, {faults} damaged"
        ),
    }
    Ok(match faults {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
