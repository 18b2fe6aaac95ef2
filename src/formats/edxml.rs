//! Electronic documents and their status packets: edXML of QCVN 102:2016/BTTTT.
//!
//! The document's header becomes the fields of a record, its attachments come out byte for byte,
//! and its signature stays as it is written. Nothing is expanded: a document type definition is
//! refused, and so is every entity that XML itself does not know.

mod mapping;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt::Write as _;

use crate::formats::{Fault, Faults, excerpt, place_of};
use tree::{Node, Tree};

/// The namespace of documents.
pub const NAMESPACE: &str = "http://www.mic.gov.vn/TBT/QCVN_102_2016";
/// Largest document, bytes.
pub const FILE_BYTES_MAX: usize = 48 * 1024 * 1024;

/// What a document says.
#[derive(Debug)]
pub struct Document {
    /// The record of the dataset of electronic documents, as JSON.
    pub record: String,
    /// In the order of the document's own list.
    pub attachments: Vec<File>,
    pub notes: Vec<Note>,
}

/// An attachment as its sender had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    pub mime: String,
    pub bytes: Vec<u8>,
    /// SHA-256 of the content, 64 hexadecimal digits.
    pub sha256: String,
}

/// What was tolerated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Bytes before the XML declaration.
    Rubbish(usize),
    /// A kind of document that the archive's list does not name.
    UnknownType(String),
    /// A status that nobody has described.
    UnknownStatus(String),
    /// An attachment that the document's own list does not name.
    NotListed(String),
}

impl Note {
    pub fn message_vi(&self) -> String {
        match self {
            Note::Rubbish(bytes) => {
                format!("bỏ qua {bytes} byte thừa trước khai báo XML; tệp gốc được giữ nguyên")
            }
            Note::UnknownType(name) => {
                format!("loại văn bản “{name}” không có trong danh mục, ghi là loại khác (32)")
            }
            Note::UnknownStatus(code) => format!("trạng thái chưa biết {code}"),
            Note::NotListed(name) => {
                format!("tệp đính kèm “{name}” không có trong danh sách của văn bản, vẫn được giữ")
            }
        }
    }

    pub fn message_en(&self) -> String {
        match self {
            Note::Rubbish(bytes) => format!(
                "{bytes} bytes before the XML declaration are skipped; the original is kept"
            ),
            Note::UnknownType(name) => format!(
                "the document type {name:?} is not in the catalogue and counts as another (32)"
            ),
            Note::UnknownStatus(code) => format!("unknown status {code}"),
            Note::NotListed(name) => {
                format!("the attachment {name:?} is not in the document's list, and is kept")
            }
        }
    }
}

/// Reads a document whole, or says what is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Document, Faults> {
    let mut notes = Vec::new();
    let text = text_of(bytes, &mut notes)?;
    let Tree { root, files } = tree::read(&text)?;
    let envelope = root.find("edXMLEnvelope").unwrap_or(&root);
    let Some(header) = envelope.child("edXMLHeader") else {
        return Err(fault(
            "không có phần tử edXMLHeader, đây không phải là văn bản edXML",
            "there is no element edXMLHeader: this is no edXML document",
        )
        .into());
    };
    let attachments = attached(&root, files, &mut notes)?;
    let record = mapping::record(header, &attachments, &mut notes)?;
    Ok(Document {
        record,
        attachments,
        notes,
    })
}

/// The document's text from its first sign on; letters stay as they are written.
fn text_of(bytes: &[u8], notes: &mut Vec<Note>) -> Result<String, Fault> {
    let wide = |rest: &[u8], unit: fn([u8; 2]) -> u16| -> Option<String> {
        let (pairs, rest) = rest.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        rest.is_empty().then(|| String::from_utf16(&units).ok())?
    };
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        return wide(rest, u16::from_le_bytes).ok_or_else(not_text);
    }
    if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
        return wide(rest, u16::from_be_bytes).ok_or_else(not_text);
    }
    let own = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let declaration = own.windows(5).position(|window| window == b"<?xml");
    let begins = |from: usize| own[from..].trim_ascii_start().first() == Some(&b'<');
    let start = match declaration {
        Some(start) => start,
        None if begins(0) => 0,
        None => {
            return Err(fault(
                "tệp không phải là XML: không thấy khai báo <?xml",
                "the file is no XML: there is no declaration <?xml",
            ));
        }
    };
    if !own[..start].trim_ascii().is_empty() {
        notes.push(Note::Rubbish(start));
    }
    let text = std::str::from_utf8(&own[start..]).map_err(|_| not_text())?;
    Ok(text.trim_start().to_owned())
}

