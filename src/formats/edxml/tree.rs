//! XML to a small tree: elements with their texts, attachments decoded on the way, the signature
//! kept as it is written.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use unicode_normalization::UnicodeNormalization;

use crate::formats::edxml::{NAMESPACE, fault, fault_at};
use crate::formats::{Fault, excerpt};

/// The namespace that one supplier wrote by mistake.
const MISTAKEN: &str = "http://www.go.vn/eDoc";
const DEPTH_MAX: usize = 40;
const NODES_MAX: usize = 20_000;
/// Most bytes of text outside of attachments.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An element: its name without prefix, its own text, its elements.
#[derive(Debug, Default)]
pub struct Node {
    pub name: String,
    /// In NFC, without outer spaces; of a signature, the element as it is written.
    pub content: String,
    pub children: Vec<Node>,
}

/// A file as it stands in the document.
#[derive(Debug, Default)]
pub struct Unpacked {
    pub id: String,
    pub name: String,
    pub mime: String,
    pub bytes: Vec<u8>,
}

pub struct Tree {
    pub root: Node,
    pub files: Vec<Unpacked>,
}

impl Node {
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Node> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// The first element of this name at any depth.
    pub fn find(&self, name: &str) -> Option<&Node> {
        let mut inside = self.children.iter();
        self.child(name)
            .or_else(|| inside.find_map(|child| child.find(name)))
    }

    /// The text of an element inside, if it has any.
    pub fn text(&self, name: &str) -> Option<&str> {
        let text = self.child(name)?.content.as_str();
        (!text.is_empty()).then_some(text)
    }
}

/// Reads a document; its text is not changed.
pub fn read(text: &str) -> Result<Tree, Fault> {
    let mut reader = NsReader::from_str(text);
    let mut builder = Builder::new(text);
    loop {
        let before = offset(&reader);
        let event = reader.read_resolved_event();
        let (namespace, event) = event.map_err(|error| {
            // Signs that begin something and never end it.
            if matches!(error, quick_xml::Error::Syntax(_)) {
                return builder.cut_off();
            }
            let why = excerpt(&error.to_string());
            fault_at(
                text,
                before,
                format!("XML không đúng: {why}"),
                format!("the XML is not well formed: {why}"),
            )
        })?;
        let is_ours = match namespace {
            ResolveResult::Bound(namespace) => check(namespace.as_ref(), text, before)?,
            ResolveResult::Unbound | ResolveResult::Unknown(_) => false,
        };
        match event {
            Event::Start(start) if start.local_name().as_ref() == "Signature" => {
                let end = start.to_end().into_owned();
                reader
                    .read_to_end(end.name())
                    .map_err(|_| builder.cut_off())?;
                let after = offset(&reader);
                builder.leaf("Signature", text[before..after].to_owned(), before)?;
            }
            Event::Start(start) => builder.open(&start, is_ours, before)?,
            Event::Empty(start) => {
                builder.open(&start, is_ours, before)?;
                builder.close(before)?;
            }
            Event::End(_) => builder.close(before)?,
            Event::Text(content) => builder.text(&content.xml10_content(), before)?,
            Event::CData(content) => builder.text(&content.into_inner(), before)?,
            Event::GeneralRef(reference) => {
                let name = reference.clone().into_inner();
                let letter = match reference.resolve_char_ref() {
                    Ok(Some(letter)) => Some(letter.to_string()),
                    _ => quick_xml::escape::resolve_predefined_entity(&name).map(str::to_owned),
                };
                let letter = letter.ok_or_else(|| no_entities(text, before))?;
                builder.text(&letter, before)?;
            }
            Event::DocType(_) => return Err(no_entities(text, before)),
            Event::Eof => return builder.finish(),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
        }
    }
}

fn offset(reader: &NsReader<&[u8]>) -> usize {
    usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX)
}

/// Whether an element is of the regulation's namespace; the mistaken one is refused.
fn check(namespace: &str, text: &str, at: usize) -> Result<bool, Fault> {
    if namespace.trim_end_matches('/') == MISTAKEN {
        return Err(fault_at(
            text,
            at,
            format!(
                "văn bản dùng không gian tên {MISTAKEN} không theo quy chuẩn; yêu cầu nhà cung cấp phần mềm sửa thành {NAMESPACE} (QCVN 102:2016/BTTTT)"
            ),
            format!(
                "the document is in the namespace {MISTAKEN}, which is not the regulation's; ask the supplier to write {NAMESPACE} (QCVN 102:2016/BTTTT)"
            ),
        ));
    }
    Ok(namespace == NAMESPACE)
}

fn no_entities(text: &str, at: usize) -> Fault {
    fault_at(
        text,
        at,
        "văn bản có DTD hoặc thực thể riêng; vì an toàn, trạm không nhận".to_owned(),
        "the document has a DTD or entities of its own, which are refused for safety".to_owned(),
    )
}

