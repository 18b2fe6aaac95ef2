//! The fleet's status in words: a table for a terminal, and one line for `systemctl status`.

use std::fmt::Write;

use crate::hub::output::outlook;
use crate::hub::status::{BoxStatus, Refusal, Status};
use crate::model::UnixMs;
use crate::store::hub::BoxState;

impl Status {
    /// A table for a terminal.
    pub fn to_text(&self) -> String {
        let mut rows = vec![HEADER.map(str::to_owned)];
        rows.extend(self.boxes.iter().map(|known| known.cells(self.at.0)));
        let mut text = table(&rows);
        for known in &self.boxes {
            known.write_remarks(&mut text);
        }
        for stranger in &self.strangers {
            let codes = refusals_text(&stranger.refusals);
            let _ = writeln!(
                text,
                "! {}: chưa đăng ký, bị từ chối / not registered, refused: {codes}",
                stranger.box_id
            );
        }
        text.push_str(&outlook::text(&self.outputs));
        let totals = &self.totals;
        let _ = writeln!(
            text,
            "\n{} trạm, {} đang nối; {} mục ({} lặp), {} mất, {} tạm giữ, {} gói bị từ chối; kho {} / {}",
            totals.boxes,
            totals.online,
            totals.entries,
            totals.doubles,
            totals.lost,
            totals.parked,
            totals.refused,
            bytes_text(self.store.used_bytes),
            bytes_text(self.store.quota_bytes),
        );
        let _ = writeln!(
            text,
            "{} boxes, {} online; {} entries ({} doubles), {} lost, {} parked, {} batches refused; store {} of {}",
            totals.boxes,
            totals.online,
            totals.entries,
            totals.doubles,
            totals.lost,
            totals.parked,
            totals.refused,
            bytes_text(self.store.used_bytes),
            bytes_text(self.store.quota_bytes),
        );
        text
    }

    /// One line for `systemctl status`.
    pub fn to_line(&self) -> String {
        let totals = &self.totals;
        format!(
            "{}/{} trạm đang nối, {} mục đã nhận, {} đang chờ ở trạm / {} of {} boxes online, {} entries, {} waiting",
            totals.online,
            totals.active,
            totals.entries,
            totals.waiting,
            totals.online,
            totals.active,
            totals.entries,
            totals.waiting,
        )
    }
}

/// The hub orders a renewal months before; with so little left somebody has to look.
const RENEWED_BEFORE_DAYS: i64 = 60;

const HEADER: [&str; 8] = [
    "Trạm (box)",
    "Cơ quan (agency)",
    "Trạng thái (state)",
    "Thấy cuối (last seen)",
    "Đang chờ (waiting)",
    "Đã nhận (entries)",
    "Mất (lost)",
    "Chứng thư (days)",
];

impl BoxStatus {
    fn cells(&self, now: UnixMs) -> [String; 8] {
        let online = self
            .presence
            .as_ref()
            .is_some_and(|presence| presence.online);
        let state = match (self.state, online) {
            (BoxState::Active, true) => "đang nối (online)",
            (BoxState::Active, false) => "mất nối (offline)",
            (BoxState::Suspended, _) => "tạm ngừng (suspended)",
            (BoxState::Revoked, _) => "thu hồi (revoked)",
        };
        let waiting = self.presence.as_ref().and_then(|presence| presence.waiting);
        let days = self
            .presence
            .as_ref()
            .and_then(|presence| presence.certificate_days)
            .unwrap_or(self.certificate_days);
        [
            self.box_id.to_string(),
            self.agency.to_string(),
            state.to_owned(),
            self.last_seen
                .map_or("—".to_owned(), |seen| age_text(now.0 - seen.0.0)),
            waiting.map_or("—".to_owned(), |waiting| {
                waiting.iter().sum::<u64>().to_string()
            }),
            self.entries.to_string(),
            self.lost.to_string(),
            days.to_string(),
        ]
    }