fn not_text() -> Fault {
    fault(
        "văn bản edXML phải là UTF-8 (hoặc UTF-16 có dấu đầu tệp); hãy xuất lại từ phần mềm quản lý văn bản",
        "an edXML document must be UTF-8 (or UTF-16 with a byte order mark); export it again",
    )
}

/// A fault of the whole document.
fn fault(message_vi: &str, message_en: &str) -> Fault {
    Fault {
        line: 1,
        column: 1,
        message_vi: message_vi.to_owned(),
        message_en: message_en.to_owned(),
    }
}

fn fault_at(text: &str, mut at: usize, message_vi: String, message_en: String) -> Fault {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (line, column) = place_of(text, at);
    Fault {
        line,
        column,
        message_vi,
        message_en,
    }
}

/// Brings the files that were unpacked and the document's own list of them together.
fn attached(
    root: &Node,
    mut files: Vec<tree::Unpacked>,
    notes: &mut Vec<Note>,
) -> Result<Vec<File>, Faults> {
    let mut attachments = Vec::new();
    let mut faults = Faults::default();
    let manifest = root.find("edXMLManifest");
    for reference in manifest
        .into_iter()
        .flat_map(|manifest| manifest.all("Reference"))
    {
        let id = plain_id(reference.text("ContentId").unwrap_or_default());
        let found = files.iter().position(|file| plain_id(&file.id) == id);
        let Some(found) = found else {
            let name = excerpt(reference.text("AttachmentName").unwrap_or(id));
            faults.push_with(|| {
                fault(
                    &format!("thiếu nội dung của tệp đính kèm “{name}” nêu trong danh sách; hãy gửi lại văn bản đầy đủ"),
                    &format!("the content of the listed attachment {name:?} is missing; send the document whole"),
                )
            });
            continue;
        };
        let file = files.remove(found);
        attachments.push(of_file(file, Some(reference)));
    }
    for file in files {
        let file = of_file(file, None);
        notes.push(Note::NotListed(excerpt(&file.name)));
        attachments.push(file);
    }
    faults.or(attachments)
}

fn of_file(file: tree::Unpacked, reference: Option<&Node>) -> File {
    let listed = |name: &str| reference.and_then(|reference| reference.text(name));
    let name = [
        Some(file.name.as_str()),
        listed("AttachmentName"),
        Some(&file.id),
    ]
    .into_iter()
    .flatten()
    .find(|name| !name.is_empty())
    .unwrap_or("dinh-kem");
    let mime = [Some(file.mime.as_str()), listed("ContentType")]
        .into_iter()
        .flatten()
        .find(|mime| !mime.is_empty())
        .unwrap_or("application/octet-stream");
    File {
        name: safe_name(name),
        mime: mime.chars().take(100).collect(),
        sha256: sha256_hex(&file.bytes),
        bytes: file.bytes,
    }
}

fn plain_id(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix("cid:").unwrap_or(id)
}

/// A name without folders and control characters.
pub fn safe_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name).trim();
    let clean: String = name.chars().filter(|c| !c.is_control()).take(255).collect();
    match clean.as_str() {
        "" | "." | ".." => "dinh-kem".to_owned(),
        _ => clean,
    }
}

fn sha256_hex(content: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, content);
    digest
        .as_ref()
        .iter()
        .fold(String::with_capacity(64), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("writing to memory");
            hex
        })
}
