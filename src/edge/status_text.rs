//! The status for a terminal: Vietnamese, one fact a line.

use std::fmt::Write;

use crate::edge::status::backup::BackupStatus;
use crate::edge::status::down::DownStatus;
use crate::edge::status::{
    CardStatus, LanStatus, LinkState, NameState, Status, card_life_vi, span_vi,
};
use crate::edge::stick::state::{StickState, StickStatus};
use crate::engine::sending::Level;
use crate::model::ClockQuality;
use crate::model::handover::known;
use crate::shell::settings::units::size_text;

/// Events that the terminal shows.
const EVENTS_MAX: usize = 10;

pub fn render(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<14} {value}").expect("a string takes any text");
    };
    line(
        "Trạm",
        format!(
            "{} ({}), tramd {}",
            status.box_id, status.agency, status.version
        ),
    );
    line(
        "Dịch vụ",
        match status.running_since {
            Some(since) => format!("đang chạy từ {since}"),
            None => "không chạy; số liệu đọc từ kho dữ liệu".to_owned(),
        },
    );
    line("Liên kết", link(status));
    if let Some(receipt) = status.link.last_receipt {
        line("Biên nhận", format!("lần cuối {receipt}"));
    }
    if let Some(down) = &status.down {
        let heard = match down.heard {
            Some(heard) => format!("lần cuối {heard}"),
            None => "chưa có".to_owned(),
        };
        let trouble = down.trouble.as_ref();
        let trouble = trouble.map_or(String::new(), |trouble| format!("; {trouble}"));
        line("Từ trục", format!("{heard}, {} mục{trouble}", down.entries));
    }
    if let Some(refused) = &status.refused_by_hub {
        line(
            "Trục từ chối",
            format!("{} ({})", refused.text_vi, refused.at),
        );
    }
    if let Some(trouble) = &status.store.trouble {
        line("Sự cố", format!("{} {}", trouble.text_vi, trouble.hint_vi));
    }
    if let Some(stick) = &status.stick {
        line("USB", self::stick(stick));
    }
    for lane in &status.lanes {
        let full = if lane.full { ", ĐẦY" } else { "" };
        let waiting = match lane.waiting {
            0 => "không có gì chờ".to_owned(),
            waiting => format!(
                "{waiting} bản ghi chờ, {}, lâu nhất {}",
                rounded(lane.waiting_bytes),
                span_vi(lane.oldest_s)
            ),
        };
        line(
            &format!("Làn {}", lane.lane),
            format!("{waiting} (hạn mức {}){full}", rounded(lane.quota_bytes)),
        );
    }
    for source in &status.sources {
        let mut value = format!("nhận {}, từ chối {}", source.accepted, source.refused);
        if let Some(at) = source.last_accepted {
            write!(value, ", nhận lần cuối {at}").expect("a string takes any text");
        }
        if let Some(reason) = &source.last_reason {
            write!(value, "; lý do từ chối gần nhất: {reason}").expect("a string takes any text");
        }
        if 0 < source.parked {
            write!(value, "; giữ lại {} dòng", source.parked).expect("a string takes any text");
        }
        if let Some(progress) = source.progress {
            write!(value, "; đang đọc, đã được {} dòng", progress.rows)
                .expect("a string takes any text");
        }
        for trouble in [&source.fault, &source.warning].into_iter().flatten() {
            write!(value, "; {}. {}", trouble.text_vi, trouble.hint_vi)
                .expect("a string takes any text");
        }
        line(&format!("Nguồn {}", source.name), value);
    }
    if let Some(down) = &status.down {
        for (name, value) in down_lines(down) {
            line(&name, value);
        }
    }
    let store = &status.store;
    let disk = store.disk_free_bytes.map_or("không rõ".to_owned(), rounded);
    line(
        "Kho dữ liệu",
        format!(
            "dùng {} trong {}, ổ đĩa còn {disk}",
            rounded(store.used_bytes),
            rounded(store.quota_bytes)
        ),
    );
    line("Thẻ nhớ", card(&store.card));
    line(
        "Đồng hồ",
        match status.clock.quality {
            ClockQuality::Synchronized => "đã đồng bộ".to_owned(),
            ClockQuality::Free => "chạy tự do, chưa thấy đồng bộ".to_owned(),
            ClockQuality::Floor => format!("sai (chậm); tạm dùng mốc {}", status.clock.floor),
        },
    );
    let catalogue = &status.catalogue;
    let mut value = match &catalogue.current {
        Some(current) => format!("phiên bản {}, từ {}", current.version, current.effective),
        None => "bản cài đặt".to_owned(),
    };
    if let Some(next) = &catalogue.next {
        let (version, day) = (next.version, &next.effective);
        write!(value, "; phiên bản {version} hiệu lực từ {day}").expect("a string takes any text");
    }
    if let Some(refused) = &catalogue.refused {
        let (version, reason) = (refused.version, &refused.reason);
        write!(value, "; không dùng được phiên bản {version}: {reason}")
            .expect("a string takes any text");
    }
    line("Danh mục", value);
    if let Some(kbps) = status.bandwidth_kbps {
        line(
            "Băng thông",
            format!("làn P2–P4 tối đa {kbps} kbit/s vào giờ này"),
        );
    }
    if !status.bandwidth.is_empty() {
        line("Lịch giờ", status.bandwidth.join("; "));
    }
    line(
        "Chứng thư",
        match &status.certificate {
            Some(certificate) if certificate.days_left < 0 => {
                format!("đã hết hạn từ {}", certificate.not_after)
            }
            Some(certificate) => format!("còn {} ngày", certificate.days_left),
            None => "không đọc được".to_owned(),
        },
    );
    line(
        "Sao lưu",
        match &status.backup {
            Some(status) => backup(status),
            None => "chưa đặt ([backup] folder)".to_owned(),
        },
    );
    if let Some(lan) = &status.lan {
        line("Trang của trạm", lan_address(lan));
        if let Some(fingerprint) = &lan.fingerprint {
            line("Dấu vân tay", format!("SHA-256 {fingerprint}"));
        }
    }
    for event in status.events.iter().take(EVENTS_MAX) {
        let level = match event.level {
            Level::Info => "Sự kiện",
            Level::Warning => "Chú ý",
            Level::Alarm => "BÁO ĐỘNG",
        };
        line(
            level,
            format!("{} {} {}", event.at, event.code, event.detail),
        );
    }
    text
}

