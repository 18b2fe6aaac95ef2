//! The check at the door: one record in; its subject, time and lane out, or every reason why not.
//!
//! The record's bytes are only read, and parsed once. Messages about records with personal data
//! (sensitivity 2 and 3) never quote a value.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::civil::Date;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::codes::{Codes, Scheme};
use super::condition::segments;
use super::sentence::{self, Sentences};
use super::{Dataset, FieldScheme, strict_json, time};
use crate::model::record::Classification;
use crate::model::{Lane, Subject};

/// Most faults that one refusal lists; a record of garbage could have tens of thousands.
pub const FAULTS_MAX: usize = 100;

/// Stands between the values of a key.
const KEY_SEPARATOR: char = '|';

/// What a record's own content says about its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted<'d> {
    pub subject: Subject,
    /// Event time, RFC 3339 with offset.
    pub time: Option<String>,
    pub lane: Lane,
    pub classification: Cow<'d, [Classification]>,
    /// Codes that the catalogue does not know or that are closed, one text each: pointer, scheme
    /// and flag, as `/tu/ma agency-code unknown`.
    pub code_flags: Vec<String>,
}

/// Why a record may not enter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("not JSON at line {line}, column {column}: {message_en}")]
    NotJson {
        line: usize,
        column: usize,
        message_vi: String,
        message_en: String,
    },
    #[error("does not fit the schema in {} places", .0.len())]
    Schema(Vec<Fault>),
    #[error("the key is missing or not usable in {} places", .0.len())]
    Key(Vec<Fault>),
    /// The content itself is not allowed here, such as a state secret.
    #[error("refused by rule at {pointer}: {reason_en}")]
    Rule {
        pointer: String,
        reason_vi: String,
        reason_en: String,
        alarm: bool,
    },
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer to the field; to the place where it should stand when it is missing.
    pub pointer: String,
    pub message_vi: String,
    pub message_en: String,
}

impl Refusal {
    /// All reasons in one form, for a list.
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Refusal::NotJson {
                line,
                column,
                message_vi,
                message_en,
            } => vec![Fault {
                pointer: String::new(),
                message_vi: format!("dòng {line}, cột {column}: {message_vi}"),
                message_en: format!("line {line}, column {column}: {message_en}"),
            }],
            Refusal::Schema(faults) | Refusal::Key(faults) => faults.clone(),
            Refusal::Rule {
                pointer,
                reason_vi,
                reason_en,
                ..
            } => vec![Fault {
                pointer: pointer.clone(),
                message_vi: reason_vi.clone(),
                message_en: reason_en.clone(),
            }],
        }
    }

    /// Whether somebody has to look at it, not only the office's software.
    pub fn alarm(&self) -> bool {
        matches!(self, Refusal::Rule { alarm: true, .. })
    }
}

/// A compiled schema.
pub struct Checker {
    validator: jsonschema::Validator,
}

impl std::fmt::Debug for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Checker")
    }
}

impl Checker {
    /// Compiles a schema; the error says what is not usable in it.
    pub fn compile(schema: &Value, codes: &Arc<Codes>) -> Result<Checker, String> {
        // The plain engine has no look-around, so a pattern never takes exponential time, and its
        // transition cache is kept small: a box has little memory and matches short texts.
        let patterns = jsonschema::PatternOptions::regex()
            .size_limit(256 * 1024)
            .dfa_size_limit(16 * 1024);
        let mut options = jsonschema::options();
        for scheme in Scheme::ALL {
            let codes = Arc::clone(codes);
            let is_possible = move |text: &str| codes.is_possible(scheme, text);
            options = options.with_format(scheme.format(), is_possible);
        }
        options
            .with_draft(jsonschema::Draft::Draft202012)
            .should_validate_formats(true)
            .should_ignore_unknown_formats(false)
            .with_pattern_options(patterns)
            .build(schema)
            .map(|validator| Checker { validator })
            .map_err(|error| format!("{} at {}", error, error.instance_path()))
    }
}

