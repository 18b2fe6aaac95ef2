//! What is wrong with a field, in sentences for people: Vietnamese with the field's own title,
//! English beside it.

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{JsonType, ValidationError};
use serde_json::Value;

use super::admit::Fault;
use super::condition::{escape, segments};
use super::schema;

/// Most values of an enumeration that a sentence lists.
const OPTIONS_MAX: usize = 12;
/// Most characters of a value that a sentence quotes.
const QUOTED_CHARS_MAX: usize = 60;

/// Explains the faults of one record.
pub struct Sentences {
    schema: Value,
    /// Whether the record's values may stand in a sentence.
    quotable: bool,
}

/// The same predicate in Vietnamese and in English.
struct Said {
    vi: String,
    en: String,
}

fn said(vi: impl Into<String>, en: impl Into<String>) -> Said {
    Said {
        vi: vi.into(),
        en: en.into(),
    }
}

impl Sentences {
    pub fn new(schema: Value, quotable: bool) -> Sentences {
        Sentences { schema, quotable }
    }

    /// Adds what an error of the schema means: one fault for each field concerned.
    pub fn explain(&self, error: &ValidationError<'_>, faults: &mut Vec<Fault>) {
        let pointer = error.instance_path().as_str();
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let said = said("là bắt buộc nhưng không có", "is required and missing");
                faults.push(self.fault(&format!("{pointer}/{}", escape(name)), said));
            }
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                for name in unexpected {
                    let said = said(
                        "không phải là trường của bộ dữ liệu này; kiểm tra chính tả hoặc bỏ trường đi",
                        "is not a field of this dataset; check the spelling or leave it out",
                    );
                    faults.push(self.fault(&format!("{pointer}/{}", escape(name)), said));
                }
            }
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => match nearest(context, pointer) {
                Some(branch) => branch.iter().for_each(|error| self.explain(error, faults)),
                None => faults.push(self.fault(pointer, not_allowed())),
            },
            kind => {
                let mut said = self.predicate(kind, pointer);
                if self.quotable
                    && about_a_value(kind)
                    && let Some(quoted) = quote(error.instance())
                {
                    said.vi.push_str(&format!(" (đang là “{quoted}”)"));
                    said.en.push_str(&format!(" (it is {quoted:?})"));
                }
                faults.push(self.fault(pointer, said));
            }
        }
    }

    fn fault(&self, pointer: &str, said: Said) -> Fault {
        let names = segments(pointer).unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Fault {
            pointer: pointer.to_owned(),
            message_vi: format!("“{}” {}", self.name_vi(&names), said.vi),
            message_en: format!("{:?} {}", name_en(&names), said.en),
        }
    }

    /// How people call a field: its title, with its place when it stands in a list.
    pub fn name_vi(&self, names: &[&str]) -> String {
        let Some((last, before)) = names.split_last() else {
            return "bản ghi".to_owned();
        };
        let titled = |names: &[&str]| {
            let title = schema::title(&self.schema, names).map(str::to_owned);
            title.unwrap_or_else(|| {
                names
                    .last()
                    .map_or(String::new(), |name| (*name).to_owned())
            })
        };
        let list_at = (1..names.len())
            .rev()
            .find(|&n| names[n].parse::<usize>().is_ok());
        match list_at {
            Some(n) => {
                let number = names[n].parse::<usize>().map_or(0, |place| place + 1);
                let list = titled(&names[..n]);
                if n == before.len() {
                    format!("mục {number} của {list}")
                } else {
                    format!("{} (mục {number} của {list})", titled(names))
                }
            }
            None => schema::title(&self.schema, names)
                .unwrap_or(last)
                .to_owned(),
        }
    }

    fn predicate(&self, kind: &ValidationErrorKind, pointer: &str) -> Said {
        match kind {
            ValidationErrorKind::Type { kind } => of_type(kind),
            ValidationErrorKind::Pattern { .. } => self.of_form(pointer),
            ValidationErrorKind::Format { format } => of_format(format),
            ValidationErrorKind::Enum { options } => one_of(options),
            ValidationErrorKind::Constant { expected_value } => {
                let value = plain(expected_value);
                said(format!("phải là {value}"), format!("must be {value}"))
            }
            ValidationErrorKind::MinLength { limit: 1 } => {
                said("không được để trống", "must not be empty")
            }
            ValidationErrorKind::MinLength { limit } => said(
                format!("quá ngắn, ít nhất {limit} ký tự"),
                format!("is too short, at least {limit} characters"),
            ),
            ValidationErrorKind::MaxLength { limit } => said(
                format!("quá dài, nhiều nhất {limit} ký tự"),
                format!("is too long, at most {limit} characters"),
            ),
            ValidationErrorKind::Minimum { limit } => said(
                format!("phải từ {limit} trở lên"),
                format!("must be at least {limit}"),
            ),
            ValidationErrorKind::Maximum { limit } => said(
                format!("phải từ {limit} trở xuống"),
                format!("must be at most {limit}"),
            ),
            ValidationErrorKind::ExclusiveMinimum { limit } => said(
                format!("phải lớn hơn {limit}"),
                format!("must be more than {limit}"),
            ),
            ValidationErrorKind::ExclusiveMaximum { limit } => said(
                format!("phải nhỏ hơn {limit}"),
                format!("must be less than {limit}"),
            ),
            ValidationErrorKind::MultipleOf { multiple_of } => said(
                format!("phải là bội số của {multiple_of}"),
                format!("must be a multiple of {multiple_of}"),
            ),
            ValidationErrorKind::MinItems { limit } => said(
                format!("phải có ít nhất {limit} mục"),
                format!("must have at least {limit} items"),
            ),
            ValidationErrorKind::MaxItems { limit } => said(
                format!("có quá nhiều mục, nhiều nhất {limit}"),
                format!("has too many items, at most {limit}"),
            ),
            ValidationErrorKind::AdditionalItems { limit } => said(
                format!("có quá nhiều mục, nhiều nhất {limit}"),
                format!("has too many items, at most {limit}"),
            ),
            ValidationErrorKind::UniqueItems => {
                said("có mục ghi hai lần", "has the same item twice")
            }
            ValidationErrorKind::Contains => said(
                "thiếu mục bắt buộc trong danh sách",
                "lacks an item that the list must have",
            ),
            ValidationErrorKind::MinProperties { limit } => said(
                format!("phải có ít nhất {limit} trường"),
                format!("must have at least {limit} fields"),
            ),
            ValidationErrorKind::MaxProperties { limit } => said(
                format!("có quá nhiều trường, nhiều nhất {limit}"),
                format!("has too many fields, at most {limit}"),
            ),
            ValidationErrorKind::PropertyNames { .. } => said(
                "có tên trường không được phép",
                "has a field with a name that is not allowed",
            ),
            ValidationErrorKind::FalseSchema => said(
                "không được có trong bản ghi này",
                "must not stand in this record",
            ),
            ValidationErrorKind::OneOfMultipleValid { .. } => said(
                "khớp với nhiều dạng cùng lúc, chỉ được một",
                "fits several forms at once and may fit only one",
            ),
            _ => not_allowed(),
        }
    }

    /// The form that the schema describes in words and by an example.
    fn of_form(&self, pointer: &str) -> Said {
        let names = segments(pointer).unwrap_or_default();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut said = said("không đúng dạng", "does not have the required form");
        let annotation = |keyword| schema::annotation(&self.schema, &names, keyword);
        if let Some(description) = annotation("description").and_then(Value::as_str) {
            said.vi.push_str(&format!(": {description}"));
        }
        if let Some(example) = annotation("examples").and_then(|examples| examples.get(0)) {
            let example = plain(example);
            said.vi.push_str(&format!("; ví dụ đúng: {example}"));
            said.en.push_str(&format!(", for example {example}"));
        }
        said
    }
}

