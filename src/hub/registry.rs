//! The boxes that the hub knows: registering one and writing what it needs, changing its state,
//! and telling the broker whom to let in.
//!
//! A box's files are written before it is registered, and what is in the folder of a box that is
//! not registered serves nobody: `add` that broke off is done again by calling it again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, bail, ensure};
use serde::Serialize;

use crate::hub::authority::{Authority, PUBLIC, SECRET, write_new};
use crate::hub::broker::Shown;
use crate::hub::config::{CLIENT_NAME, Config};
use crate::hub::init::{BOXES, PUBLIC_KEY_FILE, SEAL_PUBLIC_FILE, make_folder};
use crate::hub::seal;
use crate::hub::status::Stamp;
use crate::model::{AgencyCode, BoxId, UnixMs};
use crate::shell::dial::Address;
use crate::shell::x509;
use crate::store::Options;
use crate::store::hub::keys::NewKeyRow;
use crate::store::hub::rights::AuditRow;
use crate::store::hub::{BoxState, HubStore, NewBox};
use crate::store::hub_view::{HubView, Snapshot};

/// What `add` writes into a box's folder. The certificate comes first: it says whose folder it is.
const FILES: [&str; 6] = [
    "box.crt",
    "box.key",
    "ca.crt",
    PUBLIC_KEY_FILE,
    SEAL_PUBLIC_FILE,
    "tramd.toml",
];
const DAY_MS: i64 = 86_400_000;

/// A box to be registered.
#[derive(Debug, Clone)]
pub struct NewBoxPlan {
    pub box_id: BoxId,
    pub agency: AgencyCode,
    /// Folder for its files; the hub's own folder of boxes when absent.
    pub out: Option<PathBuf>,
    /// What the box dials; as configured when empty.
    pub addresses: Vec<Address>,
}

/// A line of the list of boxes.
#[derive(Debug, Clone, Serialize)]
pub struct Registered {
    #[serde(rename = "box")]
    pub box_id: BoxId,
    pub agency: AgencyCode,
    pub state: BoxState,
    pub registered: Stamp,
    pub certificate_serial: String,
    pub certificate_days: i64,
}

/// The store, which must be there: an empty one in its place would be a hub that has forgotten
/// every position.
pub fn existing_store(config: &Config) -> anyhow::Result<&Path> {
    let path = &config.store.path;
    ensure!(
        path.is_file(),
        "the hub's database {} is not there; check store.path and that its disk is mounted",
        path.display()
    );
    Ok(path)
}

pub fn options(config: &Config) -> Options {
    Options {
        quota_bytes: config.store.quota_bytes,
        cache_bytes: config.store.cache_bytes,
    }
}

pub fn open(config: &Config) -> anyhow::Result<HubStore> {
    let path = existing_store(config)?;
    HubStore::open(path, options(config))
        .with_context(|| format!("cannot open the database {}", path.display()))
}

pub fn open_view(config: &Config) -> anyhow::Result<HubView> {
    let path = existing_store(config)?;
    HubView::open(path).with_context(|| format!("cannot open the database {}", path.display()))
}

/// Writes a box's material and registers it; returns the folder.
pub fn add(config: &Config, plan: &NewBoxPlan, now: UnixMs) -> anyhow::Result<PathBuf> {
    let box_id = &plan.box_id;
    ensure!(
        box_id.as_str() != CLIENT_NAME,
        "{CLIENT_NAME} is the hub's own name; choose another for the box"
    );
    let mut store = open(config)?;
    ensure!(
        store.box_key(box_id)?.is_none(),
        "box {box_id} is registered already; a lost or replaced machine gets a new name"
    );
    let folder = match &plan.out {
        Some(out) => out.clone(),
        None => {
            make_folder(&config.folder.join(BOXES))?;
            config.folder.join(BOXES).join(box_id.as_str())
        }
    };
    make_folder(&folder)?;
    clear_unregistered(&folder, box_id)?;
    let issued = Authority::open(&config.folder)?.issue_client(box_id.as_str(), now)?;
    let public_key = read(&config.folder.join(PUBLIC_KEY_FILE))?;
    let authority = read(&config.hub.ca)?;
    let (_, seal_key) = seal::keys(config)?;
    let seal_key = seal_key.to_pem();
    let configuration = box_configuration(config, plan);
    let files: [(&str, &[u8], u32); 6] = [
        (FILES[0], issued.cert_pem.as_bytes(), PUBLIC),
        (FILES[1], issued.key_pem.as_bytes(), SECRET),
        (FILES[2], &authority, PUBLIC),
        (FILES[3], &public_key, PUBLIC),
        (FILES[4], seal_key.as_bytes(), PUBLIC),
        (FILES[5], configuration.as_bytes(), PUBLIC),
    ];
    for (name, bytes, mode) in files {
        write_new(&folder.join(name), bytes, mode)?;
    }
    let new = NewBox {
        box_id,
        agency: &plan.agency,
        public_key: &issued.public_key,
        serial: &issued.serial,
        not_after: issued.not_after,
    };
    store.begin()?;
    ensure!(
        store.add_box(&new, now)?,
        "box {box_id} was registered by somebody else just now"
    );
    store.commit()?;
    Ok(folder)
}

