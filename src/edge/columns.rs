//! The columns of a table as a dataset means them: names and types from its schema, and from the
//! mapping of a source.

use serde_json::Value;

use crate::catalogue::Dataset;
use crate::catalogue::schema::describing;
use crate::edge::config::table::{ColumnConfig, Filled, TableConfig};
use crate::formats::table::cell::Kind;
use crate::formats::table::{Column, Columns};
use crate::shell::settings::units::Wrong;

/// Objects inside of objects that are looked into for columns.
const DEPTH_MAX: usize = 3;

/// The columns that a source's tables have. A fault comes with the setting's name.
pub fn of(dataset: &Dataset, table: &TableConfig) -> Result<Columns, Vec<(String, Wrong)>> {
    let schema: Value =
        serde_json::from_str(&dataset.schema).expect("the schema was parsed at load");
    let mut columns = Columns {
        decimal: table.decimal,
        ..Columns::default()
    };
    let mut faults = Vec::new();
    for (field, constant) in &table.constants {
        match path(&schema, field, true) {
            Ok((path, _)) => columns.list.push(Column {
                path,
                constant: Some(constant.to_json()),
                ..Column::default()
            }),
            Err(wrong) => faults.push((format!("constants.{field}"), wrong)),
        }
    }
    let is_left_out = |fields: &Filled| fields.0.is_empty();
    if table.columns.values().all(is_left_out) {
        columns.is_closed = true;
        add_fields(&schema, &mut Vec::new(), &mut columns);
    }
    for (name, fields) in &table.columns {
        if is_left_out(fields) {
            columns.ignored.push(name.clone());
        }
        for column in &fields.0 {
            let other = |column: &Column| columns.list.iter().find(|other| overlap(other, column));
            match mapped(&schema, name, column) {
                Ok(column) => match other(&column) {
                    None => columns.list.push(column),
                    Some(other) => {
                        let other = other.names.first().map_or("constants", String::as_str);
                        faults.push((format!("columns.{name}"), twice(other)));
                    }
                },
                Err(wrong) => faults.push((format!("columns.{name}"), wrong)),
            }
        }
    }
    let files = table.attachments.iter().enumerate();
    columns.list.extend(files.map(|(place, file)| Column {
        names: vec![file.column.clone()],
        path: vec![file_field(place)],
        kind: Kind::Text,
        is_required: !file.is_optional,
        ..Column::default()
    }));
    match faults.is_empty() {
        true => Ok(columns),
        false => Err(faults),
    }
}

/// Where a row says the file that one of the columns of attachments names, until it is taken out of
/// the record. No dataset has a field of such a name.
pub fn file_field(place: usize) -> String {
    format!("attachment:{place}")
}

/// Whether one of two columns fills the other's field, or a part of it.
fn overlap(a: &Column, b: &Column) -> bool {
    a.path.iter().zip(&b.path).all(|(a, b)| a == b)
}

fn mapped(schema: &Value, name: &str, column: &ColumnConfig) -> Result<Column, Wrong> {
    let kind = column.kind.map(|kind| kind.0);
    let (path, schema_kind) = path(schema, &column.field, kind.is_none())?;
    Ok(Column {
        names: vec![name.to_owned()],
        path,
        kind: kind.unwrap_or(schema_kind),
        is_required: !column.is_optional,
        values: column.values.clone(),
        constant: None,
    })
}

/// The way to a field, and its type by the schema.
fn path(schema: &Value, field: &str, must_be_known: bool) -> Result<(Vec<String>, Kind), Wrong> {
    let path: Vec<String> = field.split(['.', '/']).map(str::to_owned).collect();
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let known = describing(schema, &names);
    if path.iter().any(String::is_empty) || (known.is_empty() && must_be_known) {
        return Err(Wrong {
            vi: format!("bộ dữ liệu không có trường “{field}”"),
            en: format!("the dataset has no field {field:?}"),
            hint_vi: "Sửa tên trường theo lược đồ của bộ dữ liệu; để trống (\"\") nếu bỏ qua cột này; trường ngoài lược đồ cần khai báo type.".to_owned(),
            hint_en: "Correct the field's name; leave it empty (\"\") to skip the column; a field beyond the schema needs a type.".to_owned(),
        });
    }
    let kind = kind_of(&known);
    Ok((path, kind))
}

fn twice(other: &str) -> Wrong {
    Wrong {
        vi: format!("trường này đã nhận giá trị của cột “{other}”"),
        en: format!("this field has the value of the column {other:?} already"),
        hint_vi: "Mỗi trường nhận một cột.".to_owned(),
        hint_en: "Give each field one column.".to_owned(),
    }
}

/// Every field that a cell can hold, known by its name and by its title.
fn add_fields(schema: &Value, above: &mut Vec<String>, columns: &mut Columns) {
    let names: Vec<&str> = above.iter().map(String::as_str).collect();
    let mut fields: Vec<String> = Vec::new();
    for part in describing(schema, &names) {
        let properties = part.get("properties").and_then(Value::as_object);
        for name in properties.into_iter().flat_map(|fields| fields.keys()) {
            if !fields.contains(name) {
                fields.push(name.clone());
            }
        }
    }
    for name in fields {
        above.push(name);
        let names: Vec<&str> = above.iter().map(String::as_str).collect();
        let known = describing(schema, &names);
        match types(&known) {
            types if types.contains(&"object") => {
                if above.len() < DEPTH_MAX {
                    add_fields(schema, above, columns);
                }
            }
            types if types.contains(&"array") => {}
            _ => {
                let mut names = vec![above.join(".")];
                let title = known.iter().find_map(|part| part.get("title")?.as_str());
                names.extend(title.filter(|_| above.len() == 1).map(str::to_owned));
                let column = Column {
                    names,
                    path: above.clone(),
                    kind: kind_of(&known),
                    ..Column::default()
                };
                // A constant has this field already.
                if !columns.list.iter().any(|other| overlap(other, &column)) {
                    columns.list.push(column);
                }
            }
        }
        above.pop();
    }
}

/// The types that a field's value may have.
fn types<'s>(known: &[&'s Value]) -> Vec<&'s str> {
    let written = known.iter().filter_map(|part| part.get("type"));
    written
        .flat_map(|kind| match kind {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
            kind => kind.as_str().into_iter().collect::<Vec<_>>(),
        })
        .collect()
}

/// How a cell becomes a field's value. A field that may be a text stays one.
fn kind_of(known: &[&Value]) -> Kind {
    let types = types(known);
    let format = known.iter().find_map(|part| part.get("format")?.as_str());
    let is_number = |part: &&&Value| {
        let options = part.get("enum").and_then(Value::as_array);
        options.is_some_and(|options| {
            options
                .iter()
                .all(|option| option.is_number() || option.is_null())
        })
    };
    match format {
        Some("date") => Kind::Date,
        Some("date-time") => Kind::DateTime,
        _ if types.contains(&"string") => Kind::Text,
        _ if types.contains(&"number") => Kind::Number,
        _ if types.contains(&"integer") => Kind::Integer,
        _ if types.contains(&"boolean") => Kind::Boolean,
        _ if known.iter().any(|part| is_number(&part)) => Kind::Integer,
        _ => Kind::Text,
    }
}