/// A field's name in English texts: the path without list places' brackets.
pub fn name_en(names: &[&str]) -> String {
    if names.is_empty() {
        "record".to_owned()
    } else {
        names.join(".")
    }
}

/// The branch that the record most probably was meant for: not one of another type, few faults.
fn nearest<'c, 'e>(
    branches: &'c [Vec<ValidationError<'e>>],
    pointer: &str,
) -> Option<&'c Vec<ValidationError<'e>>> {
    let other_type = |branch: &[ValidationError<'_>]| {
        branch.iter().any(|error| {
            matches!(error.kind(), ValidationErrorKind::Type { .. })
                && error.instance_path().as_str() == pointer
        })
    };
    branches
        .iter()
        .filter(|branch| !branch.is_empty())
        .min_by_key(|branch| (other_type(branch), branch.len()))
}

fn about_a_value(kind: &ValidationErrorKind) -> bool {
    matches!(
        kind,
        ValidationErrorKind::Type { .. }
            | ValidationErrorKind::Pattern { .. }
            | ValidationErrorKind::Format { .. }
            | ValidationErrorKind::Enum { .. }
            | ValidationErrorKind::Constant { .. }
            | ValidationErrorKind::Minimum { .. }
            | ValidationErrorKind::Maximum { .. }
            | ValidationErrorKind::ExclusiveMinimum { .. }
            | ValidationErrorKind::ExclusiveMaximum { .. }
            | ValidationErrorKind::MultipleOf { .. }
    )
}

