//! Settings: TOML as written, read into what is meant, with every fault at once.
//!
//! A file `x.toml` and the drop-ins `x.d/*.toml` beside it are merged by key, in the order of
//! their names: tables key by key, lists of tables by their `name`, everything else is replaced.
//! Whoever reads a section asks for each key with its default and its kind. That one line is the
//! whole knowledge of a setting: it checks the value, remembers it with its origin for printing,
//! and makes every other key of the section a fault.

mod tree;
pub mod units;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use tree::{Node, Origin, Table, Value};
use units::Wrong;

/// What is wrong with one setting, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    pub line: Option<u32>,
    /// Such as `store.quota`; empty when the file itself is wrong.
    pub key: String,
    pub message_vi: String,
    pub message_en: String,
    pub hint_vi: String,
    pub hint_en: String,
}

impl fmt::Display for Fault {
    /// Two lines a language: place and message, then what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = self.file.display().to_string();
        if let Some(line) = self.line {
            write!(place, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(place, ": {}", self.key)?;
        }
        writeln!(f, "{place}: {}", self.message_vi)?;
        writeln!(f, "    {}", self.hint_vi)?;
        writeln!(f, "  {}", self.message_en)?;
        write!(f, "    {}", self.hint_en)
    }
}

/// The settings that were written, while they are being read.
pub struct Settings {
    root: Section,
}

/// One table of the settings. Keys that nobody asked for are faults when it is dropped.
pub struct Section {
    /// Such as `store` or `source[quan-trac]`; empty for the root.
    name: String,
    table: Table,
    origin: Origin,
    asked: Vec<&'static str>,
    /// Which of the printed tables this one is.
    place: usize,
    sink: Rc<RefCell<Sink>>,
}

/// What is gathered while the settings are read.
struct Sink {
    /// The folder of the main file: defaults that are paths begin here.
    folder: PathBuf,
    faults: Vec<Fault>,
    /// What counts, table by table.
    printed: Vec<String>,
}

/// All settings that count, as TOML with each value's origin.
#[derive(Debug, Clone, Default)]
pub struct Effective {
    text: String,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Settings {
    /// Reads the file and its drop-ins. What cannot be read is among the faults at the end.
    pub fn read(path: &Path) -> Settings {
        let mut faults = Vec::new();
        // Printed paths are to be of use wherever they are read.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let path = path.as_path();
        let table = tree::read(path, &mut faults);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let sink = Sink {
            folder,
            faults,
            printed: vec![String::new()],
        };
        let origin = Origin {
            file: path.into(),
            shown: tree::shown(path),
            line: None,
        };
        Settings {
            root: Section {
                name: String::new(),
                table,
                origin,
                asked: Vec::new(),
                place: 0,
                sink: Rc::new(RefCell::new(sink)),
            },
        }
    }

    /// A table of the top level; empty when it was not written.
    pub fn section(&mut self, key: &'static str) -> Section {
        self.root.asked.push(key);
        let (table, origin) = match self.root.take_table(key) {
            Some((table, origin)) => (table, origin),
            None => (Table::new(), self.root.origin.clone()),
        };
        self.root
            .child(key.to_owned(), format!("[{key}]"), table, origin)
    }

    /// The tables of a list `[[key]]` of the top level, in the order in which they were written.
    pub fn list(&mut self, key: &'static str) -> Vec<Section> {
        self.root.list(key)
    }

    /// Says that something is wrong with a key that was read already.
    pub fn fault(&mut self, key: &str, wrong: Wrong) {
        self.root
            .fault_at(self.root.origin.clone(), key.to_owned(), wrong);
    }

    /// Adds what was found in a file that the settings name.
    pub fn add_fault(&mut self, fault: Fault) {
        self.root.sink.borrow_mut().faults.push(fault);
    }

    /// The settings that count, or every fault in the order of the files.
    pub fn finish(self) -> Result<Effective, Vec<Fault>> {
        let sink = Rc::clone(&self.root.sink);
        drop(self);
        let mut sink = sink.borrow_mut();
        let mut faults = std::mem::take(&mut sink.faults);
        if faults.is_empty() {
            sink.printed.retain(|table| !table.is_empty());
            return Ok(Effective {
                text: sink.printed.join("\n"),
            });
        }
        faults.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(faults)
    }
}

impl Section {
    /// Anything that is written as a text.
    pub fn text<T: FromStr>(&mut self, key: &'static str, default: Option<&str>) -> Option<T>
    where
        T::Err: fmt::Display,
    {
        self.value(key, default, |text| {
            text.parse::<T>().map_err(|error| Wrong {
                vi: format!("giá trị không dùng được: {error}"),
                en: error.to_string(),
                hint_vi: "Sửa giá trị cho đúng dạng.".to_owned(),
                hint_en: "Correct the value.".to_owned(),
            })
        })
    }

    /// A text that `parse` understands.
    pub fn value<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.parsed(key, default, quoted, parse)
    }