/// The tree while it grows.
struct Builder<'t> {
    source: &'t str,
    /// Elements that are open, outermost first.
    open: Vec<Node>,
    root: Option<Node>,
    files: Vec<Unpacked>,
    /// Base64 of the file in hand.
    encoded: Vec<u8>,
    nodes: usize,
    text_bytes: usize,
    is_ours: bool,
}

impl<'t> Builder<'t> {
    fn new(source: &'t str) -> Builder<'t> {
        Builder {
            source,
            open: Vec::new(),
            root: None,
            files: Vec::new(),
            encoded: Vec::new(),
            nodes: 0,
            text_bytes: 0,
            is_ours: false,
        }
    }

    fn open(&mut self, start: &BytesStart<'_>, is_ours: bool, at: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if DEPTH_MAX <= self.open.len() || NODES_MAX < self.nodes {
            return Err(self.too_large(at));
        }
        self.is_ours |= is_ours;
        self.open.push(Node {
            name: start.local_name().as_ref().to_owned(),
            ..Node::default()
        });
        Ok(())
    }

    fn leaf(&mut self, name: &str, content: String, at: usize) -> Result<(), Fault> {
        self.nodes += 1;
        self.text_bytes += content.len();
        if TEXT_BYTES_MAX < self.text_bytes {
            return Err(self.too_large(at));
        }
        let node = Node {
            name: name.to_owned(),
            content,
            children: Vec::new(),
        };
        match self.open.last_mut() {
            Some(above) => above.children.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn is_file(&self) -> bool {
        let mut names = self.open.iter().rev().map(|node| node.name.as_str());
        names.next() == Some("ContentTransferEncoded") && names.next() == Some("Attachment")
    }

    fn text(&mut self, text: &str, at: usize) -> Result<(), Fault> {
        if self.is_file() {
            let letters = text.bytes().filter(|byte| !byte.is_ascii_whitespace());
            self.encoded.extend(letters);
            return Ok(());
        }
        self.text_bytes += text.len();
        if TEXT_BYTES_MAX < self.text_bytes {
            return Err(self.too_large(at));
        }
        if let Some(node) = self.open.last_mut() {
            node.content.push_str(text);
        }
        Ok(())
    }

    fn close(&mut self, at: usize) -> Result<(), Fault> {
        let is_file = self.is_file();
        let Some(mut node) = self.open.pop() else {
            return Err(self.cut_off());
        };
        node.content = node.content.trim().nfc().collect();
        if is_file {
            let encoded = std::mem::take(&mut self.encoded);
            let bytes = BASE64.decode(&encoded).map_err(|_| {
                fault_at(
                    self.source,
                    at,
                    "nội dung tệp đính kèm không phải Base64; tệp hỏng hoặc bị cắt cụt".to_owned(),
                    "an attachment's content is not Base64: damaged or cut off".to_owned(),
                )
            })?;
            self.files.push(Unpacked {
                bytes,
                ..Unpacked::default()
            });
        }
        if node.name == "Attachment"
            && node.child("ContentTransferEncoded").is_some()
            && let Some(file) = self.files.last_mut()
        {
            let text = |name: &str| node.text(name).unwrap_or_default().to_owned();
            file.id = text("ContentId");
            file.name = text("AttachmentName");
            file.mime = text("ContentType");
        }
        match self.open.last_mut() {
            Some(above) => above.children.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn finish(self) -> Result<Tree, Fault> {
        let cut_off = self.cut_off();
        match self.root {
            Some(root) if self.open.is_empty() && self.is_ours => Ok(Tree {
                root,
                files: self.files,
            }),
            Some(_) if self.open.is_empty() => Err(fault(
                &format!(
                    "văn bản không dùng không gian tên {NAMESPACE} của QCVN 102:2016/BTTTT; hãy kiểm tra phần mềm xuất văn bản"
                ),
                &format!(
                    "the document is not in the namespace {NAMESPACE} of QCVN 102:2016/BTTTT; check the exporting software"
                ),
            )),
            _ => Err(cut_off),
        }
    }

    fn cut_off(&self) -> Fault {
        fault_at(
            self.source,
            self.source.len(),
            "văn bản bị cắt cụt: có phần tử chưa đóng; hãy chép hoặc gửi lại tệp".to_owned(),
            "the document was cut off: an element is not closed; copy or send it again".to_owned(),
        )
    }

    fn too_large(&self, at: usize) -> Fault {
        fault_at(
            self.source,
            at,
            "phần đầu văn bản quá lớn hoặc lồng quá sâu".to_owned(),
            "the document's header is too large or too deep".to_owned(),
        )
    }
}