fn stick(stick: &StickStatus) -> String {
    let at = stick.at;
    let mut value = match (stick.state, &stick.fault) {
        (StickState::Writing, _) => format!("đang ghi, không được rút (từ {at})"),
        (StickState::Ready, _) => format!("có thể rút ({at})"),
        (StickState::Failed, Some(fault)) => {
            format!("{at}: {}. {}", fault.text_vi, fault.hint_vi)
        }
        (StickState::Failed, None) => format!("gặp lỗi ({at})"),
    };
    if let Some(exported) = stick.exported {
        write!(
            value,
            "; ghi {} bản ghi, {}",
            exported.entries,
            rounded(exported.bytes)
        )
        .expect("a string takes any text");
    }
    if let Some(imported) = stick.imported {
        write!(value, "; biên nhận cho {} bản ghi", imported.entries)
            .expect("a string takes any text");
    }
    value
}

fn backup(backup: &BackupStatus) -> String {
    let mut value = match &backup.last {
        Some(last) => format!(
            "lần cuối {}, {}, {} bản ghi, đã khôi phục thử tốt: {}",
            last.at,
            rounded(last.bytes),
            last.entries,
            last.file
        ),
        None => "chưa có lần nào".to_owned(),
    };
    if backup.last.as_ref().is_some_and(|last| last.same_disk) {
        value.push_str("; CÙNG ĐĨA với dữ liệu");
    }
    if backup.late {
        value.push_str("; QUÁ CŨ");
    }
    if let Some(fault) = &backup.fault {
        let at = fault.since.map_or(String::new(), |at| format!(" lúc {at}"));
        write!(value, "; lỗi{at}: {}. {}", fault.text_vi, fault.hint_vi)
            .expect("a string takes any text");
    }
    if let Some(next) = backup.next {
        write!(value, "; lần tới {next}").expect("a string takes any text");
    }
    value
}

