//! From a row's columns to a record's fields.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::edge::connectors::Fault;
use crate::edge::sql::shape::Shape;
use crate::edge::sql::value::{Kind, Value, quoted};

/// Which column a field is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Names from the record down to the field.
    pub field: Vec<String>,
    pub column: String,
}

/// A column as the database describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: String,
    pub kind: Kind,
    /// As the database calls it.
    pub type_name: String,
}

/// How rows of one result become records.
#[derive(Debug, Clone)]
pub struct Plan {
    root: Node,
    zone_minutes: i32,
    /// Place, name and kind of the columns that are used.
    used: Vec<(usize, String, Kind)>,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(usize, Shape),
    Fields(BTreeMap<String, Node>),
}

/// A record made of a row, and what of it could not be said.
#[derive(Debug)]
pub struct Made {
    pub data: Box<RawValue>,
    /// Vietnamese, English; names the column and nothing of its content.
    pub flaw: Option<[String; 2]>,
}

impl Plan {
    /// Joins the configured columns to those of a result. `others` are columns that must be there
    /// too, such as the watermark.
    pub fn new(
        columns: &[Column],
        described: &[Described],
        others: &[&str],
        dataset: &Dataset,
        zone_minutes: i32,
    ) -> Result<Plan, Fault> {
        let schema: serde_json::Value =
            serde_json::from_str(&dataset.schema).expect("the schema was parsed at load");
        let own: Vec<Column>;
        let columns = match columns.is_empty() {
            false => columns,
            true => {
                own = by_name(described);
                &own
            }
        };
        let mut plan = Plan {
            root: Node::Fields(BTreeMap::new()),
            zone_minutes,
            used: Vec::new(),
        };
        for column in columns {
            let place = place_of(described, &column.column)?;
            plan.use_column(place, described)?;
            let shape = Shape::of_field(&schema, &column.field);
            insert(&mut plan.root, &column.field, Node::Leaf(place, shape))
                .ok_or_else(|| doubled(column))?;
        }
        for name in others {
            let place = place_of(described, name)?;
            plan.use_column(place, described)?;
        }
        Ok(plan)
    }

    fn use_column(&mut self, place: usize, described: &[Described]) -> Result<(), Fault> {
        let Described {
            name,
            kind,
            type_name,
        } = &described[place];
        match kind {
            Kind::Bytes => return Err(blob(name)),
            Kind::Foreign => return Err(foreign(name, type_name)),
            _ => {}
        }
        if !self.used.iter().any(|(used, ..)| *used == place) {
            self.used.push((place, name.clone(), *kind));
        }
        Ok(())
    }

    /// What the used columns are, in one line; changes when the source's schema does.
    pub fn signature(&self) -> String {
        let mut parts: Vec<String> = self
            .used
            .iter()
            .map(|(_, name, kind)| format!("{}:{}", name.to_lowercase(), kind.as_str()))
            .collect();
        parts.sort();
        parts.join(",")
    }

    /// The record that a row says.
    pub fn record(&self, row: &[Value]) -> Made {
        let mut text = String::with_capacity(256);
        let mut flaw = None;
        if !self.write(&self.root, row, &mut text, &mut flaw) {
            text.push_str("{}");
        }
        let data = RawValue::from_string(text).expect("each part is well-formed");
        Made { data, flaw }
    }

    /// Some columns as a JSON list: what names a row.
    pub fn key(&self, row: &[Value], places: &[usize]) -> Option<String> {
        let part = |place: &usize| {
            let shape = Shape::default();
            let json = row[*place].to_json(&shape, self.zone_minutes).ok()?;
            json.filter(|json| json != "null")
        };
        let parts: Option<Vec<String>> = places.iter().map(part).collect();
        Some(format!("[{}]", parts?.join(",")))
    }

