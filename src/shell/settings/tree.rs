//! Settings as written: a tree whose every value knows its file and line, merged from several files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;
use super::units::Wrong;

/// A configuration is a page or two; anything longer was put there by mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

pub type Table = BTreeMap<String, Node>;

#[derive(Debug, Clone)]
pub struct Node {
    pub value: Value,
    pub origin: Origin,
}

#[derive(Debug, Clone)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Time(String),
    List(Vec<Node>),
    Table(Table),
}

/// Where something was written.
#[derive(Debug, Clone)]
pub struct Origin {
    pub file: Arc<Path>,
    /// The file's name as it is printed: with its folder when it is a drop-in.
    pub shown: Arc<str>,
    pub line: Option<u32>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.shown),
            None => f.write_str(&self.shown),
        }
    }
}

impl Value {
    /// How TOML calls this kind of value: Vietnamese, English.
    pub fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Value::Text(_) => ("văn bản", "a text"),
            Value::Integer(_) => ("số nguyên", "an integer"),
            Value::Float(_) => ("số thập phân", "a decimal number"),
            Value::Boolean(_) => ("true hoặc false", "true or false"),
            Value::Time(_) => ("thời điểm", "a date or time"),
            Value::List(_) => ("danh sách", "a list"),
            Value::Table(_) => ("bảng", "a table"),
        }
    }

    /// The value without its origins.
    pub fn to_toml(&self) -> toml::Value {
        match self {
            Value::Text(text) | Value::Time(text) => toml::Value::String(text.clone()),
            Value::Integer(number) => toml::Value::Integer(*number),
            Value::Float(number) => toml::Value::Float(*number),
            Value::Boolean(truth) => toml::Value::Boolean(*truth),
            Value::List(items) => {
                toml::Value::Array(items.iter().map(|item| item.value.to_toml()).collect())
            }
            Value::Table(table) => {
                let pairs = table
                    .iter()
                    .map(|(key, node)| (key.clone(), node.value.to_toml()));
                toml::Value::Table(pairs.collect())
            }
        }
    }
}

/// The file and its drop-ins, merged.
pub fn read(path: &Path, faults: &mut Vec<Fault>) -> Table {
    let mut table = read_one(path, faults);
    for drop_in in drop_ins(path, faults) {
        merge(&mut table, read_one(&drop_in, faults));
    }
    table
}

/// How a file is called where it is named as an origin.
pub fn shown(path: &Path) -> Arc<str> {
    let part = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let name = part(path).unwrap_or_default();
    match path.parent().and_then(part) {
        Some(folder) if folder.ends_with(".d") => format!("{folder}/{name}").into(),
        _ => name.into(),
    }
}

/// `x.d/*.toml` beside `x.toml`, in the order of their names.
fn drop_ins(path: &Path, faults: &mut Vec<Fault>) -> Vec<std::path::PathBuf> {
    let folder = path.with_extension("d");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.push(unreadable(&folder, &error));
            return Vec::new();
        }
    };
    let mut found: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'))
        })
        .collect();
    found.sort();
    found
}

fn read_one(path: &Path, faults: &mut Vec<Fault>) -> Table {
    let text = std::fs::metadata(path).and_then(|facts| {
        if facts.len() > FILE_BYTES_MAX {
            return Err(std::io::Error::other("larger than 1 MiB"));
        }
        std::fs::read_to_string(path)
    });
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            faults.push(unreadable(path, &error));
            return Table::new();
        }
    };
    let (parsed, errors) = DeTable::parse_recoverable(&text);
    let place = Place {
        file: path.into(),
        shown: shown(path),
        text: &text,
    };
    for error in errors {
        faults.push(Fault {
            file: path.to_owned(),
            line: error.span().map(|span| place.line(span.start)),
            key: String::new(),
            message_vi: format!("không đúng cú pháp TOML: {}", error.message()),
            message_en: format!("not TOML: {}", error.message()),
            hint_vi: "Sửa dòng này; văn bản đặt trong ngoặc kép, mỗi dòng một khóa = giá trị."
                .to_owned(),
            hint_en: "Correct this line; texts stand in quotes, one key = value a line.".to_owned(),
        });
    }
    place.table(parsed.get_ref())
}

