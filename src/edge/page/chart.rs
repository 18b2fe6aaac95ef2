//! Drawings of what waited, made by the box itself: inline SVG without style attributes, and beside
//! each a table that says the same.

use crate::edge::page::frame::{TABLE_END, column, number, put, table};
use crate::edge::page::lang::{Lang, Words, time};
use crate::edge::status::history::{DAY_MS, FORTNIGHT_MS, History};
use crate::edge::status::{Stamp, Status};
use crate::model::UnixMs;
use crate::store::history::Sample;

/// The drawing's own units.
const WIDTH: i64 = 620;
const HEIGHT: i64 = 190;
const LEFT: i64 = 8;
const RIGHT: i64 = 612;
const TOP: i64 = 24;
const BOTTOM: i64 = 160;

/// One drawing: how long it goes back, and the rows of its table.
struct Span {
    id: &'static str,
    name: Words,
    long_ms: i64,
    /// Of a row of the table.
    row_ms: i64,
}

const DAY: Span = Span {
    id: "ngay",
    name: ["24 giờ qua", "The last 24 hours"],
    long_ms: DAY_MS,
    row_ms: 2 * 3_600_000,
};
const FORTNIGHT: Span = Span {
    id: "hai-tuan",
    name: ["14 ngày qua", "The last 14 days"],
    long_ms: FORTNIGHT_MS,
    row_ms: DAY_MS,
};

/// Both drawings; nothing where nothing was remembered yet.
pub(super) fn charts(out: &mut String, status: &Status, history: &History, lang: Lang) {
    if history.fortnight.is_empty() {
        return;
    }
    out.push_str("<div class=\"pair\">\n");
    chart(out, status, &history.day, &DAY, lang);
    chart(out, status, &history.fortnight, &FORTNIGHT, lang);
    out.push_str("</div>\n");
}

fn chart(out: &mut String, status: &Status, samples: &[Sample], span: &Span, lang: Lang) {
    let now = status.at.0.0;
    let from = now - span.long_ms;
    let mut points: Vec<(i64, u64)> = samples
        .iter()
        .filter(|sample| (from..=now).contains(&sample.at.0))
        .map(|sample| (sample.at.0, total(sample)))
        .collect();
    points.push((now, status.waiting()));
    let most = points
        .iter()
        .max_by_key(|point| point.1)
        .expect("at least the present");
    let (id, name) = (span.id, lang.of(span.name));
    let said = lang.of([
        format!(
            "Bản ghi chờ gửi, {}: nhiều nhất {} lúc {}, hiện tại {}.",
            name.to_lowercase(),
            lang.count(most.1),
            time(Stamp(UnixMs(most.0))),
            lang.count(status.waiting())
        ),
        format!(
            "Records waiting, {}: at most {} at {}, now {}.",
            name.to_lowercase(),
            lang.count(most.1),
            time(Stamp(UnixMs(most.0))),
            lang.count(status.waiting())
        ),
    ]);
    put(out, format_args!("<figure><figcaption>{name}</figcaption>"));
    drawing(out, &points, most.1, from, now, &said, lang);
    put(
        out,
        format_args!(
            "<details id=\"{id}-so\"><summary id=\"{id}-mo\">{}</summary>",
            lang.of(["Số liệu dạng bảng", "The same as a table"])
        ),
    );
    rows(out, samples, from, now, span, &said, lang);
    out.push_str("</details></figure>\n");
}

/// The line holds its height until the next sample: nothing is written while nothing changes.
fn drawing(
    out: &mut String,
    points: &[(i64, u64)],
    most: u64,
    from: i64,
    now: i64,
    said: &str,
    lang: Lang,
) {
    let top = round_up(most.max(1));
    let x = |at: i64| LEFT + (at - from) * (RIGHT - LEFT) / (now - from).max(1);
    let y = |count: u64| {
        let up = u128::from(count) * (BOTTOM - TOP) as u128 / u128::from(top);
        BOTTOM - i64::try_from(up).expect("within the drawing")
    };
    let (first, rest) = points.split_first().expect("at least the present");
    let begin = x(first.0);
    let mut path = format!("M{begin} {}", y(first.1));
    for (at, count) in rest {
        path.push_str(&format!("H{}V{}", x(*at), y(*count)));
    }
    put(
        out,
        format_args!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{said}\">\
             <path class=\"area\" d=\"{path}V{BOTTOM}H{begin}Z\"/>\
             <path class=\"line\" d=\"{path}\"/>\
             <path class=\"axis\" d=\"M{LEFT} {TOP}H{RIGHT}M{LEFT} {BOTTOM}H{RIGHT}\"/>\
             <text x=\"{LEFT}\" y=\"{}\">{} {}</text>\
             <text x=\"{LEFT}\" y=\"{}\">{}</text>\
             <text x=\"{RIGHT}\" y=\"{}\" text-anchor=\"end\">{}</text></svg>\n",
            TOP - 7,
            lang.count(top),
            lang.of(["bản ghi", "records"]),
            BOTTOM + 20,
            time(Stamp(UnixMs(from))),
            BOTTOM + 20,
            time(Stamp(UnixMs(now))),
        ),
    );
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn round_up(most: u64) -> u64 {
    let mut unit: u64 = 1;
    loop {
        for step in [1, 2, 5] {
            match unit.checked_mul(step) {
                Some(round) if most <= round => return round,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        unit = unit.saturating_mul(10);
    }
}

/// The worst moment of each part of the span, newest first.
fn rows(
    out: &mut String,
    samples: &[Sample],
    from: i64,
    now: i64,
    span: &Span,
    said: &str,
    lang: Lang,
) {
    table(
        out,
        lang,
        said,
        &[
            column("Lúc nhiều nhất", "At the most"),
            number("P0", "P0"),
            number("P1", "P1"),
            number("P2", "P2"),
            number("P3", "P3"),
            number("P4", "P4"),
            number("Dung lượng", "Size"),
        ],
    );
    let mut end = now;
    while from < end {
        let begin = end - span.row_ms;
        let part = samples
            .iter()
            .filter(|sample| (begin..end).contains(&sample.at.0));
        if let Some(worst) = part.max_by_key(|sample| total(sample)) {
            put(
                out,
                format_args!("<tr><th scope=\"row\">{}</th>", time(Stamp(worst.at))),
            );
            for waiting in worst.waiting {
                put(
                    out,
                    format_args!("<td class=\"number\">{}</td>", lang.count(waiting)),
                );
            }
            put(
                out,
                format_args!(
                    "<td class=\"number\">{}</td></tr>\n",
                    lang.bytes(worst.bytes)
                ),
            );
        }
        end = begin;
    }
    out.push_str(TABLE_END);
}

fn total(sample: &Sample) -> u64 {
    sample.waiting.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (most, round) in [
            (1, 1),
            (3, 5),
            (5, 5),
            (6, 10),
            (12_345, 20_000),
            (50_001, 100_000),
        ] {
            assert_eq!(round_up(most), round);
        }
        assert!(u64::MAX / 2 <= round_up(u64::MAX - 1));
    }

    #[test]
    fn the_line_stays_within_the_drawing_and_holds_until_the_next_sample() {
        let points = [(0, 0), (50, 100), (100, 40)];
        let mut out = String::new();
        drawing(&mut out, &points, 100, 0, 100, "said", Lang::Vi);
        let middle = (LEFT + RIGHT) / 2;
        let line = format!("d=\"M{LEFT} {BOTTOM}H{middle}V{TOP}H{RIGHT}V106\"");
        assert!(out.contains(&line), "{line} in {out}");
    }
}
