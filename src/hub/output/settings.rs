//! `[[output]]` sections: what all kinds have in common. Each kind reads its own settings in its file.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::hub::output::pick::{Hiding, Mask, Pointer};
use crate::hub::output::{Kind, OutputConfig, edxml, files, station, table, webhook};
use crate::model::{InvalidId, SourceName};
use crate::shell::settings::Settings;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;

const KINDS: [&str; 6] = ["edxml", "files", "postgres", "sqlite", "station", "webhook"];
/// Records of this sensitivity leave only with a legal basis.
const SENSITIVE: u64 = 3;
const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 86_400_000;

/// All outputs; nothing when one of them is faulty.
pub fn outputs(settings: &mut Settings) -> Option<Vec<OutputConfig>> {
    let mut names = BTreeSet::new();
    let outputs: Vec<Option<OutputConfig>> = settings
        .list("output")
        .into_iter()
        .map(|section| output(section, &mut names))
        .collect();
    outputs.into_iter().collect()
}

fn output(mut section: Section, names: &mut BTreeSet<String>) -> Option<OutputConfig> {
    let name = name(&mut section, names);
    let datasets = section.texts("datasets", None, |text| id(text, "ho_so_tthc"));
    let agencies = section.texts("agencies", Some(&[]), |text| id(text, "H53.12"));
    let from_beginning = section.value("from", Some("beginning"), |text| match text {
        "beginning" => Ok(true),
        "now" => Ok(false),
        _ => Err(one_of(text, &["beginning", "now"])),
    });
    let sensitivity_max = section.number("sensitivity_max", SENSITIVE - 1, 0..=SENSITIVE);
    let legal_basis = section.optional("legal_basis", |text| match text.trim() {
        "" => Err(Wrong::empty()),
        text => Ok(text.to_owned()),
    });
    let masks = masks(&mut section);
    let parked_max = section.number("parked_max", 1_000, 1..=1_000_000);
    let kind = section.value("kind", None, |text| match KINDS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(one_of(text, &KINDS)),
    });
    let kind = match kind.as_deref() {
        Some("edxml") => edxml::settings(&mut section).map(Kind::Edxml),
        Some("files") => files::settings(&mut section).map(Kind::Files),
        Some("postgres") => table::postgres(&mut section).map(Kind::Table),
        Some("sqlite") => table::sqlite(&mut section).map(Kind::Table),
        Some("station") => station::settings(&mut section).map(Kind::Station),
        Some("webhook") => webhook::settings(&mut section).map(Kind::Webhook),
        _ => return section.leave(),
    };
    let (sensitivity_max, legal_basis) = (sensitivity_max?, legal_basis?);
    if (sensitivity_max == SENSITIVE) != legal_basis.is_some() {
        section.fault(
            "legal_basis",
            Wrong::new(
                "dữ liệu cá nhân nhạy cảm (mức 3) chỉ được giao khi ghi rõ căn cứ pháp lý, và ngược lại",
                "sensitive personal data (level 3) is delivered only with its legal basis, and the basis stands only there",
                "Ghi cả hai: sensitivity_max = 3 và legal_basis = \"…\"; hoặc bỏ cả hai.",
                "Write both, sensitivity_max = 3 and legal_basis = \"…\", or neither.",
            ),
        );
        return None;
    }
    let (masks, kind) = (masks?, kind?);
    if !masks.is_empty() && kind.needs_original() {
        section.fault(
            "masks",
            Wrong::new(
                "loại đầu ra này gửi nguyên văn tệp gốc, không che được trường nào",
                "this kind delivers the original file, of which nothing can be masked",
                "Bỏ masks, hoặc dùng loại đầu ra khác.",
                "Remove masks, or use another kind.",
            ),
        );
        return None;
    }
    Some(OutputConfig {
        name: name?,
        datasets: datasets?,
        agencies: agencies?,
        from_beginning: from_beginning?,
        sensitivity_max: u8::try_from(sensitivity_max).expect("bounded above"),
        legal_basis,
        masks,
        parked_max: parked_max?,
        kind,
    })
}

fn name(section: &mut Section, names: &mut BTreeSet<String>) -> Option<String> {
    let name = section.value("name", None, |text| {
        id::<SourceName>(text, "kho-tinh").map(|name| name.to_string())
    })?;
    if names.insert(name.clone()) {
        return Some(name);
    }
    section.fault(
        "name",
        Wrong::new(
            "tên này đã có đầu ra khác dùng",
            "this name is taken by another output",
            "Mỗi đầu ra có một tên riêng.",
            "Give each output a name of its own.",
        ),
    );
    None
}