/// A scalar on one line; none for lists and objects.
fn quote(value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(_) | Value::Object(_) => return None,
        other => plain(other),
    };
    let mut quoted: String = text
        .chars()
        .take(QUOTED_CHARS_MAX)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if text.chars().nth(QUOTED_CHARS_MAX).is_some() {
        quoted.push('…');
    }
    Some(quoted)
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

fn not_allowed() -> Said {
    said(
        "có giá trị không được phép",
        "has a value that is not allowed",
    )
}

fn of_type(kind: &TypeKind) -> Said {
    let types: Vec<JsonType> = match kind {
        TypeKind::Single(one) => vec![*one],
        TypeKind::Multiple(set) => set.iter().collect(),
    };
    let (vi, en): (Vec<_>, Vec<_>) = types
        .into_iter()
        .map(|kind| match kind {
            JsonType::String => ("chuỗi ký tự (trong dấu ngoặc kép)", "a text"),
            JsonType::Integer => ("số nguyên (không có dấu ngoặc kép)", "an integer"),
            JsonType::Number => ("số (không có dấu ngoặc kép)", "a number"),
            JsonType::Boolean => ("true hoặc false", "true or false"),
            JsonType::Array => ("danh sách [ ]", "a list"),
            JsonType::Object => ("nhóm trường { }", "an object"),
            JsonType::Null => ("null", "null"),
        })
        .unzip();
    said(
        format!("phải là {}", vi.join(" hoặc ")),
        format!("must be {}", en.join(" or ")),
    )
}

fn of_format(format: &str) -> Said {
    let (vi, en) = match format {
        "date" => (
            "ngày dạng yyyy-MM-dd, ví dụ 2026-11-20",
            "a date such as 2026-11-20",
        ),
        "date-time" => (
            "thời điểm theo RFC 3339 có múi giờ, ví dụ 2026-11-20T08:12:45+07:00",
            "a time with offset such as 2026-11-20T08:12:45+07:00",
        ),
        "time" => (
            "giờ có múi giờ, ví dụ 08:12:45+07:00",
            "a time of day such as 08:12:45+07:00",
        ),
        "email" | "idn-email" => ("địa chỉ thư điện tử", "an e-mail address"),
        "ipv4" => (
            "địa chỉ IPv4, ví dụ 10.1.2.3",
            "an IPv4 address such as 10.1.2.3",
        ),
        "ipv6" => (
            "địa chỉ IPv6, ví dụ fd00::1",
            "an IPv6 address such as fd00::1",
        ),
        "uri" | "iri" => ("địa chỉ web đầy đủ", "a full URI"),
        "uuid" => ("mã UUID", "a UUID"),
        "hostname" | "idn-hostname" => ("tên máy", "a host name"),
        "duration" => (
            "khoảng thời gian ISO 8601, ví dụ P3D",
            "an ISO 8601 duration such as P3D",
        ),
        "agency-code" => (
            "mã định danh cơ quan có thật: chữ cái đầu và số theo Quyết định 20/2020/QĐ-TTg (tỉnh từ H01 đến H63), ví dụ H53.12",
            "an agency code that can be: letter and number of Decision 20/2020 (provinces H01 to H63), such as H53.12",
        ),
        "dossier-code" => (
            "mã hồ sơ có mã cơ quan có thật và ngày yyMMdd có trong lịch, ví dụ H53.12-261120-0042",
            "a dossier code with an agency that can be and a day of the calendar, such as H53.12-261120-0042",
        ),
        "document-id" => (
            "mã định danh văn bản có mã cơ quan có thật và ngày yyyy/MM/dd có trong lịch, ví dụ 000.00.12.H53,2026/11/20,142/UBND-VP",
            "a document identifier with an agency that can be and a day of the calendar, such as 000.00.12.H53,2026/11/20,142/UBND-VP",
        ),
        "admin-unit" => (
            "mã đơn vị hành chính, ví dụ 25486",
            "a code of an administrative unit, such as 25486",
        ),
        other => {
            return said(
                format!("không đúng dạng “{other}”"),
                format!("does not have the format {other:?}"),
            );
        }
    };
    said(format!("phải là {vi}"), format!("must be {en}"))
}

fn one_of(options: &Value) -> Said {
    let all: Vec<&Value> = options
        .as_array()
        .into_iter()
        .flatten()
        .filter(|option| !option.is_null())
        .collect();
    let listed: Vec<String> = all
        .iter()
        .take(OPTIONS_MAX)
        .map(|option| plain(option))
        .collect();
    let listed = listed.join(", ");
    match all.len().saturating_sub(OPTIONS_MAX) {
        0 => said(
            format!("phải là một trong: {listed}"),
            format!("must be one of: {listed}"),
        ),
        more => said(
            format!("phải là một trong: {listed} và {more} giá trị khác"),
            format!("must be one of: {listed} and {more} others"),
        ),
    }
}