/// Writes another key and certificate for a registered box, which may use them from now on; returns
/// the folder. With its first batch under the new key the present one ends.
pub fn reissue(
    config: &Config,
    box_id: &BoxId,
    out: Option<&Path>,
    by: &str,
    now: UnixMs,
) -> anyhow::Result<PathBuf> {
    let mut store = open(config)?;
    let known = store.box_key(box_id)?;
    let known = known.with_context(|| format!("box {box_id} is not registered"))?;
    ensure!(
        known.state != BoxState::Revoked,
        "box {box_id} was revoked, which is for ever; register a new name"
    );
    let issued = Authority::open(&config.folder)?.issue_client(box_id.as_str(), now)?;
    let folder = match out {
        Some(out) => out.to_owned(),
        None => {
            let of_box = config.folder.join(BOXES).join(box_id.as_str());
            make_folder(&config.folder.join(BOXES))?;
            make_folder(&of_box)?;
            of_box.join(&issued.serial)
        }
    };
    make_folder(&folder)?;
    let (certificate, key) = (folder.join(FILES[0]), folder.join(FILES[1]));
    write_new(&certificate, issued.cert_pem.as_bytes(), PUBLIC)?;
    write_new(&key, issued.key_pem.as_bytes(), SECRET)?;
    store.begin()?;
    let new = NewKeyRow {
        public_key: &issued.public_key,
        serial: &issued.serial,
        certificate: &issued.cert_pem,
        not_after: issued.not_after,
    };
    ensure!(
        store.offer_key(box_id, &new, now)?,
        "the key is known already"
    );
    store.add_audit(&AuditRow {
        at: now,
        who: by.to_owned(),
        action: "certificate_issued".to_owned(),
        detail: format!("{box_id} {}", issued.serial),
    })?;
    store.commit()?;
    Ok(folder)
}

