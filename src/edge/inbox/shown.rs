//! Documents and what became of them, as answers show them.

use serde_json::{Value, json};

use super::files::{self, Named};
use crate::edge::status::Stamp;
use crate::model::handover::{highest, known};
use crate::store::StoreError;
use crate::store::inbox::{DocumentRow, StatusRow};

pub fn summary(row: &DocumentRow, statuses: &[StatusRow], files: &[Named]) -> Value {
    let mut summary = json!({
        "number": row.document,
        "id": row.id,
        "type": format!("{}/{}", row.dataset, row.schema),
        "subject": row.subject,
        "from": row.sender,
        "to": row.recipient,
        "at": Stamp(row.at),
        "received": Stamp(row.received),
        "done": row.done.map(Stamp),
        "status": shown(statuses),
        "has_original": row.has_original || files::original(files).is_some(),
    });
    if !files.is_empty() {
        summary["attachments"] = files::list(row.document, files);
    }
    summary
}

/// With content; its data is as the sender wrote it.
pub fn whole(
    row: &DocumentRow,
    statuses: &[StatusRow],
    files: &[Named],
) -> Result<Value, StoreError> {
    let mut whole = summary(row, statuses, files);
    whole["statuses"] = statuses.iter().map(status).collect();
    whole["data"] = serde_json::from_str(&row.data).map_err(|_| StoreError::Damaged)?;
    Ok(whole)
}

pub fn shown(statuses: &[StatusRow]) -> Value {
    let code = highest(statuses.iter().map(|row| row.code.as_str()));
    code.map_or(
        Value::Null,
        |code| json!({ "code": code, "name": name(code) }),
    )
}

pub fn status(row: &StatusRow) -> Value {
    json!({
        "code": row.code,
        "name": name(&row.code),
        "by": row.by,
        "at": Stamp(row.at),
        "note": row.note,
    })
}

fn name(code: &str) -> String {
    match known(code) {
        Some(status) => format!("{} / {}", status.name_vi, status.name_en),
        None => format!("chưa biết / unknown status {code}"),
    }
}