    /// Writes a node; false when there was nothing to write.
    fn write(
        &self,
        node: &Node,
        row: &[Value],
        text: &mut String,
        flaw: &mut Option<[String; 2]>,
    ) -> bool {
        match node {
            Node::Leaf(place, shape) => match row[*place].to_json(shape, self.zone_minutes) {
                Ok(Some(json)) => {
                    text.push_str(&json);
                    true
                }
                Ok(None) => false,
                Err([vi, en]) => {
                    let name = self.used.iter().find(|(used, ..)| used == place);
                    let name = name.map_or("", |(_, name, _)| name.as_str());
                    flaw.get_or_insert([
                        format!("cột “{name}” {vi}"),
                        format!("the column {name:?} {en}"),
                    ]);
                    false
                }
            },
            Node::Fields(fields) => {
                let begin = text.len();
                text.push('{');
                for (name, node) in fields {
                    let before = text.len();
                    if before > begin + 1 {
                        text.push(',');
                    }
                    text.push_str(&quoted(name));
                    text.push(':');
                    if !self.write(node, row, text, flaw) {
                        text.truncate(before);
                    }
                }
                let has_any = text.len() > begin + 1;
                match has_any {
                    true => text.push('}'),
                    false => text.truncate(begin),
                }
                has_any
            }
        }
    }
}

/// Every column by its own name; a dot leads into a nested field.
fn by_name(described: &[Described]) -> Vec<Column> {
    let column = |described: &Described| Column {
        field: described.name.split('.').map(str::to_owned).collect(),
        column: described.name.clone(),
    };
    described.iter().map(column).collect()
}

/// The place of a column; names are compared as databases do, without case, an exact one first.
pub fn place_of(described: &[Described], name: &str) -> Result<usize, Fault> {
    let exact = described.iter().position(|column| column.name == name);
    let lower = name.to_lowercase();
    let loose = || {
        described
            .iter()
            .position(|column| column.name.to_lowercase() == lower)
    };
    exact.or_else(loose).ok_or_else(|| missing(described, name))
}

fn insert(node: &mut Node, path: &[String], leaf: Node) -> Option<()> {
    let Node::Fields(fields) = node else {
        return None;
    };
    let (first, rest) = path.split_first()?;
    if rest.is_empty() {
        return match fields.insert(first.clone(), leaf) {
            None => Some(()),
            Some(_) => None,
        };
    }
    let next = fields
        .entry(first.clone())
        .or_insert_with(|| Node::Fields(BTreeMap::new()));
    insert(next, rest, leaf)
}

fn missing(described: &[Described], name: &str) -> Fault {
    let names: Vec<&str> = described
        .iter()
        .map(|column| column.name.as_str())
        .take(60)
        .collect();
    let names = names.join(", ");
    Fault::new(
        "schema",
        [
            format!("kết quả truy vấn không còn cột “{name}”; các cột hiện có: {names}"),
            format!("the query's result has no column {name:?}; it has: {names}"),
        ],
        [
            "Cấu trúc bảng nguồn đã đổi: sửa query hoặc [source.columns]; con trỏ giữ nguyên, không mất dòng nào.",
            "The source's table has changed: correct query or [source.columns]; the cursor stands still, no row is lost.",
        ],
    )
}

fn doubled(column: &Column) -> Fault {
    let field = column.field.join(".");
    Fault::new(
        "schema",
        [
            format!("trường “{field}” được gán hai lần hoặc vừa là giá trị vừa là nhóm"),
            format!("the field {field:?} is given twice, or as a value and as a group"),
        ],
        [
            "Sửa [source.columns] hoặc tên cột trong query.",
            "Correct [source.columns] or the names in the query.",
        ],
    )
}

fn blob(name: &str) -> Fault {
    Fault::new(
        "blob",
        [
            format!("cột “{name}” chứa dữ liệu nhị phân, nguồn này chưa nhận tệp đính kèm"),
            format!(
                "the column {name:?} holds binary data, and this source takes no attachments yet"
            ),
        ],
        [
            "Bỏ cột này khỏi query hoặc [source.columns]; gửi tệp qua thư mục.",
            "Take the column out of query or [source.columns]; hand files in by the folder.",
        ],
    )
}

