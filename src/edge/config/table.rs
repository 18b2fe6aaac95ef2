//! Settings of tables: how a CSV file or a worksheet is written, and which column is which field.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::edge::config::FileFormat;
use crate::edge::config::load::one_of;
use crate::formats::csv::{Dialect, Quote, delimiter_named};
use crate::formats::encoding::Encoding;
use crate::formats::sheet::Choice;
use crate::formats::table::cell::{DecimalSign, Kind};
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;

/// How tables are read; all of it may be left out.
#[derive(Debug, Clone, Default)]
pub struct TableConfig {
    /// Of CSV files, of JSON files, and of the fonts of a workbook.
    pub encoding: Option<Encoding>,
    pub delimiter: Option<u8>,
    pub quote: Quote,
    /// Row of the heading; 0 where columns go by their numbers.
    pub header: Option<u32>,
    pub decimal: Option<DecimalSign>,
    /// Sheet of a workbook.
    pub sheet: Option<String>,
    /// By heading. Empty: headings are the names or titles of the dataset's fields.
    pub columns: BTreeMap<String, Filled>,
    /// By field: what stands in every record and in no column.
    pub constants: BTreeMap<String, Constant>,
    /// Columns that name a file beside the table.
    pub attachments: Vec<NamedFile>,
    /// A table that names a larger file is refused.
    pub attachment_bytes_max: u64,
}

/// A column that names a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    pub column: String,
    /// None: by the file's extension.
    pub mime: Option<String>,
    /// The heading may lack it.
    pub is_optional: bool,
}

/// A value that a record has without a column.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Constant {
    Truth(bool),
    Whole(i64),
    Text(String),
}

impl Constant {
    pub fn to_json(&self) -> String {
        match self {
            Constant::Truth(truth) => truth.to_string(),
            Constant::Whole(whole) => whole.to_string(),
            Constant::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        }
    }
}

/// The fields that a column fills; none where it is left out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "WrittenFields")]
pub struct Filled(pub Vec<ColumnConfig>);

/// A field that a column fills.
#[derive(Debug, Clone, Deserialize)]
#[serde(from = "Written")]
pub struct ColumnConfig {
    /// Field of the record, `nguoi_nop.ho_ten` for one inside another.
    pub field: String,
    /// Where the dataset's schema does not say it.
    pub kind: Option<KindName>,
    /// The heading may lack it.
    pub is_optional: bool,
    /// What cells say, and what the record says instead.
    pub values: BTreeMap<String, String>,
}

/// Type of a column as settings name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct KindName(pub Kind);

impl TryFrom<String> for KindName {
    type Error = String;

    fn try_from(text: String) -> Result<KindName, String> {
        Kind::named(&text).map(KindName).ok_or_else(|| {
            let known: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
            format!("{text:?} is not a column's type: {}", known.join(", "))
        })
    }
}

/// One field, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenFields {
    One(ColumnConfig),
    Many(Vec<ColumnConfig>),
}

impl From<WrittenFields> for Filled {
    fn from(written: WrittenFields) -> Filled {
        let mut fields = match written {
            WrittenFields::One(field) => vec![field],
            WrittenFields::Many(fields) => fields,
        };
        fields.retain(|field| !field.field.is_empty());
        Filled(fields)
    }
}

/// `"ma_ho_so"`, or a table that says more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Field(String),
    Table(WrittenTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTable {
    field: String,
    #[serde(rename = "type", default)]
    kind: Option<KindName>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    values: BTreeMap<String, String>,
}

impl From<Written> for ColumnConfig {
    fn from(written: Written) -> ColumnConfig {
        match written {
            Written::Field(field) => ColumnConfig {
                field,
                kind: None,
                is_optional: false,
                values: BTreeMap::new(),
            },
            Written::Table(WrittenTable {
                field,
                kind,
                optional,
                values,
            }) => ColumnConfig {
                field,
                kind,
                is_optional: optional,
                values,
            },
        }
    }
}

impl TableConfig {
    pub fn dialect(&self) -> Dialect {
        Dialect {
            encoding: self.encoding,
            delimiter: self.delimiter,
            quote: self.quote,
            header: self.header,
        }
    }

    pub fn choice(&self) -> Choice {
        Choice {
            sheet: self.sheet.clone(),
            header: self.header,
            encoding: self.encoding,
        }
    }
}

/// Reads how records stand in a source's files; without it the extension says so.
pub fn format(section: &mut Section) -> Option<Option<FileFormat>> {
    const NAMES: [(&str, FileFormat); 6] = [
        ("json", FileFormat::Json),
        ("ndjson", FileFormat::NdJson),
        ("station", FileFormat::Station),
        ("csv", FileFormat::Csv),
        ("sheet", FileFormat::Sheet),
        ("edxml", FileFormat::EdXml),
    ];
    section.optional("format", |text| {
        let found = NAMES.into_iter().find(|(name, _)| *name == text);
        found
            .map(|(_, format)| format)
            .ok_or_else(|| one_of(text, &NAMES.map(|(name, _)| name)))
    })
}

/// Reads the settings that every source with tables has.
pub fn read(section: &mut Section) -> Option<TableConfig> {
    let encoding = section.optional("encoding", |text| {
        text.parse().map_err(|_| one_of(text, &Encoding::PRINTED))
    });
    let delimiter = section.optional("delimiter", |text| {
        delimiter_named(text).ok_or_else(|| one_of(text, &[",", ";", "tab", "|"]))
    });
    let quote = section.value("quote", Some("\""), |text| match text {
        "\"" => Ok(Quote::Double),
        "'" => Ok(Quote::Single),
        "" => Ok(Quote::None),
        _ => Err(Wrong::new(
            "dấu nháy phải là \" hoặc ', hoặc để trống nếu không dùng",
            "the quote must be \" or ', or empty where none is used",
            "Ví dụ: quote = \"\".",
            "For example: quote = \"\".",
        )),
    });
    let header = section.optional_number("header", 0..=1_000);
    let decimal = section.optional("decimal", |text| match text {
        "," => Ok(DecimalSign::Comma),
        "." => Ok(DecimalSign::Point),
        _ => Err(one_of(text, &[",", "."])),
    });
    let sheet = section.optional("sheet", |text| Ok(text.to_owned()));
    let columns = section.rest("columns");
    let constants = section.rest("constants");
    Some(TableConfig {
        encoding: encoding?,
        delimiter: delimiter?,
        quote: quote?,
        header: header?.and_then(|row| u32::try_from(row).ok()),
        decimal: decimal?,
        sheet: sheet?,
        columns: columns?,
        constants: constants?,
        attachments: Vec::new(),
        attachment_bytes_max: 0,
    })
}

/// Reads `[[source.attachment]]` of a source whose tables lie in a folder with other files.
pub fn read_attachments(section: &mut Section, table: &mut TableConfig) -> Option<()> {
    let bytes_max = section.size("attachment_max", "16 MiB", 1024..=256 << 20);
    let mut attachments = Some(Vec::new());
    for mut entry in section.list("attachment") {
        let column = entry.text("column", None);
        let mime = entry.optional("mime", |text| Ok(text.to_owned()));
        let is_optional = entry.flag("optional", false);
        match (column, mime, is_optional, &mut attachments) {
            (Some(column), Some(mime), Some(is_optional), Some(attachments)) => {
                attachments.push(NamedFile {
                    column,
                    mime,
                    is_optional,
                });
            }
            _ => attachments = None,
        }
    }
    table.attachments = attachments?;
    table.attachment_bytes_max = bytes_max?;
    Some(())
}