impl Dataset {
    /// Checks a record that says how its subject now is, where today is not known.
    pub fn admit(&self, data: &[u8]) -> Result<Admitted<'_>, Refusal> {
        self.admit_on(data, None)
    }

    /// As [`Dataset::admit`], on a day: codes that name a later one are refused too.
    pub fn admit_on(&self, data: &[u8], today: Option<Date>) -> Result<Admitted<'_>, Refusal> {
        let record = self.read(data)?;
        if !self.checker().validator.is_valid(&record) {
            return Err(Refusal::Schema(self.faults(&record)));
        }
        if let Some(today) = today {
            self.reached(&record, today)?;
        }
        self.place(&record)
    }

    /// Refuses a record with a code of the future.
    fn reached(&self, record: &Value, today: Date) -> Result<(), Refusal> {
        let mut faults = Vec::new();
        for (pattern, scheme) in &self.coded {
            let pointer = pattern.find(record, &mut |value| {
                let code = value.as_str();
                code.is_some_and(|code| self.codes.is_of_the_future(*scheme, code, today))
            });
            faults.extend(pointer.map(|pointer| {
                let later = [
                    "có ngày ở tương lai (quá ngày mai); kiểm tra 6 chữ số ngày yyMMdd trong mã và đồng hồ của máy cấp mã",
                    "names a day of the future, later than tomorrow; check the six digits yyMMdd and the clock of the machine that gave the code",
                ];
                self.key_fault(&pointer, later)
            }));
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(Refusal::Schema(faults)),
        }
    }

    /// Checks a record that says that its subject is gone: it needs the key and no more.
    pub fn admit_delete(&self, data: &[u8]) -> Result<Admitted<'_>, Refusal> {
        self.place(&self.read(data)?)
    }

    /// The subject that a record names, whether or not it may enter; for keeping its order.
    pub fn subject_of(&self, data: &[u8]) -> Option<Subject> {
        let record = strict_json::parse(data).ok()?;
        let (key, _) = self.key_and_time(&record);
        self.subject(&record, key).ok()
    }

    /// Parses, and stops what the rules refuse before anything else is said about it.
    fn read(&self, data: &[u8]) -> Result<Value, Refusal> {
        let record = strict_json::parse(data).map_err(not_json)?;
        for rule in &self.refuse {
            if let Some(pointer) = rule.when.find(&record) {
                return Err(Refusal::Rule {
                    pointer,
                    reason_vi: rule.reason_vi.clone(),
                    reason_en: rule.reason_en.clone(),
                    alarm: rule.alarm,
                });
            }
        }
        Ok(record)
    }

    fn faults(&self, record: &Value) -> Vec<Fault> {
        let sentences = self.sentences();
        let mut faults = Vec::new();
        let mut of_codes = Vec::new();
        for error in self.checker().validator.iter_errors(record) {
            let before = faults.len();
            sentences.explain(&error, &mut faults);
            let is_of_code = matches!(
                error.kind(),
                ValidationErrorKind::Format { format }
                    if Scheme::ALL.iter().any(|scheme| scheme.format() == format)
            );
            if is_of_code {
                of_codes.extend(before..faults.len());
            }
        }
        // What has not the look of a code needs not be told besides that it cannot be one.
        for at in of_codes.into_iter().rev() {
            let is_told =
                |other: &(usize, &Fault)| other.0 != at && other.1.pointer == faults[at].pointer;
            if faults.iter().enumerate().any(|other| is_told(&other)) {
                faults.remove(at);
            }
        }
        if faults.len() > FAULTS_MAX {
            let more = faults.len() - FAULTS_MAX + 1;
            faults.truncate(FAULTS_MAX - 1);
            faults.push(Fault {
                pointer: String::new(),
                message_vi: format!("và {more} lỗi khác"),
                message_en: format!("and {more} more faults"),
            });
        }
        faults
    }

    fn checker(&self) -> &Checker {
        self.checker.get_or_init(|| {
            Checker::compile(&self.parsed_schema(), &self.codes)
                .expect("the schema was compiled at load")
        })
    }

    /// The schema is parsed again for its titles: a refusal is rare, memory on a box is scarce.
    fn sentences(&self) -> Sentences {
        Sentences::new(self.parsed_schema(), self.quotable())
    }

    fn parsed_schema(&self) -> Value {
        serde_json::from_str(&self.schema).expect("the schema was parsed at load")
    }

    fn place(&self, record: &Value) -> Result<Admitted<'_>, Refusal> {
        let (key, time) = self.key_and_time(record);
        let time = self.time(record, time)?;
        Ok(Admitted {
            subject: self.subject(record, key)?,
            code_flags: self.code_flags(record, time.as_deref()),
            time,
            lane: self.lane(record),
            classification: self.classify(record),
        })
    }

    /// Pointers to the key and to the event time of this kind of record.
    fn key_and_time(&self, record: &Value) -> (&[String], &[String]) {
        let variant = self
            .variants
            .iter()
            .find(|variant| variant.when.matches(record));
        variant.map_or((&self.key, &self.time), |variant| {
            (&variant.key, &variant.time)
        })
    }

    /// What is remarkable about the record's codes on its own day; the first of each field.
    fn code_flags(&self, record: &Value, time: Option<&str>) -> Vec<String> {
        let on: Option<Date> = time.and_then(|time| time.get(..10)?.parse().ok());
        let mut flags = Vec::new();
        for (pattern, scheme) in &self.coded {
            let mut found = None;
            let pointer = pattern.find(record, &mut |value| {
                found = value
                    .as_str()
                    .and_then(|code| self.codes.flag(*scheme, code, on));
                found.is_some()
            });
            if let (Some(pointer), Some(flag)) = (pointer, found) {
                flags.push(format!("{pointer} {} {}", scheme.format(), flag.as_str()));
            }
        }
        flags
    }

    fn lane(&self, record: &Value) -> Lane {
        let rule = self
            .lanes
            .rules
            .iter()
            .find(|(when, _)| when.matches(record));
        rule.map_or(self.lanes.default, |(_, lane)| *lane)
    }

    fn classify(&self, record: &Value) -> Cow<'_, [Classification]> {
        let mut found = Vec::new();
        for FieldScheme { scheme, pointer } in &self.classified_by {
            pointer.find(record, &mut |value| {
                if let Value::String(code) = value
                    && !code.is_empty()
                {
                    found.push(Classification {
                        scheme: scheme.clone(),
                        code: code.clone(),
                    });
                }
                false
            });
        }
        if found.is_empty() {
            return Cow::Borrowed(&self.classification);
        }
        Cow::Owned(self.classification.iter().cloned().chain(found).collect())
    }

    fn subject(&self, record: &Value, key: &[String]) -> Result<Subject, Refusal> {
        let mut joined = String::new();
        let mut faults = Vec::new();
        for pointer in key {
            if !joined.is_empty() {
                joined.push(KEY_SEPARATOR);
            }
            match key_part(record.pointer(pointer), key.len() > 1) {
                Ok(part) => joined.extend(part.nfc()),
                Err(reason) => faults.push(self.key_fault(pointer, reason)),
            }
        }
        if !faults.is_empty() {
            return Err(Refusal::Key(faults));
        }
        if self.hide_key {
            joined = digest(self.id.as_str(), &joined);
        }
        let unusable = [
            "làm cho khóa của bản ghi quá dài (quá 200 ký tự) hoặc có ký tự điều khiển",
            "makes the record's key too long (over 200 characters) or has control characters",
        ];
        joined.parse().map_err(|_| {
            Refusal::Key(
                key.iter()
                    .map(|pointer| self.key_fault(pointer, unusable))
                    .collect(),
            )
        })
    }

    fn key_fault(&self, pointer: &str, [vi, en]: [&str; 2]) -> Fault {
        let names = segments(pointer).expect("pointers are checked at load");
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let sentences = self.sentences();
        Fault {
            pointer: pointer.to_owned(),
            message_vi: format!("“{}” {vi}", sentences.name_vi(&names)),
            message_en: format!("{:?} {en}", sentence::name_en(&names)),
        }
    }

    fn time(&self, record: &Value, pointers: &[String]) -> Result<Option<String>, Refusal> {
        for pointer in pointers {
            match record.pointer(pointer) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let time = value.as_str().and_then(time::rfc3339);
                    return time.map(Some).ok_or_else(|| {
                        let unreadable = [
                            "không phải là thời điểm, ví dụ đúng: 2026-11-20T08:12:45+07:00",
                            "is not a time such as 2026-11-20T08:12:45+07:00",
                        ];
                        Refusal::Schema(vec![self.key_fault(pointer, unreadable)])
                    });
                }
            }
        }
        Ok(None)
    }
}

