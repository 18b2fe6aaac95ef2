//! The frame of the technician's pages, and the parts that they are made of. A page speaks one language,
//! which its links and forms carry on; whatever is not our own goes through [`Text`].

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::edge::accounts::sessions::Notice;
use crate::edge::page::lang::Lang;
use crate::edge::page::text::{Text, vietnamese};
use crate::evidence::sha256;

const STYLE: &str = concat!(include_str!("../page/style.css"), include_str!("style.css"));

/// A text in Vietnamese and in English.
pub type Both<'t> = [&'t str; 2];

/// The pages' `Content-Security-Policy`: no script, nothing from elsewhere, forms only to ourselves.
pub fn csp() -> &'static str {
    static CSP: OnceLock<String> = OnceLock::new();
    CSP.get_or_init(|| {
        format!(
            "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            BASE64.encode(sha256(STYLE.as_bytes()))
        )
    })
}

/// The page's language of two.
pub fn words(lang: Lang, texts: Both<'_>) -> String {
    Text(lang.of(texts)).to_string()
}

/// A path of the area as it stands in a page of this language: what is behind it speaks it, too.
pub fn address(lang: Lang, path: &str) -> String {
    match lang {
        Lang::Vi => path.to_owned(),
        Lang::En if path.contains('?') => format!("{path}&lang=en"),
        Lang::En => format!("{path}?lang=en"),
    }
}

/// What stands around every page.
pub struct Frame<'a> {
    pub lang: Lang,
    /// The same page in the other language.
    pub other: &'a str,
    pub title: Both<'a>,
    pub box_id: &'a str,
    /// Who is logged in, and the token of his forms.
    pub visitor: Option<(&'a str, &'a str)>,
    pub notice: Option<Notice>,
}

pub fn page(frame: &Frame<'_>, body: &str) -> String {
    let lang = frame.lang;
    let other = lang.other();
    let title = words(lang, frame.title);
    let mut out = format!(
        concat!(
            "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">",
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
            "<title>{} – {} {}</title><style>{}</style></head>\n<body>\n",
            "<header><h1>{}</h1>\n<nav class=\"bar\">{}"
        ),
        lang.code(),
        title,
        lang.of(["Trạm", "Box"]),
        Text(frame.box_id),
        STYLE,
        title,
        link(lang, "/", ["Trang trạng thái", "Status"]),
    );
    if let Some((account, token)) = frame.visitor {
        for (path, name) in [
            ("/ky-thuat", ["Kỹ thuật", "Technician"]),
            (
                "/ky-thuat/duong-truyen",
                ["Kiểm tra đường truyền", "Link test"],
            ),
            ("/ky-thuat/bang-thong", ["Băng thông", "Bandwidth"]),
            ("/ky-thuat/nhat-ky", ["Nhật ký", "Audit log"]),
            ("/ky-thuat/tai-khoan", ["Tài khoản", "Accounts"]),
        ] {
            out.push_str(&link(lang, path, name));
        }
        out.push_str(&format!(
            "<span>{}</span><form method=\"post\" action=\"{}\">{}<button class=\"plain\">{}</button></form>",
            Text(account),
            address(lang, "/ky-thuat/dang-xuat"),
            hidden("ma_bieu_mau", token),
            lang.of(["Đăng xuất", "Log out"])
        ));
    }
    out.push_str(&format!(
        "<a href=\"{}\" hreflang=\"{2}\" lang=\"{2}\">{1}</a></nav></header>\n<main>\n",
        Text(&address(other, frame.other)),
        other.of(["Tiếng Việt", "English"]),
        other.code()
    ));
    if let Some(notice) = &frame.notice {
        let class = if notice.is_good {
            "notice"
        } else {
            "notice bad"
        };
        out.push_str(&format!(
            "<section class=\"{class}\" role=\"status\"><p>{}</p></section>\n",
            words(lang, [&notice.vi, &notice.en])
        ));
    }
    out.push_str(body);
    out.push_str("</main>\n</body></html>\n");
    out
}

pub fn section(lang: Lang, name: Both<'_>, html: &str) -> String {
    format!(
        "<section><h2>{}</h2>\n{html}</section>\n",
        words(lang, name)
    )
}

/// A section that says what is wrong.
pub fn error(lang: Lang, texts: Both<'_>) -> String {
    format!(
        "<section class=\"error\" role=\"alert\"><p>{}</p></section>\n",
        words(lang, texts)
    )
}

