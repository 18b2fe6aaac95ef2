//! `trucd catalogue …` and `trucd command …` on the command line.

use anyhow::{Context, bail};
use serde_json::json;

use super::arguments::{CatalogueCommand, CatalogueListArgs, CompareArgs, OrderArgs, PublishArgs};
use super::{print_json, print_text};
use crate::hub::config::Config;
use crate::hub::grants::caller;
use crate::hub::orders::{self, Publication, Wish};
use crate::hub::registry;
use crate::hub::status::Stamp;
use crate::hub::status::text::table;
use crate::model::{BoxId, UnixMs};
use crate::store::hub::compare::ComparisonRow;

/// Commands that a list shows.
const SHOWN: u32 = 1_000;

pub fn catalogue(config: &Config, command: CatalogueCommand, now: UnixMs) -> anyhow::Result<()> {
    match command {
        CatalogueCommand::Check(args) => {
            let bundle = orders::read_bundle(config, &args.path)?;
            let catalogue = orders::check(&bundle)?;
            let bytes = bundle.to_content()?.len();
            let count = catalogue.iter().count();
            print_text(&format!(
                "{count} bộ dữ liệu, {bytes} byte khi gửi: đúng / {count} datasets, {bytes} bytes on the wire: sound\n"
            ))
        }
        CatalogueCommand::Publish(args) => publish(config, &args, now),
        CatalogueCommand::List(args) => list(config, &args),
    }
}

fn publish(config: &Config, args: &PublishArgs, now: UnixMs) -> anyhow::Result<()> {
    let by = caller(args.by.clone());
    let plan = Publication {
        path: &args.path,
        effective: args.effective.as_deref(),
        end: &args.end,
        by: &by,
    };
    let news = orders::publish(config, &plan, now)?;
    print_text(&format!(
        "Phiên bản {0}, hiệu lực từ 0 giờ ngày {1} / version {0} takes effect at midnight of {1}: {2} byte, {3} phần (parts)\n",
        news.version, news.effective, news.bytes, news.parts
    ))
}

fn list(config: &Config, args: &CatalogueListArgs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let answers = orders::answers(&snapshot)?;
    let published = snapshot.published()?;
    let sent = snapshot.published_to()?;
    let mut lines = Vec::new();
    for (box_id, version, at) in sent {
        if args.box_id.as_ref().is_some_and(|wanted| *wanted != box_id) {
            continue;
        }
        let key = (box_id.clone(), "danh_muc".to_owned(), version.to_string());
        let answer = answers.get(&key);
        let row = published.iter().find(|row| row.news.version == version);
        lines.push((
            box_id,
            version,
            at,
            row.map(|row| row.news.effective.clone()),
            answer,
        ));
    }
    if args.json {
        let boxes: Vec<_> = lines
            .iter()
            .map(|(box_id, version, at, effective, answer)| {
                json!({
                    "box": box_id, "version": version, "sent": Stamp(*at), "effective": effective,
                    "state": answer.map_or("sent", |answer| &answer.trang_thai),
                    "said": answer.map(|answer| &answer.thoi_diem),
                    "detail": answer.map(|answer| &answer.chi_tiet),
                })
            })
            .collect();
        let published: Vec<_> = published
            .iter()
            .map(|row| {
                json!({
                    "version": row.news.version, "effective": row.news.effective,
                    "published": Stamp(row.published), "by": row.news.by,
                    "sha256": row.news.sha256, "bytes": row.news.bytes,
                })
            })
            .collect();
        return print_json(&json!({ "published": published, "boxes": boxes }));
    }
    let header = [
        "Phiên bản (version)",
        "Hiệu lực (effective)",
        "Công bố (published)",
        "Người (by)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(published.iter().map(|row| {
        [
            row.news.version.to_string(),
            row.news.effective.clone(),
            row.published.to_string(),
            row.news.by.clone(),
        ]
    }));
    print_text(&table(&rows))?;
    let header = [
        "Trạm (box)",
        "Phiên bản (version)",
        "Trạng thái (state)",
        "Lúc (at)",
        "Chi tiết (detail)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(lines.iter().map(|(box_id, version, at, _, answer)| {
        [
            box_id.to_string(),
            version.to_string(),
            answer.map_or("sent".to_owned(), |answer| answer.trang_thai.clone()),
            answer.map_or(at.to_string(), |answer| answer.thoi_diem.clone()),
            answer.map_or(String::new(), |answer| short(&answer.chi_tiet)),
        ]
    }));
    print_text(&format!("\n{}", table(&rows)))
}

fn short(detail: &str) -> String {
    detail.chars().take(80).collect()
}