    /// As [`Section::value`], for a key that may be left out.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<Option<T>> {
        self.if_written(key, |section| section.value(key, None, parse))
    }

    /// A text that is checked but not printed.
    pub fn secret<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.parsed(key, None, |_| quoted("…"), parse)
    }

    /// A size in bytes, such as `64 MiB`.
    pub fn size(
        &mut self,
        key: &'static str,
        default: &str,
        within: RangeInclusive<u64>,
    ) -> Option<u64> {
        let parse = |text: &str| units::within(units::size(text)?, &within, units::size_text);
        self.value(key, Some(default), parse)
    }

    /// A time in milliseconds, such as `14 d`.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: &str,
        within: RangeInclusive<u64>,
    ) -> Option<u64> {
        let parse =
            |text: &str| units::within(units::duration(text)?, &within, units::duration_text);
        self.value(key, Some(default), parse)
    }

    pub fn number(
        &mut self,
        key: &'static str,
        default: u64,
        within: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.asked.push(key);
        let Some(node) = self.table.remove(key) else {
            self.keep(key, default.to_string(), None);
            return Some(default);
        };
        let Value::Integer(number) = node.value else {
            let wrong = Wrong::kind("một số nguyên", "an integer", "100", &node.value);
            return self.refuse(key, Some(node.origin), wrong);
        };
        let found = u64::try_from(number).unwrap_or(0);
        match units::within(found, &within, u64::to_string) {
            Ok(found) => {
                self.keep(key, found.to_string(), Some(&node.origin));
                Some(found)
            }
            Err(wrong) => self.refuse(key, Some(node.origin), wrong),
        }
    }

    /// A path; one that is not absolute begins at the folder of the file that says it.
    pub fn path(&mut self, key: &'static str, default: Option<&str>) -> Option<PathBuf> {
        let (text, origin) = self.take_text(key, default)?;
        if text.is_empty() {
            return self.refuse(key, origin, Wrong::empty());
        }
        let folder = match &origin {
            Some(origin) => origin.file.parent().unwrap_or(Path::new("")).to_owned(),
            None => self.sink.borrow().folder.clone(),
        };
        let path = folder.join(text);
        self.keep(key, quoted(&path.display().to_string()), origin.as_ref());
        Some(path)
    }

    /// As [`Section::path`], for a key that may be left out.
    pub fn optional_path(&mut self, key: &'static str) -> Option<Option<PathBuf>> {
        self.if_written(key, |section| section.path(key, None))
    }

    /// A list of paths, as [`Section::path`] each.
    pub fn paths(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        self.texts_with(key, None, |text, folder| {
            let path = folder.join(text);
            let printed = path.display().to_string();
            Ok((path, printed))
        })
    }

    /// A list of texts that `T` understands. Without a default at least one is required.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        default: Option<&[&str]>,
        parse: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        self.texts_with(key, default, |text, _| Ok((parse(text)?, text.to_owned())))
    }

    /// A table below this one.
    pub fn list(&mut self, key: &'static str) -> Vec<Section> {
        self.asked.push(key);
        let Some(node) = self.table.remove(key) else {
            return Vec::new();
        };
        let Value::List(items) = node.value else {
            let wrong = Wrong::kind(
                "một danh sách bảng",
                "a list of tables",
                &format!("[[{key}]]"),
                &node.value,
            );
            self.refuse::<()>(key, Some(node.origin), wrong);
            return Vec::new();
        };
        let header = format!("[[{}]]", join(&self.name, key));
        let mut sections = Vec::new();
        for item in items {
            let Value::Table(table) = item.value else {
                let wrong = Wrong::kind("một bảng", "a table", &header, &item.value);
                self.refuse::<()>(key, Some(item.origin), wrong);
                continue;
            };
            let name = match table.get("name").map(|node| &node.value) {
                Some(Value::Text(name)) => format!("{}[{name}]", join(&self.name, key)),
                _ => format!("{}[{}]", join(&self.name, key), sections.len() + 1),
            };
            sections.push((name, table, item.origin));
        }
        sections
            .into_iter()
            .map(|(name, table, origin)| self.child(name, header.clone(), table, origin))
            .collect()
    }

    /// Reads the rest of this table as `T`, which is to name unknown keys itself.
    pub fn rest<T: serde::de::DeserializeOwned + Default>(
        &mut self,
        key: &'static str,
    ) -> Option<T> {
        self.asked.push(key);
        let Some(node) = self.table.remove(key) else {
            return Some(T::default());
        };
        match node.value.to_toml().try_into::<T>() {
            Ok(value) => {
                self.keep(key, node.value.to_toml().to_string(), Some(&node.origin));
                Some(value)
            }
            Err(error) => {
                let wrong = Wrong {
                    vi: format!("không đọc được: {}", error.message()),
                    en: format!("cannot be read: {}", error.message()),
                    hint_vi: "Sửa bảng này cho đúng.".to_owned(),
                    hint_en: "Correct this table.".to_owned(),
                };
                self.refuse(key, Some(node.origin), wrong)
            }
        }
    }

    /// Reads no more of this table, and says nothing of what is left in it.
    pub fn leave<T>(mut self) -> Option<T> {
        self.table.clear();
        None
    }

    /// Says that something is wrong with a key that was read already.
    pub fn fault(&mut self, key: &str, wrong: Wrong) {
        self.fault_at(self.origin.clone(), join(&self.name, key), wrong);
    }

    /// Reads a key that is there; `Some(None)` when it was left out.
    fn if_written<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section) -> Option<T>,
    ) -> Option<Option<T>> {
        if !self.table.contains_key(key) {
            self.asked.push(key);
            return Some(None);
        }
        read(self).map(Some)
    }

    /// A text that `parse` understands, printed as `printed` says.
    fn parsed<T>(
        &mut self,
        key: &'static str,
        default: Option<&str>,
        printed: impl FnOnce(&str) -> String,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let (text, origin) = self.take_text(key, default)?;
        match parse(&text) {
            Ok(value) => {
                self.keep(key, printed(&text), origin.as_ref());
                Some(value)
            }
            Err(wrong) => self.refuse(key, origin, wrong),
        }
    }

    /// `parse` gives the value and how it is printed.
    fn texts_with<T>(
        &mut self,
        key: &'static str,
        default: Option<&[&str]>,
        parse: impl Fn(&str, &Path) -> Result<(T, String), Wrong>,
    ) -> Option<Vec<T>> {
        self.asked.push(key);
        let Some(node) = self.table.remove(key) else {
            let Some(default) = default else {
                return self.refuse(key, None, Wrong::missing());
            };
            let folder = self.sink.borrow().folder.clone();
            self.keep(key, list_text(default.iter().copied()), None);
            let parse = |text: &&str| Some(parse(text, &folder).ok()?.0);
            return default.iter().map(parse).collect();
        };
        let Value::List(items) = node.value else {
            let wrong = Wrong::kind("một danh sách", "a list", r#"["a", "b"]"#, &node.value);
            return self.refuse(key, Some(node.origin), wrong);
        };
        if items.is_empty() && default.is_none() {
            return self.refuse(key, Some(node.origin), Wrong::empty());
        }
        let (mut values, mut written, count) = (Vec::new(), Vec::new(), items.len());
        for item in items {
            let Value::Text(text) = item.value else {
                let wrong = Wrong::kind(
                    "văn bản trong ngoặc kép",
                    "a text in quotes",
                    r#""a""#,
                    &item.value,
                );
                self.refuse::<()>(key, Some(item.origin), wrong);
                continue;
            };
            let folder = item
                .origin
                .file
                .parent()
                .unwrap_or(Path::new(""))
                .to_owned();
            match parse(&text, &folder) {
                Ok((value, text)) => {
                    values.push(value);
                    written.push(text);
                }
                Err(wrong) => {
                    self.refuse::<()>(key, Some(item.origin), wrong);
                }
            }
        }
        self.keep(
            key,
            list_text(written.iter().map(String::as_str)),
            Some(&node.origin),
        );
        (values.len() == count).then_some(values)
    }

    /// The written text of a key, else its default; a fault when there is neither.
    fn take_text(
        &mut self,
        key: &'static str,
        default: Option<&str>,
    ) -> Option<(String, Option<Origin>)> {
        self.asked.push(key);
        match (self.table.remove(key), default) {
            (
                Some(Node {
                    value: Value::Text(text),
                    origin,
                }),
                _,
            ) => Some((text, Some(origin))),
            (Some(Node { value, origin }), _) => {
                let example = default.unwrap_or("…");
                let wrong = Wrong::kind(
                    "văn bản trong ngoặc kép",
                    "a text in quotes",
                    &quoted(example),
                    &value,
                );
                self.refuse(key, Some(origin), wrong)
            }
            (None, Some(default)) => Some((default.to_owned(), None)),
            (None, None) => self.refuse(key, None, Wrong::missing()),
        }
    }

    fn take_table(&mut self, key: &'static str) -> Option<(Table, Origin)> {
        let node = self.table.remove(key)?;
        match node.value {
            Value::Table(table) => Some((table, node.origin)),
            value => {
                let wrong = Wrong::kind("một bảng", "a table", &format!("[{key}]"), &value);
                self.refuse(key, Some(node.origin), wrong)
            }
        }
    }

    fn child(&self, name: String, header: String, table: Table, origin: Origin) -> Section {
        let printed = &mut self.sink.borrow_mut().printed;
        printed.push(format!("{header}\n"));
        Section {
            name,
            table,
            origin,
            asked: Vec::new(),
            place: printed.len() - 1,
            sink: Rc::clone(&self.sink),
        }
    }

    fn keep(&self, key: &str, value: String, origin: Option<&Origin>) {
        let text = &mut self.sink.borrow_mut().printed[self.place];
        let origin = origin.map_or_else(|| "default".to_owned(), Origin::to_string);
        writeln!(text, "{key} = {value}  # {origin}").expect("a string takes any text");
    }

    fn refuse<T>(&self, key: &str, origin: Option<Origin>, wrong: Wrong) -> Option<T> {
        let origin = origin.unwrap_or_else(|| self.origin.clone());
        self.fault_at(origin, join(&self.name, key), wrong);
        None
    }

    fn fault_at(&self, origin: Origin, key: String, wrong: Wrong) {
        let Wrong {
            vi,
            en,
            hint_vi,
            hint_en,
        } = wrong;
        self.sink.borrow_mut().faults.push(Fault {
            file: origin.file.to_path_buf(),
            line: origin.line,
            key,
            message_vi: vi,
            message_en: en,
            hint_vi,
            hint_en,
        });
    }
}

impl Drop for Section {
    fn drop(&mut self) {
        let left: BTreeMap<String, Node> = std::mem::take(&mut self.table);
        for (key, node) in left {
            let wrong = units::unknown(&key, &self.asked);
            self.refuse::<()>(&key, Some(node.origin), wrong);
        }
    }
}

fn join(section: &str, key: &str) -> String {
    match (section.is_empty(), key.is_empty()) {
        (true, _) => key.to_owned(),
        (_, true) => section.to_owned(),
        _ => format!("{section}.{key}"),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn list_text<'a>(items: impl Iterator<Item = &'a str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
