//! The box's configuration as it is meant: checked, with units gone and paths made whole.

pub mod ftp;
pub mod ftp_fetch;
pub mod http_pull;
pub mod inbox;
pub mod load;
pub mod mqtt;
pub mod sql;
pub mod table;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::edge::config::ftp::FtpConfig;
use crate::edge::config::inbox::InboxConfig;
use crate::edge::config::mqtt::MqttConfig;
use crate::edge::config::table::TableConfig;
use crate::formats::station::mapping::StationMapping;
use crate::model::order::Timetable;
use crate::model::{AgencyCode, BoxId, DatasetId, SourceName};
use crate::shell::dial::Address;
use crate::shell::scan::Scanner;

/// Everything that the daemon was told.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that this was read from, drop-ins aside.
    pub file: PathBuf,
    pub box_id: BoxId,
    pub agency: AgencyCode,
    pub store: StoreConfig,
    pub hub: HubConfig,
    pub http: HttpConfig,
    /// Folder of the dataset catalogue.
    pub catalogue: PathBuf,
    pub sources: Vec<SourceConfig>,
    /// Ways by which documents go to the office's software, beside the inbox over HTTP.
    pub inboxes: Vec<InboxConfig>,
    /// The nightly backup; none: nobody wants one.
    pub backup: Option<BackupConfig>,
    /// Where a stick for the hub is mounted, beside the usual places; none: nowhere else.
    pub stick_folder: Option<PathBuf>,
    /// The dataset that takes the box's own alarms.
    pub alarm_dataset: DatasetId,
    pub log_level: String,
}

/// Where backups go, and when.
#[derive(Debug, Clone)]
pub struct BackupConfig {
    /// A directory or mounted share, which must be there.
    pub folder: PathBuf,
    /// Of the day, Vietnam time.
    pub minute: u16,
    /// So many are kept.
    pub keep: usize,
}

#[derive(Debug, Clone)]
pub struct StoreConfig {
    pub path: PathBuf,
    pub quota_bytes: u64,
    /// Entries with their receipt are kept so long …
    pub tail_keep_ms: i64,
    /// … and so many bytes of them per lane, whichever is less.
    pub tail_bytes: u64,
    /// Disk space that is held back for the day when the disk is full.
    pub reserve_bytes: u64,
    /// How many keys of repeats are remembered.
    pub once_keys: u64,
    /// Bytes of attachments that are kept beside the store.
    pub blobs_bytes_max: u64,
    /// The largest attachment that is taken, bytes.
    pub blob_bytes_max: u64,
    /// Media types of attachments that are taken over HTTP; none: every type.
    pub blob_types: Vec<String>,
    /// Bytes of files that came with documents and are kept beside the store.
    pub received_bytes_max: u64,
    /// They stay so long after their documents are done.
    pub received_keep_ms: i64,
    /// Looks at attachments before they are kept.
    pub scanner: Option<Scanner>,
    /// What the card's maker lets it be written in its life.
    pub card_rated_bytes: u64,
}

/// Share of the store's quota that each lane's waiting entries may take, percent. The rest is held
/// back for deletes, checkpoints and the kept tail.
pub const LANE_PERCENT: [u64; 5] = [5, 20, 30, 15, 15];

impl StoreConfig {
    /// Bytes of entries that may wait in each lane.
    pub fn lane_bytes_max(&self) -> [u64; 5] {
        LANE_PERCENT.map(|percent| self.quota_bytes / 100 * percent)
    }

    /// What the hub has sent, in a file of its own beside the store.
    pub fn down_path(&self) -> PathBuf {
        self.path.with_file_name("down.db")
    }

    /// The technicians' accounts, which no backup takes along.
    pub fn accounts_path(&self) -> PathBuf {
        self.path.with_file_name("accounts.db")
    }

    /// Beside the store: `https.key` and `https.crt`, the certificate that the box makes for its page.
    pub fn own_tls_path(&self, end: &str) -> PathBuf {
        self.path.with_file_name(format!("https.{end}"))
    }

    /// Keys and certificates that the box has got since its registration.
    pub fn identity_path(&self) -> PathBuf {
        self.path.with_file_name("identity")
    }
}