pub fn command(config: &Config, args: &OrderArgs, now: UnixMs) -> anyhow::Result<()> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    match (args.all, words.as_slice()) {
        (false, ["list"]) => list_commands(config, args, now),
        (true, [name, values @ ..]) => give(config, args, (None, name, values), now),
        (false, [box_id, name, values @ ..]) => {
            let box_id: BoxId = box_id.parse()?;
            give(config, args, (Some(&box_id), name, values), now)
        }
        _ => bail!("say: trucd command BOX NAME, trucd command --all NAME, or trucd command list"),
    }
}

fn give(
    config: &Config,
    args: &OrderArgs,
    (box_id, name, values): (Option<&BoxId>, &str, &[&str]),
    now: UnixMs,
) -> anyhow::Result<()> {
    let arguments = match (name, values) {
        ("set_bandwidth", hours) => json!({ "hours": hours }),
        (_, []) => json!({}),
        ("pause_source" | "resume_source", [source]) => json!({ "source": source }),
        ("reload_copies", [dataset]) => json!({ "dataset": dataset }),
        (_, values) => bail!("{name} does not take {}", values.join(" ")),
    };
    let by = caller(args.by.clone());
    let wish = Wish {
        box_id,
        name,
        arguments: arguments.to_string(),
        expires: UnixMs(now.0.saturating_add(args.expires)),
        by: &by,
    };
    let mut text = String::new();
    for (box_id, id) in orders::give(config, &wish, now)? {
        text.push_str(&format!("{box_id} {name} {id}\n"));
    }
    print_text(&text)
}

fn list_commands(config: &Config, args: &OrderArgs, now: UnixMs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let answers = orders::answers(&snapshot)?;
    let given = snapshot.given(SHOWN)?;
    let given = given.iter().filter(|row| {
        let wanted = args.box_id.as_ref();
        wanted.is_none_or(|wanted| *wanted == row.box_id)
    });
    let mut text = String::new();
    for row in given {
        let command = &row.command;
        let key = (
            row.box_id.clone(),
            "lenh".to_owned(),
            command.id.to_string(),
        );
        let answer = answers.get(&key);
        let state = orders::state_of(row, &answers, now);
        if args.json {
            let arguments: serde_json::Value = serde_json::from_str(command.arguments.get())
                .context("a stored command cannot be read")?;
            let line = json!({
                "id": command.id, "box": row.box_id, "name": command.name,
                "arguments": arguments, "by": command.by, "given": Stamp(row.given),
                "expires": Stamp(command.expires), "state": state,
                "said": answer.map(|answer| &answer.thoi_diem),
                "detail": answer.map(|answer| &answer.chi_tiet),
            });
            text.push_str(&format!("{line}\n"));
        } else {
            let detail = answer.map_or(String::new(), |answer| short(&answer.chi_tiet));
            text.push_str(&format!(
                "{} {} {} {} {} {}: {state} {detail}\n",
                row.given,
                row.box_id,
                command.id,
                command.name,
                command.arguments.get(),
                command.by
            ));
        }
    }
    print_text(&text)
}

/// `trucd compare`: the last comparison of each box's logs and copies.
pub fn compared(config: &Config, args: &CompareArgs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let states = view.snapshot()?.comparisons()?;
    let states = states.iter().filter(|state| {
        let wanted = args.box_id.as_ref();
        wanted.is_none_or(|wanted| *wanted == state.box_id)
    });
    if args.json {
        let mut text = String::new();
        for state in states {
            let last = state.last.as_ref();
            let line = json!({
                "box": state.box_id, "of": state.dataset, "goes_on": state.goes_on,
                "ended": last.map(|last| Stamp(last.ended)),
                "result": last.map(|last| &last.result),
                "buckets": last.map(|last| last.buckets),
                "subjects": last.map(|last| last.subjects),
                "detail": last.map(|last| &last.detail),
            });
            text.push_str(&format!("{line}\n"));
        }
        return print_text(&text);
    }
    let header = [
        "Trạm (box)",
        "Của (of)",
        "Lúc (at)",
        "Kết quả (result)",
        "Phần lệch (buckets)",
        "Gửi lại (sent again)",
        "Chi tiết (detail)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    for state in states {
        let last = state.last.as_ref();
        let of_last = |text: &dyn Fn(&ComparisonRow) -> String| last.map(text).unwrap_or_default();
        let result = match (state.goes_on, last) {
            (true, _) => "đang đối chiếu (goes on)".to_owned(),
            (false, last) => last.map(|last| last.result.clone()).unwrap_or_default(),
        };
        rows.push([
            state.box_id.to_string(),
            state.dataset.clone(),
            of_last(&|last| last.ended.to_string()),
            result,
            of_last(&|last| last.buckets.to_string()),
            of_last(&|last| last.subjects.to_string()),
            of_last(&|last| short(&last.detail)),
        ]);
    }
    print_text(&table(&rows))
}
