//! Kind `edxml`: electronic documents to a provincial axis, in the variant of `sendEdoc` and
//! `updateStatus` (multipart and JSON, a system's id and secret in headers). A document goes out byte
//! for byte as its office wrote it.
//!
//! A document goes out once (by its digest), and so does each status (by document, office and code).
//! Only when the network or the axis itself fails is it tried again; what the axis refuses is parked
//! for a person. Which code of the axis means what is a setting, because axes differ.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::evidence::sha256;
use crate::hub::output::event::Event;
use crate::hub::output::files::of_disk;
use crate::hub::output::http::{self, Client, Endpoint, header_secret};
use crate::hub::output::{Adapter, Delivery, Failure, Receipt, Trouble, settings};
use crate::model::record::Op;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::{self, Wrong};
use crate::shell::systemd::credential;

/// The axis's codes, with what they mean.
const CODES: [(u64, &str, &str); 9] = [
    (10, "tệp không hợp lệ", "invalid file"),
    (15, "sai mã hệ thống hoặc khóa", "wrong system id or secret"),
    (18, "không biết nơi nhận", "receiver unknown"),
    (19, "nơi gửi chưa đăng ký", "sender not registered"),
    (20, "lỗi hệ thống của trục", "error of the axis"),
    (21, "lỗi xử lý tệp", "file processing error"),
    (22, "edXML sai", "bad edXML"),
    (23, "nơi nhận bị khóa", "receiver locked"),
    (0, "thành công", "ok"),
];
/// Where the answer's code may stand.
const CODE_FIELDS: [&str; 5] = ["errorCode", "ErrorCode", "error_code", "code", "Code"];
const DOCUMENT_FIELDS: [&str; 4] = ["docId", "DocId", "docID", "documentId"];
const HEADER_BYTES_MAX: usize = 60;

#[derive(Debug, Clone)]
pub struct EdxmlConfig {
    /// Such as `https://…/v1`.
    pub endpoint: Endpoint,
    pub id_header: String,
    pub secret_header: String,
    pub system_id: String,
    pub secret: PathBuf,
    /// Pauses between attempts; the last one stands for all later ones.
    pub pauses: Vec<Duration>,
    /// Codes on which everything waits: they say nothing against the document.
    pub waiting_codes: Vec<u64>,
}

pub fn settings(section: &mut Section) -> Option<EdxmlConfig> {
    let timeout = settings::timeout(section);
    let endpoint = http::settings(section, timeout);
    let id_header = section.value("id_header", Some("systemid"), header_name);
    let secret_header = section.value("secret_header", Some("secret"), header_name);
    let system_id = section.value("system_id", None, |text| {
        match !text.is_empty() && text.bytes().all(|b| (0x21..0x7f).contains(&b)) {
            true => Ok(text.to_owned()),
            false => Err(Wrong::empty()),
        }
    });
    let secret = section.path("secret_file", None);
    const PAUSES: [&str; 5] = ["30 s", "60 s", "120 s", "240 s", "480 s"];
    let pauses = section.texts("retry", Some(&PAUSES), |text| {
        units::duration(text).map(Duration::from_millis)
    });
    let waiting_codes = section.texts("waiting_codes", Some(&["15", "19", "20"]), |text| {
        text.parse::<u64>().map_err(|_| {
            Wrong::new(
                "không phải là mã số",
                "is no number",
                "Ví dụ: waiting_codes = [\"15\", \"20\"].",
                "For example: waiting_codes = [\"15\", \"20\"].",
            )
        })
    });
    Some(EdxmlConfig {
        endpoint: endpoint?,
        id_header: id_header?,
        secret_header: secret_header?,
        system_id: system_id?,
        secret: credential(secret?),
        pauses: pauses?,
        waiting_codes: waiting_codes?,
    })
}

