//! What can be checked on this machine alone.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use crate::catalogue::Catalogue;
use crate::edge::check::{Check, Outcome, both, listed};
use crate::edge::config::{Config, FolderConfig, SourceKind};
use crate::edge::connectors::Fault;
use crate::edge::identity::Keys;
use crate::edge::look;
use crate::edge::own_tls;
use crate::edge::page::text::time;
use crate::edge::reserve::disk_free_bytes;
use crate::edge::status::{NameState, Stamp, Status};
use crate::edge::texts;
use crate::model::{ClockQuality, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::settings;
use crate::shell::settings::units::size_text;
use crate::store::StoreError;
use crate::store::edge_status::EdgeView;

const MIB: u64 = 1 << 20;
/// From so many days before its end on a certificate is to be renewed.
const RENEW_DAYS: i64 = 30;
/// An automatic renewal has failed when fewer days are left.
const URGENT_DAYS: i64 = 7;

pub fn catalogue(config: &Config, catalogue: &Catalogue) -> Check {
    let count = catalogue.iter().count();
    let folder = config.catalogue.display();
    let detail = both(
        format!("{count} bộ dữ liệu trong {folder}"),
        format!("{count} datasets in {folder}"),
    );
    if catalogue.get(&config.alarm_dataset).is_some() {
        return Check::ok("catalogue", detail);
    }
    let dataset = &config.alarm_dataset;
    Check::new(
        "catalogue",
        Outcome::Warning,
        detail,
        both(
            format!(
                "Không có bộ dữ liệu báo động “{dataset}”; báo động chỉ hiện ở trạm. Thêm tệp {dataset}.toml."
            ),
            format!(
                "The dataset of alarms {dataset:?} is missing; alarms show on the box only. Add {dataset}.toml."
            ),
        ),
    )
}

pub fn store(config: &Config, status: Option<&Status>) -> Check {
    let path = &config.store.path;
    if let Some(trouble) = status.and_then(|status| status.store.trouble.as_ref()) {
        let detail = both(&*trouble.text_vi, &*trouble.text_en);
        return Check::new(
            "store",
            Outcome::Failed,
            detail,
            both(&*trouble.hint_vi, &*trouble.hint_en),
        );
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let may_write = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    if access(folder, may_write).is_err() {
        let folder = folder.display();
        return Check::new(
            "store",
            Outcome::Failed,
            both(
                format!("không ghi được vào thư mục {folder}"),
                format!("cannot write to the folder {folder}"),
            ),
            both(
                "Tạo thư mục và cho tài khoản tramd quyền ghi; chạy lệnh này bằng tài khoản đó hoặc root.",
                "Make the folder and let the user tramd write to it; run this command as that user or root.",
            ),
        );
    }
    if !path.exists() {
        let path = path.display();
        return Check::ok(
            "store",
            both(
                format!("{path} sẽ được tạo khi dịch vụ chạy"),
                format!("{path} will be made when the daemon runs"),
            ),
        );
    }
    let looked = EdgeView::open(path)
        .and_then(|view| view.facts())
        .and_then(|facts| match facts.box_id == config.box_id.as_str() {
            true => Ok(facts),
            false => Err(StoreError::Foreign {
                found: facts.box_id,
                wanted: config.box_id.to_string(),
            }),
        });
    match looked {
        Ok(facts) => {
            let daemon = match status {
                Some(_) => ["dịch vụ đang chạy", "the daemon runs"],
                None => ["dịch vụ không chạy", "the daemon does not run"],
            };
            let used = size_text(&(facts.used_bytes / MIB * MIB));
            let quota = size_text(&config.store.quota_bytes);
            let detail = both(
                format!(
                    "{}, dùng {used} trong {quota}; {}",
                    path.display(),
                    daemon[0]
                ),
                format!("{}, {used} of {quota} used; {}", path.display(), daemon[1]),
            );
            Check::ok("store", detail)
        }
        Err(error) => {
            let trouble = texts::trouble(&error, Stamp(UnixMs(0)));
            let detail = both(trouble.text_vi, trouble.text_en);
            Check::new(
                "store",
                Outcome::Failed,
                detail,
                both(trouble.hint_vi, trouble.hint_en),
            )
        }
    }
}

pub fn disk(config: &Config, status: Option<&Status>) -> Check {
    let used = status.map_or(0, |status| status.store.used_bytes);
    let free = match disk_free_bytes(&config.store.path) {
        Ok(free) => free,
        Err(error) => {
            let hint = both("Kiểm tra đường dẫn store.path.", "Check store.path.");
            return Check::new(
                "disk",
                Outcome::Failed,
                both(error.to_string(), error.to_string()),
                hint,
            );
        }
    };
    let need = config.store.quota_bytes.saturating_sub(used) + config.store.reserve_bytes;
    let rounded = |bytes: u64| size_text(&(bytes / MIB * MIB));
    let detail = both(
        format!("còn trống {}", rounded(free)),
        format!("{} free", rounded(free)),
    );
    if free < config.store.reserve_bytes.max(16 * MIB) {
        let hint = both(
            "Giải phóng phân vùng dữ liệu ngay; trạm sắp hoặc đang từ chối bản ghi.",
            "Free the data partition now; the box refuses records, or is about to.",
        );
        return Check::new("disk", Outcome::Failed, detail, hint);
    }
    if free < need {
        let hint = both(
            format!(
                "Kho dữ liệu được phép lớn thêm {}; giảm store.quota hoặc thêm ổ đĩa.",
                rounded(need)
            ),
            format!(
                "The store may still grow by {}; lower store.quota or add disk space.",
                rounded(need)
            ),
        );
        return Check::new("disk", Outcome::Warning, detail, hint);
    }
    Check::ok("disk", detail)
}

pub fn clock(config: &Config, clock: &Clock) -> Check {
    if let Ok(facts) = EdgeView::open(&config.store.path).and_then(|view| view.facts()) {
        clock.raise_floor(facts.time_floor);
    }
    let now = clock.now();
    match now.quality {
        ClockQuality::Synchronized => Check::ok(
            "clock",
            both(
                format!("{}, đã đồng bộ", time(Stamp(now.wall))),
                format!("{}, synchronized", time(Stamp(now.wall))),
            ),
        ),
        ClockQuality::Free => Check::new(
            "clock",
            Outcome::Warning,
            both(
                format!("{}, không thấy đồng bộ", time(Stamp(now.wall))),
                format!("{}, not seen to be synchronized", time(Stamp(now.wall))),
            ),
            both(
                "Bật systemd-timesyncd (timedatectl set-ntp true) và cho phép cổng UDP 123 tới máy chủ giờ.",
                "Enable systemd-timesyncd (timedatectl set-ntp true) and let UDP 123 through to a time server.",
            ),
        ),
        ClockQuality::Floor => Check::new(
            "clock",
            Outcome::Failed,
            both(
                format!(
                    "đồng hồ của máy chậm hơn mốc chắc chắn {}",
                    time(Stamp(clock.floor()))
                ),
                format!(
                    "the machine's clock is behind a time that is surely past, {}",
                    time(Stamp(clock.floor()))
                ),
            ),
            both(
                "Đặt lại giờ (timedatectl set-time) và thay pin CMOS nếu có; trạm vẫn nhận dữ liệu.",
                "Set the clock (timedatectl set-time), replace the clock's battery if it has one; the box takes records all the same.",
            ),
        ),
    }
}

pub fn certificate(keys: &Result<Keys, Vec<settings::Fault>>, clock: &Clock) -> Check {
    let keys = match keys {
        Ok(keys) => keys,
        Err(faults) => {
            let hint = both(
                "Chép lại bộ khóa do trục cấp (trucd box add) vào thư mục cấu hình.",
                "Copy the key material that the hub issued (trucd box add) to the configuration's folder.",
            );
            return Check::new("certificate", Outcome::Failed, listed(faults), hint);
        }
    };
    let now = clock.now().wall;
    let facts = &keys.identity.facts;
    let days = facts.days_left(now);
    let (number, file) = (keys.pair.number, keys.pair.certificate.display());
    let end = time(Stamp(facts.not_after));
    let since = match keys.pair.since.map(|since| time(Stamp(since))) {
        Some(since) => [format!(", lần cuối {since}"), format!(", last {since}")],
        None => [String::new(), String::new()],
    };
    let detail = both(
        format!(
            "{}, hết hạn {end}, còn {days} ngày; đã đổi khóa {number} lần{} ({file})",
            facts.common_name, since[0]
        ),
        format!(
            "{}, ends {end}, {days} days left; key changed {number} times{} ({file})",
            facts.common_name, since[1]
        ),
    );
    // The hub begins months before; by now somebody has to look.
    let renew = match keys.identity.check(now) {
        Ok(()) => both(
            "Tự gia hạn chưa xong: xem trạm có nối được trục không; ở trục: trucd command TRẠM rotate_key.",
            "The renewal has not come through: see that the box has a link; at the hub: trucd command BOX rotate_key.",
        ),
        Err(_) => both(
            "Xin trục cấp lại (trucd box reissue TRẠM), chép box.crt và box.key sang trạm rồi khởi động lại; kiểm tra cả đồng hồ.",
            "Have the hub issue it again (trucd box reissue BOX), copy box.crt and box.key to the box and restart it; check the clock too.",
        ),
    };
    match keys.identity.check(now) {
        Err(_) => Check::new("certificate", Outcome::Failed, detail, renew),
        Ok(()) if days < URGENT_DAYS => Check::new("certificate", Outcome::Failed, detail, renew),
        Ok(()) if days < RENEW_DAYS => Check::new("certificate", Outcome::Warning, detail, renew),
        Ok(()) => Check::ok("certificate", detail),
    }
}

/// How people in the office reach the page, and what they compare.
pub fn page(config: &Config, status: Option<&Status>) -> Check {
    if config.http.tls.is_none() {
        let address = config.http.listen;
        return Check::ok(
            "page",
            both(
                format!("chỉ mở trên máy này: http://{address}"),
                format!("on this machine only: http://{address}"),
            ),
        );
    }
    let (name, port) = (&config.http.name, config.http.listen.port());
    let Some(shown) = own_tls::shown(config) else {
        return Check::new(
            "page",
            Outcome::Warning,
            both("chưa có chứng thư", "there is no certificate yet"),
            both(
                "Chứng thư được tạo ở lần chạy đầu: systemctl start tramd.",
                "It is made at the first start: systemctl start tramd.",
            ),
        );
    };
    let address = format!("https://{name}.local:{port}");
    let detail = both(
        format!("{address}, dấu vân tay SHA-256 {}", shown.fingerprint),
        format!("{address}, SHA-256 {}", shown.fingerprint),
    );
    let state = status.and_then(|status| Some(status.lan.as_ref()?.name));
    match state {
        Some(NameState::Taken) => Check::new(
            "page",
            Outcome::Warning,
            detail,
            both(
                "Máy khác trong mạng đang dùng tên này: đặt http.name khác rồi khởi động lại trạm; tạm vào bằng địa chỉ IP.",
                "Another machine in the network has this name: set another http.name and restart; meanwhile use the IP address.",
            ),
        ),
        _ => Check::ok("page", detail),
    }
}

/// Each source, as the daemon would reach it; nothing is kept.
pub fn sources(config: &Config, path: &Path) -> Check {
    let (tokens, count) = (config.http.tokens.len(), config.sources.len());
    if tokens + count == 0 {
        return Check::new(
            "sources",
            Outcome::Warning,
            both("chưa có nguồn nào", "there is no source"),
            both(
                "Thêm [[http.token]] cho phần mềm hoặc [[source]] cho thư mục; `tramd put` vẫn dùng được.",
                "Add an [[http.token]] for software or a [[source]] for a folder; `tramd put` works all the same.",
            ),
        );
    }
    let mut found: Vec<(&str, Fault)> = Vec::new();
    for source in &config.sources {
        let name = source.name.as_str();
        let reached = match &source.kind {
            SourceKind::Folder(folder) => usable(folder),
            // It listens in the daemon; what it listens with was checked with the configuration.
            SourceKind::Ftp(_) => Ok(()),
            _ => look::reach(path, name),
        };
        if let Err(fault) = reached {
            found.push((name, fault));
        }
    }
    if found.is_empty() {
        let detail = both(
            format!("{tokens} mã truy cập HTTP, {count} nguồn đọc được"),
            format!("{tokens} HTTP tokens, {count} sources within reach"),
        );
        return Check::ok("sources", detail);
    }
    let lines = |text: fn(&Fault) -> &str| {
        let lines = found
            .iter()
            .map(|(name, fault)| format!("{name}: {}", text(fault)));
        lines.collect::<Vec<_>>().join("\n")
    };
    Check::new(
        "sources",
        Outcome::Failed,
        both(lines(|fault| &fault.vi), lines(|fault| &fault.en)),
        both(lines(|fault| &fault.hint_vi), lines(|fault| &fault.hint_en)),
    )
}

/// Whether a drop folder can be swept.
fn usable(folder: &FolderConfig) -> Result<(), Fault> {
    let path = folder.path.display();
    let rights = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let [vi, en] = if !folder.path.is_dir() {
        ["không có thư mục", "there is no folder"]
    } else if access(&folder.path, rights).is_err() {
        ["thiếu quyền đọc, ghi", "no permission to read and write"]
    } else {
        return Ok(());
    };
    Err(Fault::new(
        "folder",
        [format!("{vi} {path}"), format!("{en} {path}")],
        [
            "Tạo thư mục, cho nhóm lienthong-drop quyền đọc và ghi (chmod 2770).",
            "Make the folder and let the group lienthong-drop read and write it (chmod 2770).",
        ],
    ))
}