fn foreign(name: &str, type_name: &str) -> Fault {
    Fault::new(
        "column_type",
        [
            format!("cột “{name}” có kiểu {type_name} chưa đọc được"),
            format!("the column {name:?} has the type {type_name}, which cannot be read"),
        ],
        [
            "Đổi kiểu trong query, ví dụ CAST(cột AS numeric) hoặc CAST(cột AS text).",
            "Convert it in the query, such as CAST(column AS numeric) or CAST(column AS text).",
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(names: &[(&str, Kind)]) -> Vec<Described> {
        names
            .iter()
            .map(|(name, kind)| Described {
                name: (*name).to_owned(),
                kind: *kind,
                type_name: "x".to_owned(),
            })
            .collect()
    }

    fn dataset() -> crate::catalogue::Catalogue {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        crate::catalogue::Catalogue::load(&folder).expect("the catalogue of the house")
    }

    fn column(field: &str, column: &str) -> Column {
        Column {
            field: field.split('.').map(str::to_owned).collect(),
            column: column.to_owned(),
        }
    }

    #[test]
    fn rows_become_records_with_nested_fields() {
        let catalogue = dataset();
        let dossier = catalogue
            .get(&"ho_so_tthc".parse().expect("an id"))
            .expect("there");
        let columns = [
            column("ma_ho_so", "SoHoSo"),
            column("nguoi_nop.ho_ten", "ten"),
            column("nguoi_nop.so_dinh_danh", "cccd"),
            column("da_thu", "da_thu"),
            column("ghi_chu.noi_dung", "ghi_chu"),
        ];
        let described = described(&[
            ("sohoso", Kind::Text),
            ("ten", Kind::Text),
            ("cccd", Kind::Text),
            ("da_thu", Kind::Number),
            ("ghi_chu", Kind::Text),
        ]);
        let plan = Plan::new(&columns, &described, &[], dossier, 420).expect("a plan");
        let made = plan.record(&[
            Value::Text("H53.12-261120-0042".to_owned()),
            Value::Text("Nguyễn \"Văn\" An".to_owned()),
            Value::Null,
            Value::Int(1),
            Value::Null,
        ]);
        assert_eq!(
            made.data.get(),
            r#"{"da_thu":true,"ma_ho_so":"H53.12-261120-0042","nguoi_nop":{"ho_ten":"Nguyễn \"Văn\" An","so_dinh_danh":null}}"#
        );
        assert!(made.flaw.is_none());
    }

    #[test]
    fn a_column_that_is_gone_is_named() {
        let catalogue = dataset();
        let dossier = catalogue
            .get(&"ho_so_tthc".parse().expect("an id"))
            .expect("there");
        let described = described(&[
            ("a", Kind::Text),
            ("anh", Kind::Bytes),
            ("g", Kind::Foreign),
        ]);
        let fault = |columns: &[Column]| {
            Plan::new(columns, &described, &[], dossier, 420).expect_err("a fault")
        };
        let gone = fault(&[column("ma_ho_so", "SoHoSo")]);
        assert_eq!(gone.code, "schema");
        assert!(
            gone.en.contains("SoHoSo") && gone.en.contains("anh"),
            "{}",
            gone.en
        );
        assert_eq!(fault(&[column("x", "anh")]).code, "blob");
        assert_eq!(fault(&[column("x", "g")]).code, "column_type");
        assert_eq!(
            fault(&[column("x", "a"), column("x.y", "a")]).code,
            "schema"
        );
        let others = Plan::new(&[column("x", "a")], &described, &["id"], dossier, 420);
        assert!(others.expect_err("no watermark").en.contains("\"id\""));
    }
}
