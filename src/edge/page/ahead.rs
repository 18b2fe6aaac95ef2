//! The third light: whether something will break unless somebody acts.

use crate::edge::page::lang::{Lang, Words};
use crate::edge::page::lights::{Colour, Light};
use crate::edge::page::text;
use crate::edge::status::Status;
use crate::engine::sending::Level;
use crate::model::ClockQuality;

const CERTIFICATE_AMBER_DAYS: i64 = 30;
const CERTIFICATE_RED_DAYS: i64 = 7;
/// Life that the card has left by its maker's figure.
const CARD_AMBER_DAYS: u64 = 365;
const CARD_RED_DAYS: u64 = 60;
/// Part of a lane's share that waits, percent.
const LANE_AMBER_PERCENT: u64 = 70;
const LANE_RED_PERCENT: u64 = 90;
/// Part of the store's quota in use, percent. The kept tail fills up to four fifths by design.
const STORE_AMBER_PERCENT: u64 = 85;
const STORE_RED_PERCENT: u64 = 95;
const DISK_AMBER_BYTES: u64 = 1024 * 1024 * 1024;
const DISK_RED_BYTES: u64 = 256 * 1024 * 1024;
/// Alarms of the last day are pointed at.
const ALARM_MS: i64 = 24 * 3_600_000;
/// A document that nobody has taken over for so long is pointed at.
const UNREAD_AMBER_S: u64 = 2 * 86_400;
/// Small computers slow down at about 80 degrees Celsius.
const HOT_AMBER_C: f64 = 75.0;
const HOT_RED_C: f64 = 85.0;
/// Charge of the battery that the machine lives on, percent.
const CHARGE_RED_PERCENT: u8 = 30;
/// Part of the memory that programs can still get, percent.
const MEMORY_AMBER_PERCENT: u64 = 8;

/// Whether something will break unless somebody acts; the worst thing is told.
pub fn ahead(status: &Status) -> Light {
    let mut found = vec![Light::new(
        Colour::Green,
        "Không thấy dấu hiệu sự cố sắp tới.",
        "No sign of trouble ahead.",
    )];
    found.extend(certificate(status));
    found.extend(fill(status));
    found.extend(clock_and_alarms(status));
    found.extend(documents(status));
    found.extend(backup(status));
    found.extend(machine(status));
    // The first of the worst: the order above is the order of what cannot wait.
    found.reverse();
    found
        .into_iter()
        .max_by_key(|light| light.colour)
        .expect("at least the green one")
}

fn certificate(status: &Status) -> Option<Light> {
    let Some(certificate) = &status.certificate else {
        return Some(Light::new(
            Colour::Amber,
            "Không đọc được chứng thư của trạm. Kiểm tra tệp chứng thư trong cấu hình.",
            "The box's certificate cannot be read; check its file.",
        ));
    };
    let days = certificate.days_left;
    if days <= 0 {
        return Some(Light::new(
            Colour::Red,
            "Chứng thư của trạm đã hết hạn. Đề nghị đơn vị vận hành trục cấp lại (trucd box reissue).",
            "The box's certificate has ended; ask the hub's operator to issue it again (trucd box reissue).",
        ));
    }
    let colour = if days <= CERTIFICATE_RED_DAYS {
        Colour::Red
    } else if days <= CERTIFICATE_AMBER_DAYS {
        Colour::Amber
    } else {
        return None;
    };
    Some(Light::new(
        colour,
        format!(
            "Chứng thư của trạm còn {days} ngày mà chưa tự gia hạn được. Kiểm tra đường truyền; ở trục: trucd command TRẠM rotate_key."
        ),
        format!(
            "The box's certificate ends in {days} days and was not renewed by itself. Check the link; at the hub: trucd command BOX rotate_key."
        ),
    ))
}