fn unreadable(path: &Path, error: &std::io::Error) -> Fault {
    let (hint_vi, hint_en) = match error.kind() {
        std::io::ErrorKind::NotFound => (
            "Tạo tệp này, hoặc chỉ đường dẫn bằng --config.",
            "Make the file, or name another with --config.",
        ),
        std::io::ErrorKind::PermissionDenied => (
            "Cho tài khoản chạy dịch vụ quyền đọc (nhóm lienthong).",
            "Let the service's user read it (group lienthong).",
        ),
        _ => (
            "Tệp phải là văn bản UTF-8 và đọc được.",
            "The file must be readable UTF-8 text.",
        ),
    };
    Fault {
        file: path.to_owned(),
        line: None,
        key: String::new(),
        message_vi: format!("không đọc được: {error}"),
        message_en: format!("cannot be read: {error}"),
        hint_vi: hint_vi.to_owned(),
        hint_en: hint_en.to_owned(),
    }
}

/// Tables key by key, lists of tables by `name`, everything else is replaced.
fn merge(below: &mut Table, above: Table) {
    for (key, node) in above {
        match (below.get_mut(&key).map(|node| &mut node.value), node.value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (Some(Value::List(below)), Value::List(above))
                if all_tables(below) && all_tables(&above) =>
            {
                above.into_iter().for_each(|item| merge_item(below, item));
            }
            (_, value) => {
                below.insert(
                    key,
                    Node {
                        value,
                        origin: node.origin,
                    },
                );
            }
        }
    }
}

fn merge_item(below: &mut Vec<Node>, item: Node) {
    let name = name_of(&item).map(str::to_owned);
    let same = below
        .iter_mut()
        .find(|other| name.is_some() && name_of(other) == name.as_deref());
    match (same.map(|node| &mut node.value), item) {
        (
            Some(Value::Table(below)),
            Node {
                value: Value::Table(above),
                ..
            },
        ) => merge(below, above),
        (_, item) => below.push(item),
    }
}

fn name_of(node: &Node) -> Option<&str> {
    let Value::Table(table) = &node.value else {
        return None;
    };
    match &table.get("name")?.value {
        Value::Text(name) => Some(name),
        _ => None,
    }
}

fn all_tables(items: &[Node]) -> bool {
    !items.is_empty()
        && items
            .iter()
            .all(|item| matches!(item.value, Value::Table(_)))
}

/// A file while its values are given their places.
struct Place<'t> {
    file: Arc<Path>,
    shown: Arc<str>,
    text: &'t str,
}

impl Place<'_> {
    fn line(&self, offset: usize) -> u32 {
        let newlines = self.text.as_bytes()[..offset.min(self.text.len())]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        u32::try_from(newlines + 1).unwrap_or(u32::MAX)
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        table
            .iter()
            .map(|(key, value)| {
                (
                    key.get_ref().to_string(),
                    self.node(key.span().start, value),
                )
            })
            .collect()
    }

    fn node(&self, offset: usize, value: &Spanned<DeValue<'_>>) -> Node {
        let origin = Origin {
            file: Arc::clone(&self.file),
            shown: Arc::clone(&self.shown),
            line: Some(self.line(offset)),
        };
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Value::Integer(number),
                    Err(_) => Value::Text(number.as_str().to_owned()),
                }
            }
            DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Value::Boolean(*truth),
            DeValue::Datetime(time) => Value::Time(time.to_string()),
            DeValue::Array(items) => Value::List(
                items
                    .iter()
                    .map(|item| self.node(item.span().start, item))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { value, origin }
    }
}

impl Wrong {
    /// The value is of another kind than the setting.
    pub fn kind(vi: &str, en: &str, example: &str, found: &Value) -> Wrong {
        let (found_vi, found_en) = found.kind();
        Wrong {
            vi: format!("phải là {vi}, đang là {found_vi}"),
            en: format!("must be {en}, it is {found_en}"),
            hint_vi: format!("Ví dụ: {example}"),
            hint_en: format!("For example: {example}"),
        }
    }
}
