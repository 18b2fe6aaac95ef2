//! Electronic documents: the record, and the attachments that it names.

use base64::Engine as _;
use serde_json::value::RawValue;

use crate::edge::blobs::BlobError;
use crate::edge::door::Incoming;
use crate::edge::folder::reading::{File, Refused, Wrong, unreadable};
use crate::engine::sending::NewRecord;
use crate::evidence::sha256;
use crate::formats::edxml::{self, Document, Note};
use crate::model::limits::ENTRY_BYTES_MAX;
use crate::model::record::{Attachment, Op};

/// What an entry has beside its data and its original, at most.
const ENVELOPE_BYTES: usize = 8 * 1024;

impl File<'_> {
    /// The record of a document. Its attachments are on the disk when this returns; they stay there
    /// if the record is refused later, and are found there when the document comes again.
    pub(super) fn document(
        &self,
        notes: &mut Vec<String>,
    ) -> Result<Result<Vec<NewRecord>, Refused>, BlobError> {
        let Document {
            record,
            attachments: files,
            notes: tolerated,
        } = match edxml::parse(self.bytes) {
            Ok(document) => document,
            Err(faults) => return Ok(Err(unreadable(&faults))),
        };
        notes.extend(tolerated.iter().filter_map(note));
        let mut attachments: Vec<Attachment> = files
            .iter()
            .map(|file| Attachment {
                name: file.name.clone(),
                mime: file.mime.clone(),
                bytes: file.bytes.len() as u64,
                sha256: file.sha256.clone(),
                original: false,
            })
            .collect();
        // The document as it came proves its signature: in the entry, or as one more attachment.
        let original = base64::engine::general_purpose::STANDARD.encode(self.bytes);
        let names_bytes: usize = attachments.iter().map(|file| file.name.len() + 200).sum();
        let fits = record.len() + original.len() + names_bytes + ENVELOPE_BYTES <= ENTRY_BYTES_MAX;
        if !fits {
            attachments.push(Attachment {
                name: self.name.to_owned(),
                mime: "application/xml".to_owned(),
                bytes: self.bytes.len() as u64,
                sha256: sha256(self.bytes)
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                original: true,
            });
        }
        let data = RawValue::from_string(record).expect("a document's record is JSON");
        let incoming = Incoming {
            data: &data,
            op: Op::Upsert,
            original: fits.then_some(original.as_str()),
            id: None,
        };
        let admitted =
            self.door
                .admit_attached(self.dataset, &self.source.name, incoming, &attachments);
        let record = match admitted {
            Ok((record, _)) => record,
            Err(refusal) => {
                let mut wrong = Wrong::default();
                wrong.add_refusal(0, || 1, refusal);
                return Ok(Err(wrong.refused(1)));
            }
        };
        for file in &files {
            self.door.blobs().put(&file.bytes)?;
        }
        if !fits {
            self.door.blobs().put(self.bytes)?;
        }
        Ok(Ok(vec![record]))
    }
}

/// What a technician should mend at its source; names of files may say whom a document is about.
fn note(note: &Note) -> Option<String> {
    match note {
        Note::Rubbish(_) => {
            Some("có byte thừa trước khai báo XML, đã bỏ qua; tệp gốc được giữ nguyên".to_owned())
        }
        Note::UnknownType(_) | Note::UnknownStatus(_) => Some(note.message_vi()),
        Note::NotListed(_) => None,
    }
}