/// A sentence of its own.
pub fn paragraph(lang: Lang, texts: Both<'_>) -> String {
    format!("<p>{}</p>\n", words(lang, texts))
}

pub fn hidden(name: &str, value: &str) -> String {
    format!(
        "<input type=\"hidden\" name=\"{}\" value=\"{}\">",
        Text(name),
        Text(value)
    )
}

/// A form of this page's own; `html` is its inside, without the token.
pub fn form(lang: Lang, action: &str, token: &str, html: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\">{}{html}</form>\n",
        Text(&address(lang, action)),
        hidden("ma_bieu_mau", token)
    )
}

pub fn button(lang: Lang, name: Both<'_>) -> String {
    format!("<button>{}</button>", words(lang, name))
}

/// One field of a form, with what is wrong with it beside it.
pub struct Field<'a> {
    pub name: &'a str,
    /// The same in both: a name that the data have themselves.
    pub label: Both<'a>,
    /// `text`, `password`, …
    pub kind: &'a str,
    pub value: &'a str,
    /// What browsers call it for filling it in.
    pub autocomplete: &'a str,
    pub hint: Option<Both<'a>>,
    pub fault: Option<Both<'a>>,
}

impl Field<'_> {
    pub fn html(&self, lang: Lang) -> String {
        let name = Text(self.name).to_string();
        let id = name.replace(' ', "_");
        let (beside, described) = self.beside(lang, &id);
        format!(
            "<label for=\"{id}\">{}</label><input id=\"{id}\" name=\"{name}\" type=\"{}\" value=\"{}\" autocomplete=\"{}\"{described}>{beside}\n",
            self.label(lang),
            self.kind,
            Text(self.value),
            self.autocomplete
        )
    }

    /// The same over several lines.
    pub fn area(&self, lang: Lang, rows: usize) -> String {
        let name = Text(self.name).to_string();
        let id = name.replace(' ', "_");
        let (beside, described) = self.beside(lang, &id);
        let value: Vec<String> = self
            .value
            .lines()
            .map(|line| Text(line).to_string())
            .collect();
        format!(
            "<label for=\"{id}\">{}</label><textarea id=\"{id}\" name=\"{name}\" rows=\"{rows}\"{described}>\n{}</textarea>{beside}\n",
            self.label(lang),
            value.join("\n")
        )
    }

    fn label(&self, lang: Lang) -> String {
        match self.label[0] == self.label[1] {
            true => vietnamese(lang, self.label[0]),
            false => words(lang, self.label),
        }
    }

    fn beside(&self, lang: Lang, id: &str) -> (String, String) {
        let mut html = String::new();
        let mut ids = Vec::new();
        if let Some(hint) = self.hint {
            html.push_str(&format!("<p id=\"{id}-cach\">{}</p>", words(lang, hint)));
            ids.push(format!("{id}-cach"));
        }
        if let Some(fault) = self.fault {
            html.push_str(&format!(
                "<p id=\"{id}-loi\" class=\"fault\">{}</p>",
                words(lang, fault)
            ));
            ids.push(format!("{id}-loi"));
        }
        let mut described = String::new();
        if !ids.is_empty() {
            described = format!(" aria-describedby=\"{}\"", ids.join(" "));
        }
        if self.fault.is_some() {
            described.push_str(" aria-invalid=\"true\"");
        }
        (html, described)
    }
}

/// A table; the cells are HTML already.
pub fn table(lang: Lang, heads: &[Both<'_>], rows: &[Vec<String>]) -> String {
    let mut out = String::from("<table class=\"rows\"><thead><tr>");
    for head in heads {
        out.push_str(&format!("<th scope=\"col\">{}</th>", words(lang, *head)));
    }
    out.push_str("</tr></thead><tbody>\n");
    for row in rows {
        out.push_str("<tr>");
        // Each cell carries its column's name for where the columns do not stand beside each other.
        for (cell, head) in row.iter().zip(heads) {
            let name = words(lang, *head);
            let cell = match cell.is_empty() {
                true => String::new(),
                false => format!("<div>{cell}</div>"),
            };
            out.push_str(&format!("<td data-name=\"{name}\">{cell}</td>"));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table>\n");
    out
}

pub fn link(lang: Lang, path: &str, name: Both<'_>) -> String {
    let path = address(lang, path);
    format!("<a href=\"{}\">{}</a>", Text(&path), words(lang, name))
}
