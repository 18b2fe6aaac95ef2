//! The page's section on what the hub has ordered: which catalogue holds, how wide the link may be
//! used.

use super::{open, term, text};
use crate::edge::page::text::Text;
use crate::edge::status::Status;

pub(super) fn orders(out: &mut String, status: &Status) {
    let catalogue = &status.catalogue;
    open(out, ["Danh mục và băng thông", "Catalogue and bandwidth"]);
    out.push_str("<dl>\n");
    let current = match &catalogue.current {
        Some(current) => format!(
            "Phiên bản {}, từ {} <small lang=\"en\">version, since</small>",
            current.version,
            Text(&current.effective)
        ),
        None => "Bản cài đặt <small lang=\"en\">as installed</small>".to_owned(),
    };
    term(out, "Đang dùng", &current);
    if let Some(next) = &catalogue.next {
        let html = format!(
            "Phiên bản {}, hiệu lực từ 0 giờ ngày {} <small lang=\"en\">takes effect at midnight</small>",
            next.version,
            Text(&next.effective)
        );
        term(out, "Sắp tới", &html);
    }
    if let Some(refused) = &catalogue.refused {
        let html = format!(
            "<strong>Không dùng được phiên bản {}</strong> ({}): {} <small lang=\"en\">refused</small>",
            refused.version,
            text::time(refused.since),
            Text(&refused.reason)
        );
        term(out, "Từ chối", &html);
    }
    if let Some(kbps) = status.bandwidth_kbps {
        let html = format!(
            "Làn P2–P4 tối đa {} kbit/s vào giờ này <small lang=\"en\">bounded at this hour</small>",
            text::count(u64::from(kbps))
        );
        term(out, "Băng thông", &html);
    }
    if !status.bandwidth.is_empty() {
        let html = format!(
            "{} (giờ, kbit/s) <small lang=\"en\">hours and kbit/s</small>",
            Text(&status.bandwidth.join("; "))
        );
        term(out, "Lịch băng thông", &html);
    }
    out.push_str("</dl></section>\n");
}