/// Where the hub is, and how we know each other.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// The best first.
    pub addresses: Vec<Address>,
    pub authority: PathBuf,
    pub certificate: PathBuf,
    /// Private key of the certificate; signs batches too.
    pub key: PathBuf,
    /// Whose receipts count.
    pub receipt_keys: Vec<PathBuf>,
    /// By which what goes onto a stick is sealed for the hub; it may be missing.
    pub seal_key: PathBuf,
    pub allow_tls12: bool,
    /// A link on which nothing is heard for half as long again is dead.
    pub keep_alive_ms: u64,
    /// How much of the link the lanes P2 to P4 may use at which hours, unless the hub orders
    /// otherwise.
    pub bandwidth: Timetable,
}

#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub listen: SocketAddr,
    /// Present wherever `listen` is not the machine itself.
    pub tls: Option<HttpSecure>,
    /// What the office's network calls the box, without `.local`.
    pub name: String,
    /// Whether the network is told that name.
    pub mdns: bool,
    pub tokens: Vec<Token>,
    pub body_bytes_max: usize,
    pub connections_max: usize,
    /// Of these, so many of one address.
    pub per_address_max: usize,
}

/// Which certificate the office's network is shown.
#[derive(Debug, Clone)]
pub enum HttpSecure {
    /// The box makes it.
    Own,
    Files(HttpTls),
}

#[derive(Debug, Clone)]
pub struct HttpTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Who may hand in what over HTTP.
#[derive(Debug, Clone)]
pub struct Token {
    pub name: SourceName,
    /// SHA-256 of the bearer token.
    pub sha256: [u8; 32],
    pub datasets: Vec<DatasetId>,
    /// Copies that it may look up.
    pub lookup: Vec<DatasetId>,
    /// It may use the documents that are addressed to this office.
    pub inbox: bool,
}

/// A `[[source]]`.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    pub name: SourceName,
    pub dataset: DatasetId,
    pub kind: SourceKind,
}

#[derive(Debug, Clone)]
pub enum SourceKind {
    Folder(FolderConfig),
    Ftp(FtpConfig),
    Sql(Box<sql::SqlConfig>),
    Mqtt(MqttConfig),
    FtpFetch(Box<ftp_fetch::FtpFetchConfig>),
    HttpPull(Box<http_pull::HttpPullConfig>),
}

impl SourceKind {
    /// As the configuration names it.
    pub fn name(&self) -> &'static str {
        match self {
            SourceKind::Folder(_) => "folder",
            SourceKind::Ftp(_) => "ftp",
            SourceKind::Sql(_) => "sql",
            SourceKind::Mqtt(_) => "mqtt",
            SourceKind::FtpFetch(_) => "ftp_fetch",
            SourceKind::HttpPull(_) => "http_pull",
        }
    }

    /// Sources of their own within this one.
    pub fn stations(&self) -> impl Iterator<Item = &SourceName> {
        let logins = match self {
            SourceKind::Ftp(config) => config.logins.as_slice(),
            _ => &[],
        };
        logins.iter().map(|login| &login.name)
    }
}

#[derive(Debug, Clone)]
pub struct FolderConfig {
    pub path: PathBuf,
    /// None: by the file's extension.
    pub format: Option<FileFormat>,
    /// File names that are taken, with `*` and `?`; empty means all.
    pub patterns: Vec<String>,
    /// Sub-folders are looked through too, except `done/` and `refused/`.
    pub recursive: bool,
    /// A file that did not change for so long is settled.
    pub settle_ms: u64,
    /// The folder is looked through so often, beside inotify.
    pub rescan_ms: u64,
    /// Files in `done/` are deleted after this; 0 keeps them.
    pub done_keep_ms: u64,
    /// What station files do not say themselves.
    pub station: StationMapping,
    /// How CSV files and worksheets are read.
    pub table: TableConfig,
}

/// How records stand in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Json,
    NdJson,
    /// Environmental station file of Circular 10/2021/TT-BTNMT.
    Station,
    Csv,
    /// Electronic documents of QCVN 102:2016/BTTTT.
    EdXml,
    /// A worksheet of Excel or OpenDocument.
    Sheet,
}
