//! The box's page at `/`: one look tells whether data comes in, goes out, and whether trouble is
//! ahead; below stand the figures. Plain HTML in one language at a time, without any request to
//! elsewhere; a script only renews it.

pub mod ahead;
mod backlog;
pub mod backup;
mod chart;
mod down;
mod events;
pub mod frame;
pub mod lang;
pub mod lights;
mod link;
mod machine;
mod orders;
pub mod remedy;
mod sources;
mod stick;
pub mod text;

use crate::edge::page::frame::{Frame, foot, head, put};
use crate::edge::page::lang::{Lang, Words};
use crate::edge::page::lights::Light;
use crate::edge::page::text::{Text, foreign};
use crate::edge::status::Status;
use crate::edge::status::history::History;

const TITLE: Words = ["Trạm liên thông", "Gateway box"];

const LIGHTS: [Words; 3] = [
    ["Dữ liệu vào", "Data in"],
    ["Dữ liệu đi", "Data out"],
    ["Sắp có sự cố?", "Trouble ahead?"],
];
/// The section with the figures of each light.
const FIGURES: [&str; 3] = [SOURCES.0, LINK.0, MACHINE.0];

/// The sections that can be jumped to; each says its name itself.
const LINK: (&str, Words) = ("ket-noi", ["Kết nối tới trục", "Link to the hub"]);
const BACKLOG: (&str, Words) = ("cho-gui", ["Dữ liệu chờ gửi", "Waiting for the hub"]);
const SOURCES: (&str, Words) = ("nguon", ["Nguồn dữ liệu", "Sources"]);
const COPIES: (&str, Words) = (
    "tra-cuu",
    ["Dữ liệu được tra cứu", "Copies that may be looked up"],
);
const INBOX: (&str, Words) = ("van-ban", ["Văn bản đến", "Documents for this office"]);
const MACHINE: (&str, Words) = ("may", ["Máy", "Machine"]);
const ORDERS: (&str, Words) = (
    "danh-muc",
    ["Danh mục và băng thông", "Catalogue and bandwidth"],
);
const COMMANDS: (&str, Words) = ("lenh", ["Lệnh của trục", "Commands of the hub"]);
const EVENTS: (&str, Words) = ("su-kien", ["Sự kiện gần đây", "Recent events"]);

/// The whole page.
pub fn render(status: &Status, history: &History, lang: Lang) -> String {
    let mut out = String::with_capacity(32 * 1024);
    let frame = Frame {
        lang,
        title: TITLE,
        path: "/",
        box_id: status.box_id.as_str(),
        renews: true,
    };
    let lights = [
        lights::data_in(status),
        lights::data_out(status),
        ahead::ahead(status),
    ];
    let mut jumps = Vec::new();
    jumps.extend(stick::is_news(status).then_some(stick::STICK));
    jumps.extend([LINK, BACKLOG, SOURCES]);
    if let Some(down) = &status.down {
        jumps.extend((!down.copies.is_empty()).then_some(COPIES));
        jumps.push(INBOX);
    }
    jumps.extend([MACHINE, EVENTS]);
    head(&mut out, &frame, &jumps, &summary(&lights, lang));
    glance(&mut out, status, &lights, lang);
    stick::stick(&mut out, status, lang);
    link::link(&mut out, status, lang);
    backlog::backlog(&mut out, status, history, lang);
    sources::sources(&mut out, status, lang);
    down::down(&mut out, status, lang);
    out.push_str("<div class=\"pair\" id=\"hai-cot\">\n");
    machine::machine(&mut out, status, lang);
    orders::orders(&mut out, status, lang);
    out.push_str("</div>\n");
    down::commands(&mut out, status, lang);
    events::events(&mut out, status, lang);
    foot(&mut out, &frame, &status.version);
    out
}

/// The lights in one line, for who hears the page.
fn summary(lights: &[Light; 3], lang: Lang) -> String {
    let words = LIGHTS
        .iter()
        .zip(lights)
        .map(|(name, light)| format!("{}: {}", lang.of(*name), lang.of(light.colour.word())));
    words.collect::<Vec<_>>().join(". ")
}

fn glance(out: &mut String, status: &Status, lights: &[Light; 3], lang: Lang) {
    put(
        out,
        format_args!(
            "<section class=\"glance\" id=\"nhin-nhanh\" aria-labelledby=\"nhin-nhanh-h\">\
             <h2 id=\"nhin-nhanh-h\">{}</h2><p>{} {} · {}</p>\n<div class=\"lights\">\n",
            lang.of(["Nhìn nhanh", "At a glance"]),
            lang.of(["Cơ quan", "Agency"]),
            Text(status.agency.as_str()),
            lang::time(status.at),
        ),
    );
    for ((name, light), section) in LIGHTS.iter().zip(lights).zip(FIGURES) {
        put(
            out,
            format_args!(
                "<div class=\"light {}\"><h3><a href=\"#{section}\" id=\"den-{section}\">{}</a></h3>\
                 <p><strong>{}</strong></p><p>{}</p></div>\n",
                light.colour.class(),
                lang.of(*name),
                lang.of(light.colour.word()),
                light_text(light, lang),
            ),
        );
    }
    out.push_str("</div></section>\n");
}

fn light_text(light: &Light, lang: Lang) -> String {
    let [vi, en] = &light.text;
    foreign(lang.of([vi, en]))
}

#[cfg(test)]
pub(in crate::edge) mod tests;
