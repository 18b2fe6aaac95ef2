//! What every page of the box stands in: head, navigation, foot, style, and the small pieces of HTML
//! that sections are made of.

use std::fmt::{Arguments, Write};

use crate::edge::page::lang::{Lang, Words};
use crate::edge::page::text::Text;

pub const STYLE: &str = include_str!("style.css");

/// The script that renews the page, served at [`SCRIPT_PATH`].
pub const SCRIPT: &str = include_str!("page.js");
pub const SCRIPT_PATH: &str = "/page.js";

/// The page's `Content-Security-Policy`: its own style, known by its digest, and its own script.
pub const CSP: &str = "default-src 'none'; style-src 'sha256-3InWZnp8+zE+JBE0yjGjadWHL2HKjn45dLzkJPOP4lA='; script-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The same for pages with forms that post to the box itself; without a script.
pub const CSP_FORMS: &str = "default-src 'none'; style-src 'sha256-3InWZnp8+zE+JBE0yjGjadWHL2HKjn45dLzkJPOP4lA='; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// What head and foot of a page say.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    pub lang: Lang,
    /// Of the page; the box's name is added.
    pub title: Words,
    /// Where the page is, without the query: for the link to the other language.
    pub path: &'a str,
    pub box_id: &'a str,
    /// The page renews itself.
    pub renews: bool,
}