fn header_name(text: &str) -> Result<String, Wrong> {
    let is_name = (1..=HEADER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match is_name {
        true => Ok(text.to_lowercase()),
        false => Err(Wrong::new(
            "không dùng được làm tên tiêu đề HTTP",
            "is no name of an HTTP header",
            "Ví dụ: \"systemid\".",
            "For example: \"systemid\".",
        )),
    }
}

pub struct Edxml {
    config: EdxmlConfig,
    client: Client,
    headers: [(String, String); 2],
}

impl Edxml {
    pub fn open(config: &EdxmlConfig) -> Result<Edxml, Trouble> {
        let secret = header_secret(&config.secret)?;
        Ok(Edxml {
            client: Client::open(&config.endpoint)?,
            headers: [
                (config.id_header.clone(), config.system_id.clone()),
                (config.secret_header.clone(), secret),
            ],
            config: config.clone(),
        })
    }

    /// Sends a document; returns what is to be remembered.
    fn send(&self, delivery: &Delivery<'_>, event: &Event, id: &str) -> Sent {
        let Some(bytes) = original(delivery, event)? else {
            return Err(Failure::Data {
                reason: "no_original",
                detail:
                    "the document's own bytes are neither in the record nor among the attachments"
                        .to_owned(),
            });
        };
        let digest = hex(&sha256(&bytes));
        let key = format!("edoc {digest}");
        if answered(delivery, &key)?.is_some() {
            return Ok(Vec::new());
        }
        let boundary = format!("lienthong-{}", &digest[..32]);
        let head = format!(
            "--{boundary}\r\ncontent-disposition: form-data; name=\"edocFile\"; \
             filename=\"{}.edxml\"\r\ncontent-type: application/xml\r\n\r\n",
            &digest[..16]
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = [head.as_bytes(), &bytes, tail.as_bytes()].concat();
        let kind = format!("multipart/form-data; boundary={boundary}");
        let answer = self.post("sendEdoc", &kind, &body)?;
        let at_axis = DOCUMENT_FIELDS.iter().find_map(|name| word(&answer, name));
        let at_axis = at_axis.unwrap_or_else(|| id.to_owned());
        Ok(vec![(key, at_axis.clone()), (document_key(id), at_axis)])
    }

    /// Says a status of a document that the axis knows by its own id, or by the document's.
    fn update(&self, delivery: &Delivery<'_>, id: &str, office: &str, code: &str) -> Sent {
        let key = format!("status {code} {office} {id}");
        if answered(delivery, &key)?.is_some() {
            return Ok(Vec::new());
        }
        let at_axis = answered(delivery, &document_key(id))?.unwrap_or_else(|| id.to_owned());
        let body = json!({ "docId": at_axis, "status": code }).to_string();
        self.post("updateStatus", "application/json", body.as_bytes())?;
        Ok(vec![(key, String::new())])
    }

    fn post(&self, call: &str, kind: &str, body: &[u8]) -> Result<Value, Failure> {
        let mut headers = self.headers.to_vec();
        headers.push(("content-type".to_owned(), kind.to_owned()));
        let url = format!("{}/{call}", self.config.endpoint.url);
        let answer = self.client.post(&url, &headers, body)?;
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let code = CODE_FIELDS.iter().find_map(|name| word(&said, name));
        match code.and_then(|code| code.parse::<u64>().ok()) {
            // A code says more than the status that it came with.
            Some(code) if code != 0 && answer.status < 500 => Err(self.of_code(code)),
            _ => http::judge(&answer).map(|()| said),
        }
    }

    fn of_code(&self, code: u64) -> Failure {
        let known = CODES.iter().find(|(known, _, _)| *known == code);
        let (vi, en) = known.map_or(("mã lạ", "unknown code"), |(_, vi, en)| (*vi, *en));
        if !self.config.waiting_codes.contains(&code) {
            return Failure::Data {
                reason: "axis_refused",
                detail: format!("code {code}: {en}"),
            };
        }
        Trouble::new(
            "axis_code",
            [
                format!("trục liên thông trả lời mã {code}: {vi}"),
                format!("the axis answers code {code}: {en}"),
            ],
            [
                "Kiểm tra system_id, secret_file và việc đăng ký đơn vị với đơn vị vận hành trục; văn bản được giữ và tự gửi lại.",
                "Check system_id, secret_file and the registration with the axis's operator; documents are kept and sent again.",
            ],
        )
        .into()
    }
}

/// What the office's software wrote, as it came.
fn original(delivery: &Delivery<'_>, event: &Event) -> Result<Option<Vec<u8>>, Failure> {
    if let Some(text) = &event.original {
        let engine = base64::engine::general_purpose::STANDARD;
        return Ok(engine.decode(text).ok());
    }
    let Some(path) = event.large_original.and_then(delivery.kept) else {
        return Ok(None);
    };
    match fs::read(&path) {
        // One that is damaged must not go out under the document's name.
        Ok(bytes) => Ok(Some(bytes)
            .filter(|bytes| event.large_original.map(|digest| digest.0) == Some(sha256(bytes)))),
        Err(error) => Err(of_disk(path.parent().unwrap_or(&path), &error).into()),
    }
}

type Sent = Result<Vec<(String, String)>, Failure>;

impl Adapter for Edxml {
    fn events_max(&self) -> usize {
        1
    }

    fn deliver(&mut self, delivery: &Delivery<'_>) -> Result<Receipt, Failure> {
        let mut receipt = Receipt::default();
        for event in delivery.events {
            if event.op == Op::Delete {
                continue;
            }
            let said: Document =
                serde_json::from_str(event.data.get()).map_err(|_| Failure::Data {
                    reason: "no_document",
                    detail: "loai_ban_ghi or ma_van_ban cannot be read".to_owned(),
                })?;
            let once = match (said.loai_ban_ghi.as_str(), said.trang_thai) {
                ("van_ban", _) => self.send(delivery, event, &said.ma_van_ban)?,
                ("trang_thai", Some(code)) => {
                    let office = said.tu.map_or(event.key.agency.to_string(), |from| from.ma);
                    self.update(delivery, &said.ma_van_ban, &office, &code)?
                }
                _ => {
                    return Err(Failure::Data {
                        reason: "no_document",
                        detail: "neither a document nor a status".to_owned(),
                    });
                }
            };
            receipt.once.extend(once);
        }
        Ok(receipt)
    }
}

/// What a record says of its document.
#[derive(Deserialize)]
struct Document {
    loai_ban_ghi: String,
    ma_van_ban: String,
    trang_thai: Option<String>,
    tu: Option<Office>,
}

#[derive(Deserialize)]
struct Office {
    ma: String,
}

fn answered(delivery: &Delivery<'_>, key: &str) -> Result<Option<String>, Failure> {
    (delivery.answered)(key).map_err(|error| Trouble::from(error).into())
}

/// Under this the axis's own id of a document is remembered.
fn document_key(id: &str) -> String {
    format!("docid {id}")
}

/// A text or number of the answer, or of the object in its `data`.
fn word(answer: &Value, name: &str) -> Option<String> {
    [answer, &answer["data"]]
        .into_iter()
        .find_map(|object| match &object[name] {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
