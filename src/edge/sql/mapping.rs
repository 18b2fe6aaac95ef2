//! From a row's columns to a record's fields.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::catalogue::Dataset;
use crate::catalogue::schema::describing;
use crate::edge::config::sql::SqlConfig;
use crate::edge::connectors::Fault;
use crate::edge::door::short_digest;
use crate::edge::rows::{Attached, Row};
use crate::edge::sql::attachment::{FileColumn, FilePlan};
use crate::edge::sql::shape::Shape;
use crate::edge::sql::value::{Kind, Value, quoted};
use crate::model::record::Op;
use crate::store::rows::Short;

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
    files: Vec<FilePlan>,
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
    pub attachments: Vec<Attached>,
    /// Vietnamese, English; names the column and nothing of its content.
    pub flaw: Option<[String; 2]>,
}

impl Made {
    /// A digest of what names the row and of all of its content, its attachments' too.
    pub fn digest(&self, named: &[&str]) -> Short {
        let mut parts = named.to_vec();
        parts.push(self.data.get());
        parts.extend(self.flaw.iter().map(|flaw| flaw[1].as_str()));
        for Attached { name, .. } in &self.attachments {
            parts.extend([&name.name, &name.mime, &name.sha256].map(String::as_str));
        }
        short_digest(&parts)
    }

    pub fn into_row(self, op: Op) -> Row {
        let mut row = Row::new(self.data, op);
        row.attachments = self.attachments;
        row.flaw = self.flaw;
        row
    }
}

impl Plan {
    /// Joins the configured columns to those of a result. `others` are columns that must be there
    /// too, such as the watermark.
    pub fn new(
        config: &SqlConfig,
        described: &[Described],
        others: &[&str],
        dataset: &Dataset,
    ) -> Result<Plan, Fault> {
        let schema: serde_json::Value =
            serde_json::from_str(&dataset.schema).expect("the schema was parsed at load");
        let own: Vec<Column>;
        let columns = match config.columns.is_empty() {
            false => &config.columns,
            true => {
                own = by_name(described, &config.attachments, &schema);
                &own
            }
        };
        let mut plan = Plan {
            root: Node::Fields(BTreeMap::new()),
            files: Vec::new(),
            zone_minutes: config.zone_minutes,
            used: Vec::new(),
        };
        for file in &config.attachments {
            let file = FilePlan::new(file, described, config.attachment_bytes_max)?;
            plan.note_use(file.place(), &described[file.place()]);
            plan.files.push(file);
        }
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
        self.note_use(place, &described[place]);
        Ok(())
    }

    fn note_use(&mut self, place: usize, column: &Described) {
        let Described { name, kind, .. } = column;
        if !self.used.iter().any(|(used, ..)| *used == place) {
            self.used.push((place, name.clone(), *kind));
        }
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

    /// The record that a row says, and the files in it.
    pub fn record(&self, mut row: Vec<Value>) -> Made {
        let mut text = String::with_capacity(256);
        let (mut attachments, mut flaw) = (Vec::new(), None);
        for file in &self.files {
            match file.take(&mut row) {
                Ok(taken) => attachments.extend(taken),
                Err(wrong) => {
                    flaw.get_or_insert(wrong);
                }
            }
        }
        if !self.write(&self.root, &row, &mut text, &mut flaw) {
            text.push_str("{}");
        }
        let data = RawValue::from_string(text).expect("each part is well-formed");
        Made {
            data,
            attachments,
            flaw,
        }
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

/// Every column by its own name; a dot leads into a nested field. A file is no field, and neither is
/// what names it where the dataset knows no such field.
fn by_name(
    described: &[Described],
    files: &[FileColumn],
    schema: &serde_json::Value,
) -> Vec<Column> {
    let is_same = |one: &str, other: &str| one.to_lowercase() == other.to_lowercase();
    let column = |described: &Described| {
        let name = described.name.as_str();
        let is_file = files.iter().any(|file| is_same(&file.column, name));
        let mut names = files.iter().flat_map(FileColumn::others);
        let field: Vec<&str> = name.split('.').collect();
        let is_other = names.any(|other| is_same(other, name));
        let is_left_out = is_file || (is_other && describing(schema, &field).is_empty());
        (!is_left_out).then(|| Column {
            field: field.into_iter().map(str::to_owned).collect(),
            column: described.name.clone(),
        })
    };
    described.iter().filter_map(column).collect()
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
            format!("cột “{name}” chứa dữ liệu nhị phân, không phải là giá trị của một trường"),
            format!("the column {name:?} holds binary data, which is no field's value"),
        ],
        [
            "Khai báo cột này trong [[source.attachment]] để gửi làm tệp đính kèm, hoặc bỏ khỏi query.",
            "Name the column in [[source.attachment]] to send it as an attachment, or take it out of query.",
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
    use crate::edge::config::sql::{Driver, Mode, Place};
    use crate::edge::sql::attachment::Pattern;
    use crate::edge::sql::query::Query;

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

    fn config(columns: Vec<Column>, attachments: Vec<FileColumn>) -> SqlConfig {
        SqlConfig {
            driver: Driver::Sqlite,
            place: Place::File("x.db".into()),
            query: Query::parse("SELECT 1").expect("a query"),
            mode: Mode::Snapshot {
                key: vec!["id".to_owned()],
                deletes_max_percent: 20,
            },
            columns,
            attachments,
            attachment_bytes_max: 1 << 20,
            zone_minutes: 420,
            poll_ms: 1_000,
            rows_max: 100,
            statement_ms: 1_000,
            connect_ms: 1_000,
        }
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
        let config = config(columns.into(), Vec::new());
        let plan = Plan::new(&config, &described, &[], dossier).expect("a plan");
        let made = plan.record(vec![
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
            let config = config(columns.to_vec(), Vec::new());
            Plan::new(&config, &described, &[], dossier).expect_err("a fault")
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
        let others = config(vec![column("x", "a")], Vec::new());
        let others = Plan::new(&others, &described, &["id"], dossier);
        assert!(others.expect_err("no watermark").en.contains("\"id\""));
    }

    #[test]
    fn a_file_changes_its_row_and_is_no_field() {
        let catalogue = dataset();
        let dossier = catalogue
            .get(&"ho_so_tthc".parse().expect("an id"))
            .expect("there");
        let file = FileColumn {
            column: "TEP".to_owned(),
            name: Pattern::parse("{ma_ho_so}-{ten_tep}").expect("a name"),
            mime: Pattern::parse("application/pdf").expect("a type"),
        };
        let described = described(&[
            ("ma_ho_so", Kind::Text),
            ("tep", Kind::Bytes),
            ("ten_tep", Kind::Text),
        ]);
        let config = config(Vec::new(), vec![file]);
        let plan = Plan::new(&config, &described, &[], dossier).expect("a plan");
        assert_eq!(plan.signature(), "ma_ho_so:text,tep:bytes");
        let made = |content: Value| {
            let text = |text: &str| Value::Text(text.to_owned());
            plan.record(vec![text("H53"), content, text("a.pdf")])
        };
        let one = made(Value::Bytes(b"1".to_vec()));
        assert_eq!(one.data.get(), r#"{"ma_ho_so":"H53"}"#);
        assert_eq!(one.attachments[0].name.name, "H53-a.pdf");
        let digests: std::collections::BTreeSet<Short> = [
            one,
            made(Value::Bytes(b"2".to_vec())),
            made(Value::Null),
            made(Value::TooLong),
        ]
        .iter()
        .map(|made| made.digest(&["row"]))
        .collect();
        assert_eq!(digests.len(), 4);
    }
}
