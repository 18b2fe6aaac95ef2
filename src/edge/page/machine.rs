//! The page's section on the machine: store, disk, card, memory, heat, power, clock, certificate, backup. What
//! the machine lacks is left out.

use super::MACHINE;
use super::backup::backup;
use super::sources::trouble_text;
use crate::edge::page::frame::{open, term};
use crate::edge::page::lang::{Lang, time};
use crate::edge::page::text::{foreign, percent};
use crate::edge::status::machine::{MachineStatus, SupplyKind, SupplyStatus};
use crate::edge::status::{
    CertificateStatus, LanStatus, NameState, Status, StopKind, StopStatus, StoreStatus,
};
use crate::model::ClockQuality;

pub(super) fn machine(out: &mut String, status: &Status, lang: Lang) {
    open(out, lang, MACHINE.0, MACHINE.1);
    out.push_str("<dl>\n");
    store(out, &status.store, lang);
    kernel(out, &status.machine, lang);
    if let Some(since) = status.running_since {
        term(
            out,
            lang.of(["tramd chạy từ", "tramd runs since"]),
            &time(since),
        );
    }
    if let Some(stop) = status.last_stop {
        last_stop(out, stop, lang);
    }
    let clock = lang.of(match status.clock.quality {
        ClockQuality::Synchronized => ["khớp với máy chủ giờ", "synchronized"],
        ClockQuality::Free => [
            "chạy tự do, chưa thấy máy chủ giờ",
            "runs freely, no time server seen",
        ],
        ClockQuality::Floor => [
            "<strong>sai</strong>, sớm hơn thời điểm đã biết",
            "<strong>wrong</strong>, before a time known to be past",
        ],
    });
    let clock = format!("{}, {clock}", time(status.at));
    term(out, lang.of(["Đồng hồ", "Clock"]), &clock);
    let certificate = certificate(status.certificate.as_ref(), lang);
    term(out, lang.of(["Chứng thư", "Certificate"]), &certificate);
    backup(out, status, lang);
    if let Some(lan) = &status.lan {
        term(
            out,
            lang.of(["Trang này trong mạng", "This page in the network"]),
            &page_address(lan, lang),
        );
    }
    out.push_str("</dl></section>\n");
}

fn page_address(lan: &LanStatus, lang: Lang) -> String {
    let address = foreign(&lan.address);
    let name = lang.of(match lan.name {
        NameState::On => ["", ""],
        NameState::Off => [
            " (tên này chưa được quảng bá trong mạng)",
            " (the network is not told this name)",
        ],
        NameState::Taken => [
            ": <strong>máy khác trong mạng đang dùng tên này</strong>; đặt http.name khác cho trạm",
            ": <strong>another machine has this name</strong>; give the box another http.name",
        ],
    });
    format!("{address}{name}")
}

fn last_stop(out: &mut String, stop: StopStatus, lang: Lang) {
    let name = lang.of(match stop.kind {
        StopKind::Power => ["Mất điện gần nhất", "Last power cut"],
        StopKind::Killed => ["Dừng đột ngột gần nhất", "Last sudden stop"],
    });
    let (after, before) = (time(stop.after), time(stop.before));
    let html = lang.of([
        format!("trong khoảng {after} – {before}"),
        format!("between {after} and {before}"),
    ]);
    term(out, name, &html);
}

fn store(out: &mut String, store: &StoreStatus, lang: Lang) {
    let state = match &store.trouble {
        None => lang.of(["hoạt động tốt", "works"]).to_owned(),
        Some(trouble) => trouble_text(trouble, lang),
    };
    term(out, lang.of(["Kho dữ liệu", "Store"]), &state);
    let used = format!(
        "{} / {} ({} %)",
        lang.bytes(store.used_bytes),
        lang.bytes(store.quota_bytes),
        percent(store.used_bytes, store.quota_bytes)
    );
    term(out, lang.of(["Đã dùng / hạn mức", "Used / quota"]), &used);
    if let Some(free) = store.disk_free_bytes {
        term(
            out,
            lang.of(["Đĩa còn trống", "Free on the disk"]),
            &lang.bytes(free),
        );
    }
    if let (Some(rate), Some(days)) = (store.card.written_per_day_bytes, store.card.days_left) {
        let (rate, life) = (lang.bytes(rate), lang.card_life(days));
        let html = lang.of([
            format!("ghi {rate} mỗi ngày, còn {life} theo độ bền của thẻ"),
            format!("{rate} written a day, {life} left by its rating"),
        ]);
        term(out, lang.of(["Thẻ nhớ", "Card"]), &html);
    }
}

/// What the kernel says.
fn kernel(out: &mut String, machine: &MachineStatus, lang: Lang) {
    if let Some(memory) = machine.memory {
        let html = format!(
            "{} {} / {}",
            lang.of(["còn", "free:"]),
            lang.bytes(memory.available_bytes),
            lang.bytes(memory.total_bytes)
        );
        term(out, lang.of(["Bộ nhớ", "Memory"]), &html);
    }
    if let Some(heat) = machine.temperature_c {
        let tenths = (heat.abs() * 10.0).round() as u64;
        let sign = if heat < 0.0 { "−" } else { "" };
        let html = format!("{sign}{} °C", lang.tenths(tenths));
        term(out, lang.of(["Nhiệt độ", "Temperature"]), &html);
    }
    for supply in &machine.supplies {
        let name = lang.of(match supply.kind {
            SupplyKind::Mains => ["Điện lưới", "Mains"],
            SupplyKind::Ups => ["Bộ lưu điện (UPS)", "UPS"],
            SupplyKind::Battery => ["Pin", "Battery"],
        });
        if let Some(html) = power(supply, lang) {
            term(out, name, &html);
        }
    }
}

fn power(supply: &SupplyStatus, lang: Lang) -> Option<String> {
    let state = match (supply.kind, supply.online, supply.discharging) {
        (SupplyKind::Mains, Some(true), _) => Some(lang.of(["có điện", "on"])),
        (SupplyKind::Mains, Some(false), _) => {
            Some(lang.of(["<strong>mất điện</strong>", "<strong>off</strong>"]))
        }
        (SupplyKind::Mains, None, _) => None,
        (_, _, Some(true)) => {
            Some(lang.of(["<strong>đang dùng</strong>", "<strong>in use</strong>"]))
        }
        (_, _, Some(false)) => Some(lang.of(["sẵn sàng", "ready"])),
        (_, _, None) => None,
    };
    let charge = supply.charge_percent.map(|percent| format!("{percent} %"));
    let parts: Vec<String> = state.map(str::to_owned).into_iter().chain(charge).collect();
    (!parts.is_empty()).then(|| format!("{} ({})", parts.join(", "), foreign(&supply.name)))
}

fn certificate(certificate: Option<&CertificateStatus>, lang: Lang) -> String {
    let Some(certificate) = certificate else {
        return lang.of(["không đọc được", "cannot be read"]).to_owned();
    };
    let (name, end) = (
        foreign(&certificate.common_name),
        time(certificate.not_after),
    );
    if certificate.days_left <= 0 {
        return lang.of([
            format!("{name}, <strong>đã hết hạn</strong> ngày {end}"),
            format!("{name}, <strong>ended</strong> on {end}"),
        ]);
    }
    let days = lang.count(certificate.days_left.unsigned_abs());
    lang.of([
        format!("{name}, còn {days} ngày (đến {end})"),
        format!("{name}, {days} days left (until {end})"),
    ])
}