    fn write_remarks(&self, text: &mut String) {
        let name = &self.box_id;
        let days = self.certificate_days;
        if self.state == BoxState::Active && days < RENEWED_BEFORE_DAYS {
            let _ = writeln!(
                text,
                "! {name}: chứng thư còn {days} ngày, chưa tự gia hạn được; xem trucd command list / \
                 the certificate ends in {days} days and was not renewed, see trucd command list"
            );
        }
        if self.suspected_clone {
            let _ = writeln!(
                text,
                "! {name}: có vẻ hai máy dùng chung định danh / two machines seem to use this name"
            );
        }
        if self.gaps > 0 {
            let _ = writeln!(
                text,
                "! {name}: {} khoảng mất, xem trucd gaps / {} gaps, see trucd gaps",
                self.gaps, self.gaps
            );
        }
        if self.parked > 0 {
            let _ = writeln!(
                text,
                "! {name}: {} mục tạm giữ, xem trucd parked / {} parked, see trucd parked",
                self.parked, self.parked
            );
        }
        if let Some(down) = &self.down {
            for lane in &down.lanes {
                let age = age_text(lane.oldest_s as i64 * 1_000);
                let _ = writeln!(
                    text,
                    "↓ {name} {}: {} mục chờ gửi xuống, {}, lâu nhất {age} / entries wait to go down, oldest {age}",
                    lane.lane,
                    lane.waiting,
                    bytes_text(lane.waiting_bytes),
                );
            }
            if 0 < down.dropped {
                let _ = writeln!(
                    text,
                    "! {name}: {} mục gửi xuống đã bỏ vì hết chỗ / {} entries to it dropped for want of room",
                    down.dropped, down.dropped
                );
            }
        }
        for load in self.loads.iter().filter(|load| !load.done) {
            let _ = writeln!(
                text,
                "↓ {name}: đang nạp bản sao {}: {} / {} đối tượng / loading its copy",
                load.dataset, load.seen, load.subjects
            );
        }
        for one in &self.undelivered {
            let (why, why_en) = undelivered_words(&one.reason);
            let age = age_text(one.oldest_s as i64 * 1_000);
            let _ = writeln!(
                text,
                "! {name}: {} văn bản chưa đến nơi nhận, lâu nhất {age}: {why}, xem trucd parked / documents found nobody: {why_en}, see trucd parked",
                one.count
            );
        }
        if !self.refusals.is_empty() {
            let codes = refusals_text(&self.refusals);
            let _ = writeln!(text, "! {name}: gói bị từ chối / batches refused: {codes}");
        }
    }
}

/// Why a document found nobody, and what to do.
fn undelivered_words(reason: &str) -> (&str, &str) {
    match reason {
        "no_box" => (
            "cơ quan nhận chưa có trạm, đăng ký bằng trucd box add",
            "the office has no box yet, see trucd box add",
        ),
        "unknown_office" => (
            "danh mục không có mã nơi nhận, sửa danh mục cơ quan hoặc báo bên gửi",
            "the catalogue does not know the code, mend it or tell the sender",
        ),
        "no_room" => (
            "trạm nhận vắng lâu, chờ nó có mạng lại; tự gửi sau, muộn nhất lúc nửa đêm",
            "too much waits for the box; sent by itself once it has caught up, at midnight at the latest",
        ),
        "too_large" => (
            "văn bản quá lớn, báo bên gửi tách tệp đính kèm",
            "too large, the sender is to attach its files",
        ),
        "not_addressed" => (
            "trạng thái do cơ quan không phải nơi nhận báo, không chuyển tiếp",
            "statuses of an office that the document was not addressed to",
        ),
        other => (other, other),
    }
}

fn refusals_text(refusals: &[Refusal]) -> String {
    let codes: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("{} {}", refusal.code, refusal.count))
        .collect();
    codes.join(", ")
}

/// Columns as wide as their widest cell.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn age_text(age_ms: i64) -> String {
    match age_ms / 1000 {
        seconds if seconds < 120 => format!("{} s", seconds.max(0)),
        seconds if seconds < 7_200 => format!("{} min", seconds / 60),
        seconds if seconds < 172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

fn bytes_text(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, size)| *size <= bytes) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}
