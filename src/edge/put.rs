//! `tramd put`: records by hand, through the daemon when it runs, else straight into the store.
//! Either way it is the same request to the same handler.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;

use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::edge::run::Core;
use crate::edge::talk;
use crate::model::DatasetId;

/// What is handed in, and how.
#[derive(Debug)]
pub struct Put<'a> {
    pub dataset: &'a str,
    /// `-` is standard input.
    pub file: &'a Path,
    /// One record a line; else by the file's name.
    pub is_ndjson: bool,
    /// `upsert`, `delete` or `snapshot`.
    pub op: &'a str,
    /// Makes a repeat of the command harmless.
    pub key: Option<&'a str>,
}

/// Hands in; what is accepted, in words.
pub fn put(config: &Path, put: &Put<'_>) -> Result<String, Failure> {
    let Loaded {
        config, catalogue, ..
    } = load(config).map_err(Failure::Configuration)?;
    let dataset: DatasetId = put
        .dataset
        .parse()
        .map_err(|error| Failure::Usage(format!("{error}")))?;
    let body = read(put.file)?;
    let path = format!("/v1/records/{dataset}?op={}", put.op);
    let kind = match put.is_ndjson || is_ndjson_name(put.file) {
        true => "application/x-ndjson",
        false => "application/json",
    };
    let mut headers = vec![("Content-Type", kind)];
    headers.extend(put.key.map(|key| ("Idempotency-Key", key)));
    let (status, answer) = match talk::post(&config.store.path, &path, &headers, &body) {
        Ok(reply) => {
            let reply = reply.context("the daemon broke off; with --key a repeat is harmless")?;
            (reply.status, reply.body)
        }
        // Nobody listens: the store has no owner, or the lock will say who it is.
        Err(_) => {
            let mut request = Request::post(path);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let request = request
                .body(Body::from(body))
                .map_err(|error| Failure::Usage(error.to_string()))?;
            let (status, answer) = Core::build(config, catalogue)?.serve_one(request)?;
            (status.as_u16(), answer.to_vec())
        }
    };
    let answer: Value = serde_json::from_slice(&answer).context("the answer is not JSON")?;
    match status {
        200 | 201 => Ok(accepted(&answer, status)),
        _ => Err(Failure::Runtime(anyhow::anyhow!(refused(&answer)))),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    if file == Path::new("-") {
        let mut body = Vec::new();
        io::stdin()
            .read_to_end(&mut body)
            .context("cannot read standard input")?;
        return Ok(body);
    }
    Ok(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)
}

fn is_ndjson_name(file: &Path) -> bool {
    file.extension()
        .is_some_and(|extension| extension == "ndjson" || extension == "jsonl")
}

fn accepted(answer: &Value, status: u16) -> String {
    let records = answer["accepted"]
        .as_array()
        .map_or(&[] as &[Value], Vec::as_slice);
    let mut text = match status {
        201 => format!("đã nhận {0} bản ghi / accepted {0}\n", records.len()),
        _ => format!(
            "đã nhận từ trước {0} bản ghi / accepted before {0}\n",
            records.len()
        ),
    };
    for record in records {
        let word = |name: &str| record[name].as_str().unwrap_or_default();
        writeln!(text, "{} {} {}", word("id"), word("lane"), record["seq"])
            .expect("a string takes any text");
    }
    text
}

/// A problem as a person reads it.
fn refused(problem: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut text = format!(
        "{}\n    {}\n    {}\n  {}\n    {}",
        word(&problem["title"]),
        word(&problem["detail"]),
        word(&problem["hint"]),
        word(&problem["detail_en"]),
        word(&problem["hint_en"])
    );
    for error in problem["errors"].as_array().into_iter().flatten() {
        let place = match (&error["pointer"], &error["line"]) {
            (Value::String(pointer), _) => pointer.clone(),
            (_, Value::Number(line)) => format!("dòng {line}"),
            _ => String::new(),
        };
        write!(
            text,
            "\n  {place}: {} / {}",
            word(&error["detail"]),
            word(&error["detail_en"])
        )
        .expect("a string takes any text");
    }
    text
}
