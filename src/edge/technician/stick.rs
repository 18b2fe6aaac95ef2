//! A stick that is mounted already, on a technician's word: writes what waits onto it, or takes the
//! hub's receipts from it. The work goes on when the browser has gone; the status page says how far it
//! is, and when the stick may be pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tokio::sync::oneshot;

use super::form::encoded;
use super::html::{Both, error, link, paragraph, section, table};
use super::{Answer, Visit};
use crate::edge::config::Config;
use crate::edge::identity::Keys;
use crate::edge::page::lang::Lang;
use crate::edge::page::text::Text;
use crate::edge::stick::fault::Fault;
use crate::edge::stick::{Errand, state};
use crate::edge::talk;
use crate::model::UnixMs;
use crate::shell::clock::Clock;

pub(super) const TITLE: Both<'_> = [
    "Xuất ra USB / Nhập biên nhận",
    "Write to a stick / Take receipts",
];
const EXPORT: Both<'_> = ["Xuất dữ liệu chờ ra USB", "Write what waits onto the stick"];
const IMPORT: Both<'_> = ["Nhập biên nhận từ USB", "Take receipts from the stick"];
pub(super) const PATH: &str = "/ky-thuat/usb";
/// Which stick, and what is to be done.
const PLACE: &str = "noi";
const DEED: &str = "viec";
/// Where sticks are mounted by hand or by a desktop.
const USUAL: [&str; 3] = ["/media", "/run/media", "/mnt"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Export,
    Import,
}

pub(super) async fn stick(visit: &Visit) -> Answer {
    let config = Arc::clone(visit.config());
    let places = tokio::task::spawn_blocking(move || places(&config));
    let places = places.await.expect("looking does not panic");
    let deed = match visit.field(DEED) {
        "xuat" => Some(Deed::Export),
        "nhap" => Some(Deed::Import),
        _ => None,
    };
    // Only what is a stick's place now is ever written to.
    let place = Path::new(visit.field(PLACE));
    let place = places.iter().find(|known| *known == place);
    let (Some(deed), Some(place)) = (deed, place) else {
        return list(visit, &places);
    };
    if !visit.is_confirmed() {
        return confirm(visit, deed, place);
    }
    begin(visit, deed, place.clone()).await
}

