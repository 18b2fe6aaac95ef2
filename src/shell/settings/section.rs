//! One table of the settings: reads its keys one by one, and remembers what was asked for.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;

use super::tree::{Node, Origin, Table, Value};
use super::units::{self, Wrong};
use super::{Fault, Place, Sink};

/// One table of the settings. Keys that nobody asked for are faults when it is dropped.
pub struct Section {
    /// Such as `store` or `source[quan-trac]`; empty for the root.
    name: String,
    /// The keys that lead here, as the header of a table has them; empty for the root.
    keys: String,
    table: Table,
    origin: Origin,
    asked: Vec<&'static str>,
    /// Which of the printed tables this one is.
    place: Place,
    children: usize,
    sink: Rc<RefCell<Sink>>,
}

impl Section {
    /// The top level; the first of the printed tables is its own.
    pub(super) fn root(table: Table, origin: Origin, sink: Rc<RefCell<Sink>>) -> Section {
        Section {
            name: String::new(),
            keys: String::new(),
            table,
            origin,
            asked: Vec::new(),
            place: Place::default(),
            children: 0,
            sink,
        }
    }

    /// A table of this one; empty when it was not written.
    pub fn section(&mut self, key: &'static str) -> Section {
        self.asked.push(key);
        let (table, origin) = match self.take_table(key) {
            Some((table, origin)) => (table, origin),
            None => (Table::new(), self.origin.clone()),
        };
        let (name, keys) = (join(&self.name, key), join(&self.keys, key));
        let header = format!("[{keys}]");
        self.child(name, keys, &header, table, origin)
    }

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

    /// A number that may be left out.
    pub fn optional_number(
        &mut self,
        key: &'static str,
        within: RangeInclusive<u64>,
    ) -> Option<Option<u64>> {
        self.if_written(key, |section| section.number(key, 0, within))
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &'static str, default: bool) -> Option<bool> {
        self.asked.push(key);
        let Some(node) = self.table.remove(key) else {
            self.keep(key, default.to_string(), None);
            return Some(default);
        };
        let Value::Boolean(truth) = node.value else {
            let wrong = Wrong::kind("true hoặc false", "true or false", "true", &node.value);
            return self.refuse(key, Some(node.origin), wrong);
        };
        self.keep(key, truth.to_string(), Some(&node.origin));
        Some(truth)
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

    /// The tables of a list `[[key]]`, in the order in which they were written.
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
        let keys = join(&self.keys, key);
        let header = format!("[[{keys}]]");
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
            .map(|(name, table, origin)| self.child(name, keys.clone(), &header, table, origin))
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

    fn child(
        &mut self,
        name: String,
        keys: String,
        header: &str,
        table: Table,
        origin: Origin,
    ) -> Section {
        let mut place = self.place.clone();
        place.push(self.children);
        self.children += 1;
        let printed = &mut self.sink.borrow_mut().printed;
        printed.insert(place.clone(), format!("{header}\n"));
        Section {
            name,
            keys,
            table,
            origin,
            asked: Vec::new(),
            place,
            children: 0,
            sink: Rc::clone(&self.sink),
        }
    }

    fn keep(&self, key: &str, value: String, origin: Option<&Origin>) {
        let printed = &mut self.sink.borrow_mut().printed;
        let text = printed.entry(self.place.clone()).or_default();
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