/// Lanes, store and disk on their way to full.
fn fill(status: &Status) -> Vec<Light> {
    let mut found = Vec::new();
    for lane in &status.lanes {
        let percent = text::percent(lane.waiting_bytes, lane.quota_bytes);
        if let Some(colour) = rising(percent, LANE_AMBER_PERCENT, LANE_RED_PERCENT) {
            let lane = lane.lane;
            found.push(Light::new(
                colour,
                format!("Làn {lane} đã dùng {percent} % phần chờ gửi; khi đầy, trạm từ chối bản ghi mới. Kiểm tra đường truyền."),
                format!("Lane {lane} is {percent} % full; when full it refuses new records. Check the link."),
            ));
        }
    }
    let store = &status.store;
    let percent = text::percent(store.used_bytes, store.quota_bytes);
    if let Some(colour) = rising(percent, STORE_AMBER_PERCENT, STORE_RED_PERCENT) {
        found.push(Light::new(
            colour,
            format!("Kho dữ liệu đã dùng {percent} % hạn mức. Kiểm tra đường truyền hoặc tăng store.quota."),
            format!("The store has used {percent} % of its quota; check the link or raise store.quota."),
        ));
    }
    let colour = match store.disk_free_bytes {
        Some(free) if free < DISK_RED_BYTES => Some(Colour::Red),
        Some(free) if free < DISK_AMBER_BYTES => Some(Colour::Amber),
        _ => None,
    };
    if let (Some(colour), Some(free)) = (colour, store.disk_free_bytes) {
        let [free, free_en] = Lang::ALL.map(|lang| lang.bytes(free));
        found.push(Light::new(
            colour,
            format!("Đĩa chỉ còn trống {free}. Hãy dọn bớt tệp không cần thiết trên máy."),
            format!("Only {free_en} are free on the disk; remove files that are not needed."),
        ));
    }
    found.extend(card(status));
    found
}

/// A card that will have borne what its maker promises.
fn card(status: &Status) -> Option<Light> {
    let days = status.store.card.days_left?;
    let colour = match days {
        0..CARD_RED_DAYS => Colour::Red,
        CARD_RED_DAYS..CARD_AMBER_DAYS => Colour::Amber,
        _ => return None,
    };
    Some(Light::new(
        colour,
        format!(
            "Thẻ nhớ sẽ hết độ bền ghi sau khoảng {days} ngày. Sao lưu và chuẩn bị thẻ mới; nếu thẻ bền hơn, đặt store.card_rated theo nhà sản xuất."
        ),
        format!(
            "The card will have borne its rated writes in about {days} days; back up and replace it, or set store.card_rated to the maker's figure."
        ),
    ))
}

fn rising(value: u64, amber: u64, red: u64) -> Option<Colour> {
    match value {
        value if red <= value => Some(Colour::Red),
        value if amber <= value => Some(Colour::Amber),
        _ => None,
    }
}

fn clock_and_alarms(status: &Status) -> Vec<Light> {
    let mut found = Vec::new();
    let recent = |at: i64| status.at.0.0.saturating_sub(at) < ALARM_MS;
    let alarms = status
        .events
        .iter()
        .filter(|event| event.level == Level::Alarm && recent(event.at.0.0))
        .count();
    if 0 < alarms {
        found.push(Light::new(
            Colour::Amber,
            format!("Có {alarms} báo động trong 24 giờ qua. Xem mục Sự kiện gần đây."),
            format!("{alarms} alarms in the last 24 hours; see Recent events."),
        ));
    }
    if status.clock.quality == ClockQuality::Floor {
        found.push(Light::new(
            Colour::Amber,
            "Đồng hồ của máy chạy sai (sớm hơn thời điểm đã biết). Kiểm tra pin và máy chủ giờ (NTP).",
            "The machine's clock is wrong (before a time known to be past); check battery and NTP.",
        ));
    }
    found
}