/// The text of one part of a key, or why it cannot be one.
fn key_part(value: Option<&Value>, among_others: bool) -> Result<Cow<'_, str>, [&'static str; 2]> {
    let part = match value {
        None | Some(Value::Null) => {
            return Err([
                "còn thiếu; trường này là khóa của bản ghi",
                "is missing and is part of the key",
            ]);
        }
        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Cow::Owned(number.to_string())
        }
        Some(_) => {
            return Err([
                "phải là chuỗi ký tự hoặc số nguyên",
                "must be a text or an integer",
            ]);
        }
    };
    if part.trim().is_empty() {
        return Err([
            "để trống; trường này là khóa của bản ghi",
            "is empty and is part of the key",
        ]);
    }
    if among_others && part.contains(KEY_SEPARATOR) {
        return Err(["không được có ký tự “|”", "must not hold the character '|'"]);
    }
    Ok(part)
}

/// A subject that shows nothing of its key.
fn digest(dataset: &str, key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("{dataset}|{key}").as_bytes());
    digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn not_json(error: serde_json::Error) -> Refusal {
    let [message_vi, message_en] = if error.is_eof() {
        [
            "dữ liệu JSON bị cắt cụt, thiếu phần cuối",
            "the JSON text ends too early",
        ]
    } else if error.is_data() {
        ["một trường được ghi hai lần", "a field is written twice"]
    } else {
        [
            "dữ liệu không phải là JSON đúng (UTF-8)",
            "this is not well-formed JSON (UTF-8)",
        ]
    };
    Refusal::NotJson {
        line: error.line(),
        column: error.column(),
        message_vi: message_vi.to_owned(),
        message_en: message_en.to_owned(),
    }
}
