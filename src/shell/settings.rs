//! Settings: TOML as written, read into what is meant, with every fault at once.
//!
//! A file `x.toml` and the drop-ins `x.d/*.toml` beside it are merged by key, in the order of
//! their names: tables key by key, lists of tables by their `name`, everything else is replaced.
//! Whoever reads a section asks for each key with its default and its kind. That one line is the
//! whole knowledge of a setting: it checks the value, remembers it with its origin for printing,
//! and makes every other key of the section a fault.

pub mod section;
mod tree;
pub mod units;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use section::Section;
use tree::Origin;
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
    sink: Rc<RefCell<Sink>>,
}

/// What is gathered while the settings are read.
struct Sink {
    /// The folder of the main file: defaults that are paths begin here.
    folder: PathBuf,
    faults: Vec<Fault>,
    /// What counts, table by table; a table stands before those inside of it.
    printed: BTreeMap<Place, String>,
}

/// The number of a table among its parent's, behind that of the parent.
type Place = Vec<usize>;

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
            printed: BTreeMap::new(),
        };
        let origin = Origin {
            file: path.into(),
            shown: tree::shown(path),
            line: None,
        };
        let sink = Rc::new(RefCell::new(sink));
        Settings {
            root: Section::root(table, origin, Rc::clone(&sink)),
            sink,
        }
    }

    /// A table of the top level; empty when it was not written.
    pub fn section(&mut self, key: &'static str) -> Section {
        self.root.section(key)
    }

    /// The tables of a list `[[key]]` of the top level, in the order in which they were written.
    pub fn list(&mut self, key: &'static str) -> Vec<Section> {
        self.root.list(key)
    }

    /// Says that something is wrong with a key that was read already.
    pub fn fault(&mut self, key: &str, wrong: Wrong) {
        self.root.fault(key, wrong);
    }

    /// Adds what was found in a file that the settings name.
    pub fn add_fault(&mut self, fault: Fault) {
        self.sink.borrow_mut().faults.push(fault);
    }

    /// The settings that count, or every fault in the order of the files.
    pub fn finish(self) -> Result<Effective, Vec<Fault>> {
        let sink = Rc::clone(&self.sink);
        drop(self);
        let mut sink = sink.borrow_mut();
        let mut faults = std::mem::take(&mut sink.faults);
        if faults.is_empty() {
            let tables: Vec<String> = std::mem::take(&mut sink.printed).into_values().collect();
            return Ok(Effective {
                text: tables.join("\n"),
            });
        }
        faults.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        Err(faults)
    }
}

#[cfg(test)]
mod tests;
