//! Small curves over a logarithmic axis, as an SVG that can be read on light and on dark paper.

use std::fmt::Write as _;

pub struct Panel {
    pub title: &'static str,
    /// What grows.
    pub below: &'static str,
    pub points: Vec<Point>,
}

pub struct Point {
    grown: u32,
    value: f64,
}

impl Point {
    pub fn new(grown: u32, value: f64) -> Point {
        Point { grown, value }
    }
}

const COLUMNS: usize = 3;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 230.0;
/// Of the field that is drawn on, within its panel.
const LEFT: f64 = 24.0;
const RIGHT: f64 = WIDTH - 32.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = HEIGHT - 56.0;

pub fn draw(panels: &[Panel]) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64);
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>What a record costs as work grows</title>
<style>
text {{ font: 12px sans-serif; fill: #24292f; }}
.title {{ font-weight: bold; }}
.scale {{ font-size: 11px; fill: #57606a; }}
.zero {{ stroke: #d0d7de; stroke-width: 1; }}
.curve {{ fill: none; stroke: #0969da; stroke-width: 2; }}
.dot {{ fill: #0969da; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3; }}
.scale {{ fill: #9da7b3; }}
.zero {{ stroke: #30363d; }}
.curve {{ stroke: #58a6ff; }}
.dot {{ fill: #58a6ff; }}
}}
</style>
"#
    );
    for (index, panel) in panels.iter().enumerate() {
        let (column, row) = (index % COLUMNS, index / COLUMNS);
        let (x, y) = (WIDTH * column as f64, HEIGHT * row as f64);
        let _ = writeln!(svg, r#"<g transform="translate({x} {y})">"#);
        draw_panel(&mut svg, panel);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_panel(svg: &mut String, panel: &Panel) {
    let middle = f64::midpoint(LEFT, RIGHT);
    let mut text = |class: &str, x: f64, y: f64, words: &str| {
        let _ = writeln!(
            svg,
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="middle">{words}</text>"#
        );
    };
    text("title", middle, 22.0, panel.title);
    text("scale", middle, BOTTOM + 38.0, panel.below);
    let logarithm = |point: &Point| f64::from(point.grown.max(1)).log10();
    let first = panel.points.first().map_or(0.0, logarithm);
    let last = panel.points.last().map_or(1.0, logarithm);
    // The axis of values begins at zero, so that a flat curve looks flat.
    let top = panel
        .points
        .iter()
        .map(|point| point.value)
        .fold(f64::MIN_POSITIVE, f64::max)
        * 1.15;
    let place = |point: &Point| {
        let share = (logarithm(point) - first) / (last - first).max(f64::MIN_POSITIVE);
        let x = LEFT + 8.0 + share * (RIGHT - LEFT - 16.0);
        (x, BOTTOM - point.value / top * (BOTTOM - TOP))
    };
    for point in &panel.points {
        let (x, y) = place(point);
        text("scale", x, BOTTOM + 18.0, &short(f64::from(point.grown)));
        text("value", x, y - 9.0, &short(point.value));
    }
    let _ = writeln!(
        svg,
        r#"<line class="zero" x1="{LEFT}" y1="{BOTTOM}" x2="{RIGHT}" y2="{BOTTOM}"/>"#
    );
    let curve: Vec<String> = panel
        .points
        .iter()
        .map(|point| {
            let (x, y) = place(point);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = writeln!(
        svg,
        r#"<polyline class="curve" points="{}"/>"#,
        curve.join(" ")
    );
    for point in &panel.points {
        let (x, y) = place(point);
        let _ = writeln!(
            svg,
            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="3.5"/>"#
        );
    }
}

/// Three digits and a unit: `151`, `5 M`, `8.4`.
fn short(value: f64) -> String {
    if 1e6 <= value {
        format!("{} M", digits(value / 1e6))
    } else if 1e4 <= value {
        format!("{} k", digits(value / 1e3))
    } else {
        digits(value)
    }
}

fn digits(value: f64) -> String {
    let text = if value < 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    };
    text.trim_end_matches(".0").to_owned()
}