/// Documents that do not reach the people they are for.
fn documents(status: &Status) -> Option<Light> {
    let inbox = &status.down.as_ref()?.inbox;
    let failing: Vec<&str> = inbox
        .ways
        .iter()
        .filter(|way| 0 < way.failed)
        .map(|way| way.name.as_str())
        .collect();
    if !failing.is_empty() {
        let names = failing.join(", ");
        return Some(Light::new(
            Colour::Amber,
            format!(
                "Văn bản đến không chuyển được vào phần mềm qua: {names}. Xem cách xử lý ở mục Văn bản đến."
            ),
            format!(
                "Documents do not reach the office's software by: {names}; see Documents for this office."
            ),
        ));
    }
    (UNREAD_AMBER_S <= inbox.oldest_s).then(|| {
        let [unread, unread_en] = Lang::ALL.map(|lang| lang.count(inbox.unread));
        let age = Lang::Vi.duration(inbox.oldest_s);
        Light::new(
            Colour::Amber,
            format!(
                "Có {unread} văn bản đến chưa tiếp nhận, cũ nhất từ {age} trước. Mở phần mềm của cơ quan để tiếp nhận."
            ),
            format!("{unread_en} documents for this office were not taken over; see what its software does."),
        )
    })
}

/// Backups that do not come about. They are not urgent: what was accepted lies safely in the box.
fn backup(status: &Status) -> Option<Light> {
    let backup = status.backup.as_ref()?;
    if let Some(fault) = &backup.fault {
        return Some(Light::new(
            Colour::Amber,
            format!(
                "Sao lưu không thành công: {}. {}",
                fault.text_vi, fault.hint_vi
            ),
            format!("The backup failed: {}. {}", fault.text_en, fault.hint_en),
        ));
    }
    backup.late.then(|| {
        Light::new(
            Colour::Amber,
            "Quá 2 ngày chưa có bản sao lưu nào tốt. Xem nhật ký (journalctl -u tramd), thử: tramd backup TỆP.",
            "No good backup for more than two days; see the log (journalctl -u tramd), try: tramd backup FILE.",
        )
    })
}