/// Removes what an attempt for this box has left that broke off before it was registered. Files of
/// anybody else stay, and stop the work when they are in its way.
fn clear_unregistered(folder: &Path, box_id: &BoxId) -> anyhow::Result<()> {
    let certificate = folder.join(FILES[0]);
    let is_this_boxs = fs::read(&certificate)
        .ok()
        .and_then(|pem| x509::common_name(&pem).ok())
        .is_some_and(|name| name == box_id.as_str());
    let there: Vec<PathBuf> = FILES
        .iter()
        .map(|name| folder.join(name))
        .filter(|path| path.exists())
        .collect();
    if !is_this_boxs && let Some(file) = there.first() {
        bail!(
            "{} is there already and is never overwritten; choose another folder with --out",
            file.display()
        );
    }
    // The certificate goes last: until then the folder is known to be this box's.
    for file in there.iter().rev() {
        fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

pub fn list(config: &Config, now: UnixMs) -> anyhow::Result<Vec<Registered>> {
    let boxes = open_view(config)?.snapshot()?.boxes()?;
    let line = |known: crate::store::hub_view::BoxRow| Registered {
        certificate_days: (known.not_after.0 - now.0).div_euclid(DAY_MS),
        box_id: known.box_id,
        agency: known.agency,
        state: known.state,
        registered: Stamp(known.registered),
        certificate_serial: known.serial,
    };
    Ok(boxes.into_iter().map(line).collect())
}

pub fn set_state(config: &Config, box_id: &BoxId, state: BoxState) -> anyhow::Result<()> {
    let mut store = open(config)?;
    if store.set_box_state(box_id, state)? {
        return Ok(());
    }
    match store.box_key(box_id)? {
        Some(_) => bail!("box {box_id} was revoked, which is for ever; register a new name"),
        None => bail!("box {box_id} is not registered; see trucd box list"),
    }
}

pub fn move_to(
    config: &Config,
    box_id: &BoxId,
    agency: &AgencyCode,
    now: UnixMs,
) -> anyhow::Result<()> {
    let mut store = open(config)?;
    store.begin()?;
    ensure!(
        store.move_box(box_id, agency, now)?,
        "box {box_id} is not registered; see trucd box list"
    );
    Ok(store.commit()?)
}

/// Answers the broker from the store as it is at this moment, so that a box that was just
/// registered or suspended is treated so at once.
pub struct Doorkeeper {
    store: PathBuf,
    view: Mutex<Option<HubView>>,
}

impl Doorkeeper {
    pub fn new(config: &Config) -> Doorkeeper {
        Doorkeeper {
            store: config.store.path.clone(),
            view: Mutex::new(None),
        }
    }

    /// A store that cannot be read lets nobody in: the box tries again.
    pub fn may_connect(&self, guest: &Shown) -> bool {
        self.with_view(|view| is_welcome(&view.snapshot()?, guest)) == Some(true)
    }

    /// Those of `guests` that may not be connected: their box is suspended or revoked, or has another
    /// key by now.
    pub fn unwelcome(&self, guests: Vec<Shown>) -> Vec<Shown> {
        self.with_view(|view| {
            let snapshot = view.snapshot()?;
            let mut unwelcome = Vec::new();
            for guest in guests {
                if guest.name != CLIENT_NAME && !is_welcome(&snapshot, &guest)? {
                    unwelcome.push(guest);
                }
            }
            Ok(unwelcome)
        })
        .unwrap_or_default()
    }

    fn with_view<T>(&self, work: impl FnOnce(&HubView) -> anyhow::Result<T>) -> Option<T> {
        let mut kept = self.lock();
        let result = match kept.take() {
            Some(view) => Ok(view),
            None => HubView::open(&self.store).map_err(anyhow::Error::from),
        }
        .and_then(|view| {
            let found = work(&view)?;
            // After any error the view is opened again.
            *kept = Some(view);
            Ok(found)
        });
        result
            .inspect_err(|error| {
                tracing::error!(error = format!("{error:#}"), "cannot read the registry")
            })
            .ok()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HubView>> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a guest is an active box with a key that the registry knows as its own.
fn is_welcome(snapshot: &Snapshot<'_>, guest: &Shown) -> anyhow::Result<bool> {
    let (Ok(box_id), Some(key)) = (guest.name.parse::<BoxId>(), guest.key) else {
        return Ok(false);
    };
    let known = snapshot.box_row(&box_id)?;
    let is_active = known.is_some_and(|known| known.state == BoxState::Active);
    Ok(is_active && snapshot.may_use(&box_id, &key)?)
}

fn box_configuration(config: &Config, plan: &NewBoxPlan) -> String {
    let addresses = match plan.addresses.as_slice() {
        [] => &config.hub.box_addresses,
        addresses => addresses,
    };
    let addresses: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    let (box_id, agency, addresses) = (&plan.box_id, &plan.agency, addresses.join(", "));
    format!(
        r#"# Cấu hình của trạm (tramd). Chép cả thư mục này vào /etc/lienthong; box.key phải giữ bí mật.
# Configuration of the box (tramd). Copy this folder to /etc/lienthong; box.key is to stay secret.
# Xem giá trị đang có hiệu lực / to see what counts: tramd config

[box]
id = "{box_id}"
# Mã định danh cơ quan (Quyết định 20/2020/QĐ-TTg) / the office's identifier code.
agency = "{agency}"

[store]
path = "/var/lib/lienthong/tramd.db"
# Tệp không bao giờ lớn hơn; đầy thì từ chối nhận, không bao giờ xóa dữ liệu đã nhận.
# The file never grows beyond this; when it is full the box refuses at the door and deletes nothing.
quota = "2 GiB"

[hub]
# Theo thứ tự ưu tiên / best first.
addresses = [{addresses}]
ca = "ca.crt"
certificate = "box.crt"
key = "box.key"
receipt_keys = ["{PUBLIC_KEY_FILE}"]
# Chỉ trục đọc được dữ liệu mang bằng USB / only the hub reads what a stick carries.
seal_key = "{SEAL_PUBLIC_FILE}"

[http]
# Nơi phần mềm của cơ quan gửi dữ liệu đến / where the office's software hands in records.
listen = "127.0.0.1:8480"

# Mỗi phần mềm một mã; ở đây chỉ ghi SHA-256 của mã / one token a program; only its SHA-256 is here:
#   printf %s "$TOKEN" | sha256sum
# [[http.token]]
# name = "mot-cua"
# sha256 = ""
# datasets = ["ho_so_tthc"]

# Thư mục nhận tệp / a folder that files are dropped into.
# [[source]]
# name = "quan-trac"
# kind = "folder"
# dataset = "quan_trac_moi_truong"
# path = "/srv/lienthong/quan-trac"
# format = "station"
# patterns = ["*.txt"]
"#
    )
}
