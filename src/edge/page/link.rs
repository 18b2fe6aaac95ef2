//! The page's section on the link to the hub: how it stands, since when, why not, and what to do.

use super::LINK;
use crate::edge::page::frame::{open, put, term};
use crate::edge::page::lang::{Lang, Words, time};
use crate::edge::page::remedy::{Stage, of_refusal, remedy_of_code};
use crate::edge::page::text::{foreign, vietnamese};
use crate::edge::status::{LinkReason, LinkState, RefusedByHub, Status};
use crate::edge::texts;

pub(super) fn link(out: &mut String, status: &Status, lang: Lang) {
    let link = &status.link;
    open(out, lang, LINK.0, LINK.1);
    if let Some(reason) = &link.reason {
        reason_box(out, reason, lang);
    }
    if let Some(refused) = &status.refused_by_hub {
        refusal_box(out, refused, lang);
    }
    out.push_str("<dl>\n");
    let state = lang.of(match link.state {
        LinkState::Up => ["Đã kết nối", "Connected"],
        LinkState::Connecting => ["Đang kết nối", "Connecting"],
        LinkState::Down => ["Mất liên lạc", "No link"],
        LinkState::Stopped => ["Chương trình không chạy", "The daemon does not run"],
    });
    let since = link.since.map_or(String::new(), |since| {
        format!("{}{}", lang.of([", từ ", ", since "]), time(since))
    });
    term(
        out,
        lang.of(["Trạng thái", "State"]),
        &format!("{state}{since}"),
    );
    if let Some(address) = &link.address {
        term(
            out,
            lang.of(["Địa chỉ trục", "The hub's address"]),
            &foreign(address),
        );
    }
    let none = lang.of(["chưa có", "none yet"]);
    let receipt = link.last_receipt.map_or(none.to_owned(), time);
    term(
        out,
        lang.of(["Biên nhận gần nhất", "Last receipt"]),
        &receipt,
    );
    if let Some(down) = &status.down {
        let heard = down.heard.map_or(none.to_owned(), time);
        let held = format!(
            "{heard}; {} {}",
            lang.count(down.entries),
            lang.of(["mục", "entries"])
        );
        term(
            out,
            lang.of(["Dữ liệu từ trục", "Data from the hub"]),
            &held,
        );
        if let Some(trouble) = &down.trouble {
            let name = lang.of([
                "Kho dữ liệu từ trục gặp sự cố",
                "Trouble with the store of what the hub sent",
            ]);
            term(
                out,
                name,
                &format!("<span lang=\"en\">{}</span>", foreign(trouble)),
            );
        }
    }
    put(
        out,
        format_args!(
            "</dl><p class=\"screen\"><a id=\"duong-truyen\" href=\"/ky-thuat/duong-truyen{}\">{}</a></p></section>\n",
            lang.query(),
            lang.of([
                "Kiểm tra đường truyền từng bước (cần đăng nhập)",
                "Link test, step by step (needs signing in)"
            ])
        ),
    );
}

fn reason_box(out: &mut String, reason: &LinkReason, lang: Lang) {
    let mqtt = reason
        .mqtt
        .map_or(String::new(), |code| format!(", MQTT 0x{code:02x}"));
    let code = format!("<code>{}{mqtt}</code>", foreign(&reason.code));
    match remedy_of_code(&reason.code, reason.mqtt) {
        Some(remedy) => {
            let what = lang.of(remedy.what).to_owned();
            advice(out, lang, Some(remedy.stage), &what, &code, remedy.steps);
        }
        None => {
            let what = vietnamese(lang, &reason.text_vi);
            advice(out, lang, None, &what, &code, &[]);
        }
    }
}

fn refusal_box(out: &mut String, refused: &RefusedByHub, lang: Lang) {
    let what = match lang {
        Lang::Vi => foreign(&refused.text_vi),
        Lang::En => format!(
            "The hub refuses a batch: {}",
            texts::refusal_en(&refused.code)
        ),
    };
    let code = format!(
        "<code>{}</code>, {}",
        foreign(&refused.code),
        time(refused.at)
    );
    advice(
        out,
        lang,
        Some(Stage::Hub),
        &what,
        &code,
        of_refusal(&refused.code),
    );
}

/// What is wrong and what to do; `what` and `code` are escaped.
fn advice(
    out: &mut String,
    lang: Lang,
    stage: Option<Stage>,
    what: &str,
    code: &str,
    steps: &[Words],
) {
    let stage = stage.map_or(String::new(), |stage| {
        let at = lang.of(["Hỏng ở bước", "What fails"]);
        format!("{at}: <strong>{}</strong>. ", lang.of(stage.name()))
    });
    put(
        out,
        format_args!("<div class=\"remedy\"><p>{stage}{what} ({code})</p>"),
    );
    if !steps.is_empty() {
        put(
            out,
            format_args!("<p>{}</p><ol>", lang.of(["Cách xử lý:", "What to do:"])),
        );
        for step in steps {
            put(out, format_args!("<li>{}</li>", lang.of(*step)));
        }
        out.push_str("</ol>");
    }
    out.push_str("</div>\n");
}
