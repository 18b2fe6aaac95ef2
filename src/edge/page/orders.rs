//! The page's section on what the hub has ordered: which catalogue holds, how wide the link may be
//! used.

use super::ORDERS;
use crate::edge::page::frame::{open, term};
use crate::edge::page::lang::{Lang, time};
use crate::edge::page::text::{Text, foreign, vietnamese};
use crate::edge::status::Status;

pub(super) fn orders(out: &mut String, status: &Status, lang: Lang) {
    let catalogue = &status.catalogue;
    open(out, lang, ORDERS.0, ORDERS.1);
    out.push_str("<dl>\n");
    let current = match &catalogue.current {
        Some(current) => format!(
            "{} {}, {} {}",
            lang.of(["phiên bản", "version"]),
            current.version,
            lang.of(["từ", "since"]),
            Text(&day(&current.effective))
        ),
        None => lang.of(["bản cài đặt", "as installed"]).to_owned(),
    };
    term(out, lang.of(["Danh mục đang dùng", "Catalogue"]), &current);
    if let Some(next) = &catalogue.next {
        let (version, day) = (next.version, day(&next.effective));
        let html = lang.of([
            format!("phiên bản {version}, hiệu lực từ 0 giờ ngày {}", Text(&day)),
            format!("version {version}, holds from midnight of {}", Text(&day)),
        ]);
        term(out, lang.of(["Sắp tới", "Coming"]), &html);
    }
    if let Some(refused) = &catalogue.refused {
        let (version, since) = (refused.version, time(refused.since));
        let html = format!(
            "<strong>{}</strong> ({since}): {}",
            lang.of([
                format!("Không dùng được phiên bản {version}"),
                format!("Version {version} does not work here"),
            ]),
            vietnamese(lang, &refused.reason)
        );
        term(out, lang.of(["Từ chối", "Refused"]), &html);
    }
    if let Some(kbps) = status.bandwidth_kbps {
        let kbps = lang.count(u64::from(kbps));
        let html = lang.of([
            format!("làn P2–P4 tối đa {kbps} kbit/s vào giờ này"),
            format!("lanes P2–P4 use at most {kbps} kbit/s at this hour"),
        ]);
        term(out, lang.of(["Băng thông", "Bandwidth"]), &html);
    }
    if !status.bandwidth.is_empty() {
        let html = format!("{} (kbit/s)", foreign(&status.bandwidth.join("; ")));
        term(out, lang.of(["Lịch băng thông", "Timetable"]), &html);
    }
    out.push_str("</dl></section>\n");
}

/// `dd/MM/yyyy` of `yyyy-MM-dd`; anything else as it is.
fn day(written: &str) -> String {
    match written.split('-').collect::<Vec<_>>()[..] {
        [year, month, day] => format!("{day}/{month}/{year}"),
        _ => written.to_owned(),
    }
}