/// Sections of a page that can be jumped to: `id` and name.
pub type Jumps<'a> = &'a [(&'a str, Words)];

/// Everything before the content of `<main>`. `lights` is what the script says aloud when it
/// changes; it is escaped here.
pub fn head(out: &mut String, frame: &Frame<'_>, jumps: Jumps<'_>, lights: &str) {
    let Frame {
        lang,
        title,
        path,
        box_id,
        renews,
    } = *frame;
    let (title, name) = (lang.of(title), Text(box_id));
    let (other, code) = (lang.other(), lang.code());
    put(
        out,
        format_args!(
            "<!DOCTYPE html>\n<html lang=\"{code}\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title} {name}</title><style>{STYLE}</style>"
        ),
    );
    if renews {
        put(
            out,
            format_args!(
                "<noscript><meta http-equiv=\"refresh\" content=\"60\"></noscript>\
                 <script src=\"{SCRIPT_PATH}\" defer></script>"
            ),
        );
    }
    put(
        out,
        format_args!(
            "</head>\n<body>\n<a class=\"skip\" href=\"#main\">{}</a>\n\
             <header class=\"bar\"><div class=\"wide\"><h1>{title} {name}</h1>\
             <a href=\"/{query}\">{}</a> <a href=\"/ky-thuat{query}\">{}</a> \
             <a href=\"{path}{}\" hreflang=\"{other_code}\" lang=\"{other_code}\">{}</a></div></header>\n",
            lang.of(["Đến nội dung chính", "Skip to the content"]),
            lang.of(["Tình trạng", "Status"]),
            lang.of(["Kỹ thuật viên", "Technician"]),
            other.query(),
            other.of(["Tiếng Việt", "English"]),
            query = lang.query(),
            other_code = other.code(),
        ),
    );
    if !jumps.is_empty() {
        put(
            out,
            format_args!(
                "<nav class=\"jump wide\" aria-label=\"{}\"><ul>",
                lang.of(["Các mục của trang", "Sections of this page"])
            ),
        );
        for (id, name) in jumps {
            put(
                out,
                format_args!("<li><a href=\"#{id}\">{}</a></li>", lang.of(*name)),
            );
        }
        out.push_str("</ul></nav>\n");
    }
    if renews {
        put(
            out,
            format_args!(
                "<p id=\"news\" class=\"wide soft\" role=\"status\" data-lost=\"{}\"></p>\n",
                lang.of([
                    "Không liên lạc được với trạm; số liệu trên trang này là số liệu cũ.",
                    "The box cannot be reached; what stands here is old.",
                ])
            ),
        );
    }
    put(
        out,
        format_args!(
            "<main id=\"main\" tabindex=\"-1\" data-lights=\"{}\">\n",
            Text(lights)
        ),
    );
}

/// Everything after the content of `<main>`.
pub fn foot(out: &mut String, frame: &Frame<'_>, version: &str) {
    let lang = frame.lang;
    put(
        out,
        format_args!("</main>\n<footer><p>tramd {}", Text(version)),
    );
    if frame.renews {
        put(
            out,
            format_args!(
                " · <a class=\"screen\" href=\"{}{}\">{}</a> <span class=\"screen\">({})</span>",
                frame.path,
                lang.query(),
                lang.of(["Làm mới", "Renew"]),
                lang.of([
                    "trang tự làm mới sau 30 giây, hoặc 60 giây nếu trình duyệt tắt script",
                    "the page renews itself every 30 s, or 60 s without scripts",
                ]),
            ),
        );
    }
    out.push_str("</p></footer>\n</body></html>\n");
}

pub fn put(out: &mut String, text: Arguments<'_>) {
    out.write_fmt(text).expect("writing to memory");
}

/// Begins a section of a page; it ends with `</section>`.
pub fn open(out: &mut String, lang: Lang, id: &str, name: Words) {
    put(
        out,
        format_args!(
            "<section class=\"box\" id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{}</h2>\n",
            lang.of(name)
        ),
    );
}

/// A row of a list of terms; `html` is escaped already.
pub fn term(out: &mut String, name: &str, html: &str) {
    put(out, format_args!("<dt>{name}</dt><dd>{html}</dd>\n"));
}

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: Words,
    pub is_number: bool,
}

pub const fn column(vi: &'static str, en: &'static str) -> Column {
    Column {
        name: [vi, en],
        is_number: false,
    }
}

pub const fn number(vi: &'static str, en: &'static str) -> Column {
    Column {
        name: [vi, en],
        is_number: true,
    }
}

/// Begins a table, up to the rows of its body; it ends with [`TABLE_END`]. One of figures stays a
/// table on a telephone; there the rows of any other stand one under the other, see [`row`].
pub fn table(out: &mut String, lang: Lang, caption: &str, columns: &[Column]) {
    let is_figures = columns.iter().skip(1).all(|column| column.is_number);
    let class = if is_figures { "figures" } else { "rows" };
    put(
        out,
        format_args!("<table class=\"{class}\"><caption>{caption}</caption><thead><tr>"),
    );
    for column in columns {
        let class = if column.is_number {
            " class=\"number\""
        } else {
            ""
        };
        put(
            out,
            format_args!("<th scope=\"col\"{class}>{}</th>", lang.of(column.name)),
        );
    }
    out.push_str("</tr></thead><tbody>\n");
}

/// A row of a table that has more than figures, its cells escaped; the one at `head` names it. Each
/// carries the name of its column, for where the columns do not stand beside each other.
pub fn row(
    out: &mut String,
    lang: Lang,
    columns: &[Column],
    is_red: bool,
    head: usize,
    cells: &[&str],
) {
    out.push_str(if is_red { "<tr class=\"red\">" } else { "<tr>" });
    for (place, (column, cell)) in columns.iter().zip(cells).enumerate() {
        if place == head {
            put(out, format_args!("<th scope=\"row\">{cell}</th>"));
            continue;
        }
        let class = if column.is_number {
            " class=\"number\""
        } else {
            ""
        };
        let name = lang.of(column.name);
        put(
            out,
            format_args!("<td{class} data-name=\"{name}\">{cell}</td>"),
        );
    }
    out.push_str("</tr>\n");
}

pub const TABLE_END: &str = "</tbody></table>\n";

/// Says that more rows exist than are shown.
pub fn more(out: &mut String, lang: Lang, left_out: usize) {
    if 0 < left_out {
        let [before, after] = lang.of([
            ["Và", "mục khác, xem bằng lệnh <code>tramd status</code>."],
            ["And", "more; see them with <code>tramd status</code>."],
        ]);
        put(out, format_args!("<p>{before} {left_out} {after}</p>\n"));
    }
}