/// Copies, the inbox and commands.
fn down_lines(down: &DownStatus) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for copy in &down.copies {
        let state = match (&copy.load, copy.withdrawn) {
            (_, true) if 0 < copy.subjects => "quyền đã bị thu hồi, đang xóa".to_owned(),
            (_, true) => "quyền đã bị thu hồi, đã xóa hết".to_owned(),
            (Some(load), false) => format!("đang nạp {} trong {}", load.seen, load.of),
            (None, false) => "đầy đủ".to_owned(),
        };
        let mut value = format!(
            "{} hồ sơ, dữ liệu đến lúc {}; {state}",
            copy.subjects, copy.as_of
        );
        if let Some(compared) = &copy.compared {
            write!(value, "; {}", compared.words()).expect("a string takes any text");
        }
        lines.push((format!("Bản sao {}", copy.dataset), value));
    }
    if let Some(compared) = &down.logs_compared {
        lines.push(("Nhật ký".to_owned(), compared.words()));
    }
    let inbox = &down.inbox;
    let mut value = match inbox.unread {
        0 => "không có văn bản chưa tiếp nhận".to_owned(),
        unread => format!(
            "{unread} văn bản chưa tiếp nhận, cũ nhất từ {} trước",
            span_vi(inbox.oldest_s)
        ),
    };
    for (code, count) in &inbox.by_status {
        let name = known(code).map_or("", |status| status.name_vi);
        write!(value, "; {code} {name}: {count}").expect("a string takes any text");
    }
    if 0 < inbox.unsaid {
        write!(value, "; {} trạng thái chờ gửi", inbox.unsaid).expect("a string takes any text");
    }
    lines.push(("Văn bản đến".to_owned(), value));
    let files = &down.files;
    if 0 < files.coming + files.full + files.refused {
        let mut value = format!("{} đang về, còn {} byte", files.coming, files.coming_bytes);
        for file in &files.under_way {
            let (received, chunks) = (file.received_chunks, file.chunks);
            write!(value, "; {received} trên {chunks} đoạn").expect("a string takes any text");
        }
        if 0 < files.full {
            write!(value, "; {} chưa có chỗ (store.received)", files.full)
                .expect("a string takes any text");
        }
        if 0 < files.refused {
            write!(value, "; {} bị giữ ở trục", files.refused).expect("a string takes any text");
        }
        lines.push(("Tệp của văn bản".to_owned(), value));
    }
    for way in &inbox.ways {
        let mut value = format!("{} chờ", way.waiting);
        if let (true, Some(error)) = (0 < way.failed, &way.error) {
            write!(value, "; không chuyển được {}: {error}", way.failed)
                .expect("a string takes any text");
        }
        if let Some(retry) = way.retry.filter(|_| 0 < way.failed) {
            write!(value, "; thử lại lúc {retry}").expect("a string takes any text");
        }
        lines.push((format!("Chuyển tới {}", way.name), value));
    }
    for command in &down.commands {
        let (at, name, by) = (command.received, &command.name, &command.by);
        let mut value = format!("{at} {name} ({by}): {}", command.state_words()[0]);
        if !command.detail.is_empty() {
            write!(value, ", {}", command.detail).expect("a string takes any text");
        }
        lines.push(("Lệnh".to_owned(), value));
    }
    lines
}

fn link(status: &Status) -> String {
    let link = &status.link;
    let address = link.address.as_deref().unwrap_or("-");
    let since = link
        .since
        .map_or(String::new(), |since| format!(" từ {since}"));
    match link.state {
        LinkState::Up => format!("đã nối với {address}{since}"),
        LinkState::Connecting => format!("đang nối với {address}"),
        LinkState::Stopped => "không rõ, vì dịch vụ không chạy".to_owned(),
        LinkState::Down => {
            let reason = link.reason.as_ref();
            let reason = reason.map_or(String::new(), |reason| {
                format!(": {} ({})", reason.text_vi, reason.code)
            });
            format!("đứt{since} ({address}){reason}")
        }
    }
}

/// What the card bears, in a person's units.
fn lan_address(lan: &LanStatus) -> String {
    let name = match lan.name {
        NameState::On => "",
        NameState::Off => " (chưa quảng bá tên; vào bằng địa chỉ IP)",
        NameState::Taken => {
            " (TÊN TRÙNG với máy khác trong mạng; đặt http.name khác, tạm vào bằng địa chỉ IP)"
        }
    };
    format!("{}{name}", lan.address)
}

fn card(card: &CardStatus) -> String {
    let rated = rounded(card.rated_bytes);
    match (card.written_per_day_bytes, card.days_left) {
        (Some(rate), Some(days)) => format!(
            "ghi {} mỗi ngày; với độ bền {rated} còn dùng được {}",
            rounded(rate),
            card_life_vi(days)
        ),
        _ => format!(
            "đã ghi {} (độ bền {rated}); chưa đủ một giờ để tính mức ghi mỗi ngày",
            rounded(card.written_bytes)
        ),
    }
}

/// A size of at most three digits and a unit.
fn rounded(bytes: u64) -> String {
    let scale = [30, 20, 10]
        .into_iter()
        .find(|shift| 10 <= bytes >> shift)
        .unwrap_or(0);
    size_text(&(bytes >> scale << scale))
}