/// A machine that is too hot, lives on a battery, or has no memory left.
fn machine(status: &Status) -> Vec<Light> {
    let machine = &status.machine;
    let mut found = Vec::new();
    if let Some(heat) = machine.temperature_c.filter(|heat| HOT_AMBER_C <= *heat) {
        let colour = if HOT_RED_C <= heat {
            Colour::Red
        } else {
            Colour::Amber
        };
        let degrees = heat.round();
        found.push(Light::new(
            colour,
            format!("Máy nóng {degrees} °C. Kiểm tra quạt, lau bụi, đặt máy nơi thoáng."),
            format!("The machine is {degrees} °C hot; check its fan, dust and place."),
        ));
    }
    if machine.is_on_battery() == Some(true) {
        let charge = machine.charge_percent();
        let colour = match charge {
            Some(percent) if percent < CHARGE_RED_PERCENT => Colour::Red,
            _ => Colour::Amber,
        };
        let [left, left_en] = charge.map_or([String::new(), String::new()], |percent| {
            [
                format!(", pin còn {percent} %"),
                format!(", {percent} % charge left"),
            ]
        });
        found.push(Light::new(
            colour,
            format!("Mất điện lưới, máy đang chạy bằng pin hoặc UPS{left}. Kiểm tra nguồn điện; dữ liệu đã nhận vẫn an toàn khi mất điện."),
            format!("The mains are off and the machine lives on its battery or UPS{left_en}; check the power. What was accepted stays safe."),
        ));
    }
    const CROWDED: Words = [
        "Bộ nhớ của máy gần hết. Đóng bớt chương trình khác trên máy.",
        "The machine has almost no memory left; close other programs.",
    ];
    if let Some(memory) = machine.memory
        && text::percent(memory.available_bytes, memory.total_bytes) < MEMORY_AMBER_PERCENT
    {
        found.push(Light::new(Colour::Amber, CROWDED[0], CROWDED[1]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::page::lights::tests::check;
    use crate::edge::page::tests::{alarm, failed_backup, full};
    use crate::edge::status::machine::{MemoryStatus, SupplyKind, SupplyStatus};

    #[test]
    fn trouble_ahead() {
        fn days(status: &mut Status, days: i64) {
            status.certificate.as_mut().expect("there").days_left = days;
        }
        check(
            ahead,
            &[
                ("Không thấy", |_| (), Colour::Green),
                ("hết hạn", |s| days(s, 0), Colour::Red),
                ("7 ngày", |s| days(s, 7), Colour::Red),
                ("30 ngày", |s| days(s, 30), Colour::Amber),
                ("Không thấy", |s| days(s, 31), Colour::Green),
                (
                    "Không đọc được chứng thư",
                    |s| s.certificate = None,
                    Colour::Amber,
                ),
                (
                    "Làn P4",
                    |s| s.lanes[4].waiting_bytes = s.lanes[4].quota_bytes * 7 / 10,
                    Colour::Amber,
                ),
                (
                    "Làn P4",
                    |s| s.lanes[4].waiting_bytes = s.lanes[4].quota_bytes,
                    Colour::Red,
                ),
                (
                    "hạn mức",
                    |s| s.store.used_bytes = s.store.quota_bytes * 9 / 10,
                    Colour::Amber,
                ),
                (
                    "Đĩa",
                    |s| s.store.disk_free_bytes = Some(DISK_RED_BYTES - 1),
                    Colour::Red,
                ),
                (
                    "Đĩa",
                    |s| s.store.disk_free_bytes = Some(DISK_RED_BYTES),
                    Colour::Amber,
                ),
                (
                    "Đồng hồ",
                    |s| s.clock.quality = ClockQuality::Floor,
                    Colour::Amber,
                ),
                (
                    "1 báo động",
                    |s| s.events.push(alarm(s.at.0.0 - ALARM_MS + 1)),
                    Colour::Amber,
                ),
                (
                    "Không thấy",
                    |s| s.events.push(alarm(s.at.0.0 - ALARM_MS)),
                    Colour::Green,
                ),
                (
                    "qua: qlvb-web",
                    |s| s.down.as_mut().expect("there").inbox.ways[1].failed = 1,
                    Colour::Amber,
                ),
                (
                    "2 văn bản đến chưa tiếp nhận, cũ nhất từ 2 ngày",
                    |s| s.down.as_mut().expect("there").inbox.oldest_s = UNREAD_AMBER_S,
                    Colour::Amber,
                ),
                (
                    "Không thấy",
                    |s| s.down.as_mut().expect("there").inbox.oldest_s = UNREAD_AMBER_S - 1,
                    Colour::Green,
                ),
                (
                    "Sao lưu không thành công: không có thư mục /mnt/saoluu. Kiểm tra ổ mạng",
                    |s| s.backup = Some(failed_backup()),
                    Colour::Amber,
                ),
                (
                    "Quá 2 ngày",
                    |s| s.backup.as_mut().expect("there").late = true,
                    Colour::Amber,
                ),
                ("Không thấy", |s| s.backup = None, Colour::Green),
                // The worst is told, whatever else there is.
                (
                    "Đĩa",
                    |s| {
                        days(s, 20);
                        s.store.disk_free_bytes = Some(0);
                    },
                    Colour::Red,
                ),
            ],
        );
    }

    fn on_battery(status: &mut Status, percent: Option<u8>) {
        status.machine.supplies = vec![SupplyStatus {
            name: "ups0".to_owned(),
            kind: SupplyKind::Ups,
            online: None,
            discharging: Some(true),
            charge_percent: percent,
        }];
    }

    #[test]
    fn the_machine_suffers() {
        fn hot(status: &mut Status, heat: f64) {
            status.machine.temperature_c = Some(heat);
        }
        fn memory(status: &mut Status, available_bytes: u64) {
            status.machine.memory = Some(MemoryStatus {
                total_bytes: 1_000,
                available_bytes,
            });
        }
        check(
            ahead,
            &[
                ("Không thấy", |s| hot(s, 74.9), Colour::Green),
                ("75 °C", |s| hot(s, HOT_AMBER_C), Colour::Amber),
                ("85 °C", |s| hot(s, HOT_RED_C), Colour::Red),
                ("Không thấy", |s| memory(s, 80), Colour::Green),
                ("Bộ nhớ", |s| memory(s, 79), Colour::Amber),
                ("UPS.", |s| on_battery(s, None), Colour::Amber),
                ("pin còn 30 %", |s| on_battery(s, Some(30)), Colour::Amber),
                ("pin còn 29 %", |s| on_battery(s, Some(29)), Colour::Red),
            ],
        );
        assert_eq!(ahead(&full()).colour, Colour::Green);
    }
}