fn masks(section: &mut Section) -> Option<Vec<Mask>> {
    let table: toml::Table = section.rest("masks")?;
    let mut masks = Some(Vec::new());
    for (field, hiding) in table {
        let hiding = match hiding.as_str() {
            Some("remove") => Some(Hiding::Remove),
            Some("last4") => Some(Hiding::LastFour),
            _ => None,
        };
        match (field.parse::<Pointer>(), hiding, &mut masks) {
            (Ok(field), Some(hiding), Some(masks)) => masks.push(Mask { field, hiding }),
            _ => {
                section.fault(
                    &format!("masks.{field}"),
                    Wrong::new(
                        "phải là con trỏ JSON và cách che",
                        "must be a JSON pointer and how it is masked",
                        "Ví dụ: \"/nguoi_nop/so_dinh_danh\" = \"last4\" (giữ 4 ký tự cuối) hoặc \"remove\".",
                        "For example: \"/nguoi_nop/so_dinh_danh\" = \"last4\" (keeps the last four) or \"remove\".",
                    ),
                );
                masks = None;
            }
        }
    }
    masks
}

// === What several kinds have ===

/// Type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    Datetime,
    Json,
}

/// A column and the field that fills it.
#[derive(Debug, Clone)]
pub struct Column {
    pub name: String,
    pub field: Pointer,
    pub kind: ColumnType,
}

const COLUMN_NAME_MAX: usize = 60;

/// `[[output.column]]`, in the order in which they were written. Names that the program itself uses
/// are refused.
pub fn columns(section: &mut Section, own: &[&str]) -> Option<Vec<Column>> {
    const TYPES: [&str; 7] = [
        "text", "integer", "number", "boolean", "date", "datetime", "json",
    ];
    let mut names = BTreeSet::new();
    let columns: Vec<Option<Column>> = section
        .list("column")
        .into_iter()
        .map(|mut column| {
            let name = column.value("name", None, |text| {
                let is_name = (1..=COLUMN_NAME_MAX).contains(&text.len())
                    && text.starts_with(|c: char| c.is_ascii_lowercase())
                    && text
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                match is_name && !own.contains(&text) && names.insert(text.to_owned()) {
                    true => Ok(text.to_owned()),
                    false => Err(Wrong::new(
                        "không dùng được làm tên cột, hoặc đã có cột cùng tên",
                        "is no column's name, or is taken already",
                        "Dùng chữ thường không dấu, chữ số và gạch dưới; tránh tên cột của chương trình.",
                        "Use a-z, 0-9 and '_', and none of the program's own columns.",
                    )),
                }
            });
            let field = column.value("field", None, |text| {
                text.parse::<Pointer>().map_err(|()| {
                    Wrong::new(
                        "không phải là con trỏ JSON",
                        "is not a JSON pointer",
                        "Ví dụ: \"/nguoi_nop/ho_ten\".",
                        "For example: \"/nguoi_nop/ho_ten\".",
                    )
                })
            });
            let kind = column.value("type", Some("text"), |text| {
                Ok(match text {
                    "text" => ColumnType::Text,
                    "integer" => ColumnType::Integer,
                    "number" => ColumnType::Number,
                    "boolean" => ColumnType::Boolean,
                    "date" => ColumnType::Date,
                    "datetime" => ColumnType::Datetime,
                    "json" => ColumnType::Json,
                    _ => return Err(one_of(text, &TYPES)),
                })
            });
            Some(Column {
                name: name?,
                field: field?,
                kind: kind?,
            })
        })
        .collect();
    columns.into_iter().collect()
}

/// How long more is gathered after a batch that was not full.
pub fn every(section: &mut Section, default: &str) -> Option<u64> {
    section.duration("every", default, 0..=DAY_MS)
}

pub fn timeout(section: &mut Section) -> Option<Duration> {
    let timeout_ms = section.duration("timeout", "30 s", 100..=600 * SECOND_MS)?;
    Some(Duration::from_millis(timeout_ms))
}

pub fn id<T: std::str::FromStr<Err = InvalidId>>(text: &str, example: &str) -> Result<T, Wrong> {
    text.parse().map_err(|error: InvalidId| {
        Wrong::new(
            &format!("“{}” không đúng dạng", error.text),
            &error.to_string(),
            &format!("Ví dụ: {example:?}."),
            &format!("For example: {example:?}."),
        )
    })
}

pub fn one_of(text: &str, known: &[&str]) -> Wrong {
    let known = known.join(", ");
    Wrong::new(
        &format!("“{text}” không dùng được ở đây"),
        &format!("{text:?} is not usable here"),
        &format!("Chọn một trong: {known}."),
        &format!("Choose one of: {known}."),
    )
}