fn list(visit: &Visit, places: &[PathBuf]) -> Answer {
    let lang = visit.lang;
    if places.is_empty() {
        let texts = [
            "Không thấy USB nào đang gắn. USB đã chuẩn bị cho trạm thì cắm vào là tự chạy; USB khác phải được gắn (mount) dưới /media hoặc /mnt, cho phép tài khoản tramd ghi.",
            "No stick is mounted. One that was prepared for the box is served when it is plugged in; others have to be mounted below /media or /mnt, writable for the user tramd.",
        ];
        return visit.page(TITLE, &error(lang, texts));
    }
    let rows: Vec<Vec<String>> = places
        .iter()
        .map(|place| {
            let shown = place.display().to_string();
            let to = |deed: &str| format!("{PATH}?{PLACE}={}&{DEED}={deed}", encoded(&shown));
            vec![
                Text(&shown).to_string(),
                link(lang, &to("xuat"), EXPORT),
                link(lang, &to("nhap"), IMPORT),
            ]
        })
        .collect();
    let heads: [Both<'_>; 3] = [["USB", "Stick"], ["Mang đi", "Out"], ["Mang về", "Back"]];
    visit.page(TITLE, &section(lang, TITLE, &table(lang, &heads, &rows)))
}

fn confirm(visit: &Visit, deed: Deed, place: &Path) -> Answer {
    let lang = visit.lang;
    let shown = place.display().to_string();
    let (value, title, texts) = match deed {
        Deed::Export => (
            "xuat",
            EXPORT,
            [
                "Trạm ghi mọi bản ghi và tệp đính kèm đang chờ ra USB, đã ký và mã hóa, chỉ trục đọc được. Trạm vẫn giữ tất cả cho đến khi có biên nhận. Không rút USB cho đến khi trang Tình trạng báo có thể rút.",
                "The box writes every record and attachment that waits onto the stick, signed and sealed, for the hub's eyes only. It keeps all of it until it has the receipts. Do not pull the stick before the status page says so.",
            ],
        ),
        Deed::Import => (
            "nhap",
            IMPORT,
            [
                "Trạm đọc biên nhận của trục từ USB; chỉ biên nhận có chữ ký của trục cho đúng trạm này mới được tính.",
                "The box takes the hub's receipts from the stick; only those count that the hub has signed for this box.",
            ],
        ),
    };
    let what = format!(
        "<p><strong>{}</strong></p>\n{}",
        Text(&shown),
        paragraph(lang, texts)
    );
    visit.confirm(title, &what, &[(PLACE, &shown), (DEED, value)], title, PATH)
}

/// Begins the work in a thread of its own and goes to the page that tells of it.
async fn begin(visit: &Visit, deed: Deed, place: PathBuf) -> Answer {
    let busy = |lang: Lang| {
        let fault = Fault::busy();
        error(lang, [&fault.text[0], &fault.text[1]])
    };
    let config = Arc::clone(visit.config());
    if state::is_in_use(&config.store.path) {
        return visit.page(TITLE, &busy(visit.lang));
    }
    let name = match deed {
        Deed::Export => "stick_export",
        Deed::Import => "stick_import",
    };
    visit
        .record(visit.by(), name, "begun", &place.display().to_string())
        .await;
    let (ended, end) = oneshot::channel();
    let worker = thread::Builder::new()
        .name("stick".to_owned())
        .spawn(move || {
            // Whoever waits for it may have gone.
            let _ = ended.send(work(&config, deed, &place));
        });
    if let Err(why) = worker {
        tracing::error!(error = %why, "cannot start the stick's thread");
        return visit.page(TITLE, &busy(visit.lang));
    }
    let (app, by) = (Arc::clone(&visit.app), visit.by());
    tokio::spawn(async move {
        let (result, detail) = match end.await {
            Ok(Ok(())) => ("done", String::new()),
            Ok(Err(code)) => ("failed", code.to_owned()),
            Err(_) => ("failed", "panicked".to_owned()),
        };
        let now = app.door.now().wall;
        app.area.record(by, name, result, detail, now).await;
    });
    visit.tell(
        true,
        [
            "Đã bắt đầu. Trang Tình trạng (mục USB) báo khi nào xong và có thể rút.".to_owned(),
            "Begun. The status page (section Stick) says when it is done and may be pulled."
                .to_owned(),
        ],
        PATH,
    )
}

/// Does the errand as the command would; the error is its code.
fn work(config: &Config, deed: Deed, place: &Path) -> Result<(), &'static str> {
    let clock = Clock::start(UnixMs(0));
    let keys = Keys::load(config, &clock).map_err(|_| "keys")?;
    let ask = |path: &str, body: &[u8]| match talk::post(&config.store.path, path, &[], body) {
        Ok(Ok(reply)) => Ok(reply.status),
        Ok(Err(error)) | Err(error) => Err(Fault::daemon(&error.to_string())),
    };
    let errand = Errand {
        config,
        keys: &keys,
        clock: &clock,
        ask: &ask,
    };
    let done = errand.run(|errand, teller| match deed {
        Deed::Export => errand.export(place, teller),
        Deed::Import => errand.import(place, teller),
    });
    done.map(|_| ()).map_err(|fault| fault.code)
}

/// Where sticks are mounted now.
fn places(config: &Config) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut places = mounted_in(&mounts);
    places.extend(config.stick_folder.clone().filter(|folder| folder.is_dir()));
    places.sort();
    places.dedup();
    places
}

/// Of the kernel's list of what is mounted, what lies where sticks do.
fn mounted_in(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(|place| place.replace("\\040", " "))
        .map(PathBuf::from)
        .filter(|place| USUAL.iter().any(|usual| place.starts_with(usual)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_where_sticks_are_is_offered() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\n\
                      /dev/sdb1 /media/tramd/USB\\040CUA\\040XA vfat rw 0 0\n\
                      /dev/sdc1 /mnt vfat rw 0 0\n\
                      tmpfs /mediation tmpfs rw 0 0\n\
                      tmpfs /run/user/0 tmpfs rw 0 0\n";
        let places = [
            PathBuf::from("/media/tramd/USB CUA XA"),
            PathBuf::from("/mnt"),
        ];
        assert_eq!(mounted_in(mounts), places);
    }
}
