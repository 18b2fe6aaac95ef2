//! The heading of a table: which column is which field.

use std::collections::BTreeSet;

use unicode_normalization::UnicodeNormalization;

use crate::formats::table::{COLUMNS_MAX, Column, Columns};
use crate::formats::{Fault, excerpt, number};

/// Which cell of a row fills which column of the settings.
pub struct Header {
    /// By the cell's place: the places in [`Columns::list`] that it fills.
    pub columns: Vec<Vec<usize>>,
    /// As they are written.
    pub names: Vec<String>,
    /// Columns that are not taken.
    pub left_out: Vec<String>,
    /// Cells that each row has; none where there is no heading.
    pub width: Option<usize>,
    tree: Vec<Branch>,
}

/// Where the value of a column goes in a record.
enum Branch {
    Value { name: String, column: usize },
    Object { name: String, inside: Vec<Branch> },
}

impl Header {
    /// Columns that are called by their numbers, from 1, in a table without a heading.
    pub fn by_number(columns: &Columns) -> Header {
        let mut places = Vec::new();
        for (column, Column { names, .. }) in columns.list.iter().enumerate() {
            for name in names {
                let Ok(place @ 1..=COLUMNS_MAX) = name.parse::<usize>() else {
                    continue;
                };
                if places.len() < place {
                    places.resize_with(place, Vec::new);
                }
                places[place - 1].push(column);
            }
        }
        Header {
            names: (1..=places.len()).map(|place| place.to_string()).collect(),
            columns: places,
            left_out: Vec::new(),
            width: None,
            tree: tree(&columns.list),
        }
    }

    /// The heading that a row is, if every column that must be there is in it.
    pub fn of(columns: &Columns, names: &[String]) -> Option<Header> {
        let last = names.iter().rposition(|name| !name.is_empty())?;
        let names = &names[..=last];
        let is_there = |column: &Column| names.iter().any(|name| is_named(column, name));
        let is_whole = columns
            .list
            .iter()
            .all(|column| !column.is_required || is_there(column));
        if !is_whole || known(columns, names) == 0 {
            return None;
        }
        let places = |name: &String| -> Vec<usize> {
            let list = columns.list.iter().enumerate();
            list.filter(|(_, column)| is_named(column, name))
                .map(|(place, _)| place)
                .collect()
        };
        let is_left = |name: &&String| {
            let is_ignored = columns.ignored.iter().any(|ignored| same(ignored, name));
            !name.is_empty() && places(name).is_empty() && !is_ignored
        };
        Some(Header {
            columns: names.iter().map(places).collect(),
            names: names.to_vec(),
            left_out: names
                .iter()
                .filter(is_left)
                .map(|name| excerpt(name))
                .collect(),
            width: Some(names.len()),
            tree: tree(&columns.list),
        })
    }

    /// What makes the heading unusable.
    pub fn faults(&self, columns: &Columns, line: u32, names: &[String]) -> Vec<Fault> {
        let mut faults = Vec::new();
        let mut fault = |column: usize, vi: String, en: String| {
            faults.push(Fault {
                line,
                column: number(column + 1),
                message_vi: vi,
                message_en: en,
            });
        };
        if COLUMNS_MAX < names.len() {
            fault(
                COLUMNS_MAX,
                format!("quá {COLUMNS_MAX} cột"),
                format!("more than {COLUMNS_MAX} columns"),
            );
        }
        let mut seen = BTreeSet::new();
        for (at, columns) in self.columns.iter().enumerate() {
            if columns.iter().any(|column| !seen.insert(*column)) {
                let name = excerpt(&self.names[at]);
                fault(
                    at,
                    format!(
                        "cột “{name}” có hai lần trong tiêu đề; hãy đổi tên hoặc bỏ bớt một cột"
                    ),
                    format!(
                        "the column {name:?} stands twice in the heading; rename or remove one"
                    ),
                );
            }
        }
        if columns.is_closed && !self.left_out.is_empty() {
            let names = self.left_out.join(", ");
            fault(
                0,
                format!(
                    "bộ dữ liệu không có trường cho các cột: {names}; hãy khai báo trong [source.columns], \"\" để bỏ qua một cột"
                ),
                format!(
                    "the dataset has no field for the columns: {names}; name them in [source.columns], \"\" leaves one out"
                ),
            );
        }
        faults
    }

    /// A record of the values by the places of their columns, as JSON.
    pub fn record(&self, columns: &Columns, values: &[Option<String>]) -> String {
        let mut out = String::from("{");
        write(&self.tree, values, &mut out);
        out.push('}');
        debug_assert_eq!(columns.list.len(), values.len());
        out
    }
}

fn write(branches: &[Branch], values: &[Option<String>], out: &mut String) {
    let mut is_first = true;
    let mut begin = |name: &str, out: &mut String| {
        if !std::mem::take(&mut is_first) {
            out.push(',');
        }
        out.push_str(&serde_json::to_string(name).expect("a text is JSON"));
        out.push(':');
    };
    for branch in branches {
        match branch {
            Branch::Value { name, column } => {
                if let Some(value) = &values[*column] {
                    begin(name, out);
                    out.push_str(value);
                }
            }
            Branch::Object { name, inside } if has_value(inside, values) => {
                begin(name, out);
                out.push('{');
                write(inside, values, out);
                out.push('}');
            }
            Branch::Object { .. } => {}
        }
    }
}

fn has_value(branches: &[Branch], values: &[Option<String>]) -> bool {
    branches.iter().any(|branch| match branch {
        Branch::Value { column, .. } => values[*column].is_some(),
        Branch::Object { inside, .. } => has_value(inside, values),
    })
}

/// The shape of a record. Of two columns that fill one field the settings' check lets none pass.
fn tree(columns: &[Column]) -> Vec<Branch> {
    let mut tree = Vec::new();
    for (column, Column { path, .. }) in columns.iter().enumerate() {
        let Some((name, above)) = path.split_last() else {
            continue;
        };
        let mut level = &mut tree;
        for name in above {
            let found = level.iter().position(
                |branch| matches!(branch, Branch::Object { name: other, .. } if other == name),
            );
            let at = found.unwrap_or_else(|| {
                level.push(Branch::Object {
                    name: name.clone(),
                    inside: Vec::new(),
                });
                level.len() - 1
            });
            let Branch::Object { inside, .. } = &mut level[at] else {
                unreachable!("an object was found or made");
            };
            level = inside;
        }
        level.push(Branch::Value {
            name: name.clone(),
            column,
        });
    }
    tree
}

/// A heading without what people do not see: outer and doubled spaces, breaks, composed letters.
pub fn normal(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").nfc().collect()
}

/// How many of the columns are among the names.
pub fn known(columns: &Columns, names: &[String]) -> usize {
    let is_there = |column: &&Column| names.iter().any(|name| is_named(column, name));
    columns.list.iter().filter(is_there).count()
}

fn is_named(column: &Column, name: &str) -> bool {
    column.names.iter().any(|known| same(known, name))
}

fn same(known: &str, name: &str) -> bool {
    normal(known).to_lowercase() == name.to_lowercase()
}

/// No row is the heading; the nearest one says what is missing.
pub fn not_found(columns: &Columns, rows: &[(u32, Vec<String>)], header_row: Option<u32>) -> Fault {
    let missing = |names: &[String]| -> Vec<String> {
        let lacks = |column: &&Column| {
            column.is_required && !names.iter().any(|name| is_named(column, name))
        };
        let lacking = columns.list.iter().filter(lacks);
        lacking
            .filter_map(|column| column.names.first())
            .map(|name| format!("“{}”", excerpt(name)))
            .collect()
    };
    let nearest = rows.iter().min_by_key(|(_, names)| missing(names).len());
    let line = nearest.map_or(header_row.unwrap_or(1), |(line, _)| *line);
    let missing = nearest.map_or_else(|| missing(&[]), |(_, names)| missing(names));
    let (vi, en) = match missing.is_empty() {
        true => (
            "không dòng nào là tiêu đề của bộ dữ liệu này; hãy kiểm tra dấu phân cách (delimiter), dòng tiêu đề (header) và tên cột trong [source.columns]".to_owned(),
            "no row is a heading of this dataset; check delimiter, header and the names in [source.columns]".to_owned(),
        ),
        false => {
            let names = missing.join(", ");
            (
                format!("tiêu đề thiếu cột {names}; hãy kiểm tra tệp, dấu phân cách (delimiter) hoặc tên cột trong [source.columns]"),
                format!("the heading lacks the columns {names}; check the file, the delimiter or the names in [source.columns]"),
            )
        }
    };
    Fault {
        line,
        column: 1,
        message_vi: vi,
        message_en: en,
    }
}
