//! The commands of `tramd`, and how they end: 0 done, 1 fault at run time, 64 usage, 78
//! configuration.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};

use crate::edge::config::load::{DEFAULT_PATH, Loaded, load};
use crate::edge::lock::LockError;
use crate::edge::status::read::Reader;
use crate::edge::status::{Stamp, Status};
use crate::edge::{own_tls, status_text, talk, texts};
use crate::model::UnixMs;
use crate::shell::clock::Clock;
use crate::shell::settings::Fault;
use crate::store::StoreError;

/// Why a command did not do what it was told.
#[derive(Debug)]
pub enum Failure {
    /// Everything that is wrong with the configuration: exit 78.
    Configuration(Vec<Fault>),
    /// One thing that a person has to change, and how: exit 78.
    Setup {
        message: String,
        hint_vi: String,
        hint_en: String,
    },
    /// The arguments do not fit together: exit 64.
    Usage(String),
    /// A fault at run time: exit 1.
    Runtime(anyhow::Error),
    /// A command has done what it was told and found faults: printed like an answer, exit 1.
    Found(String),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure::Runtime(error)
    }
}

impl Failure {
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Configuration(_) | Failure::Setup { .. } => 78,
            Failure::Usage(_) => 64,
            Failure::Runtime(_) | Failure::Found(_) => 1,
        }
    }

    /// What is printed: to stdout for [`Failure::Found`], else to stderr.
    pub fn text(&self) -> String {
        match self {
            Failure::Configuration(faults) => {
                let mut text = String::new();
                for fault in faults {
                    writeln!(text, "{fault}").expect("a string takes any text");
                }
                let count = faults.len();
                text + &format!("tramd: {count} lỗi cấu hình / {count} faults in the configuration")
            }
            Failure::Setup {
                message,
                hint_vi,
                hint_en,
            } => {
                format!("tramd: {message}\n    {hint_vi}\n    {hint_en}")
            }
            Failure::Usage(message) => format!("tramd: {message}"),
            Failure::Runtime(error) => format!("tramd: {error:#}"),
            Failure::Found(text) => text.clone(),
        }
    }

    pub fn of_store(error: StoreError) -> Failure {
        let trouble = texts::trouble(&error, Stamp(UnixMs(0)));
        match error {
            StoreError::Newer { .. } | StoreError::Foreign { .. } => Failure::Setup {
                message: error.to_string(),
                hint_vi: trouble.hint_vi,
                hint_en: trouble.hint_en,
            },
            error => Failure::Runtime(anyhow::Error::new(error)),
        }
    }

    pub fn of_lock(error: LockError) -> Failure {
        match &error {
            LockError::Held => Failure::Runtime(anyhow::Error::new(error).context(
                "another tramd runs with this store; stop it first, or use another store.path",
            )),
            LockError::Io { path, .. } => {
                let folder = path.parent().unwrap_or(Path::new("/")).display();
                Failure::Setup {
                    message: error.to_string(),
                    hint_vi: format!(
                        "Tạo thư mục {folder} và cho tài khoản chạy dịch vụ quyền ghi."
                    ),
                    hint_en: format!(
                        "Make the folder {folder} and let the service's user write to it."
                    ),
                }
            }
        }
    }
}

/// The configuration's place: what `--config` says, else the usual one.
pub fn config_path(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH))
}

/// `tramd config`: the effective settings with their origins.
pub fn config(path: &Path) -> Result<String, Failure> {
    let loaded = load(path).map_err(Failure::Configuration)?;
    Ok(loaded.effective.to_string())
}

/// `tramd status`: from the daemon when it runs, else from the store.
pub fn status(path: &Path, as_json: bool) -> Result<String, Failure> {
    print(&read_status(path)?, as_json)
}

/// `tramd certificate`: what the office's network is shown, for comparing and pinning.
pub fn certificate(path: &Path) -> Result<String, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    let setup = |message: &str, hint_vi: &str, hint_en: &str| Failure::Setup {
        message: message.to_owned(),
        hint_vi: hint_vi.to_owned(),
        hint_en: hint_en.to_owned(),
    };
    if config.http.tls.is_none() {
        return Err(setup(
            "trang chỉ mở trên máy này, không dùng chứng thư / the page is on this machine only",
            "Để mở trong mạng nội bộ, đặt http.listen = \"0.0.0.0:8480\".",
            "To open it in the office's network, set http.listen = \"0.0.0.0:8480\".",
        ));
    }
    let shown = own_tls::shown(&config).ok_or_else(|| {
        setup(
            "chưa có chứng thư, hoặc không đọc được / there is no certificate, or it cannot be read",
            "Chứng thư được tạo ở lần chạy đầu (systemctl start tramd); đọc bằng sudo.",
            "It is made at the first start (systemctl start tramd); read it with sudo.",
        )
    })?;
    let addresses = shown.names.addresses.iter().map(ToString::to_string);
    let names: Vec<String> = shown.names.dns.iter().cloned().chain(addresses).collect();
    Ok(format!(
        "# https://{}.local:{}/\n# SHA-256 {}\n# {}\n# đến / until {}\n{}",
        config.http.name,
        config.http.listen.port(),
        shown.fingerprint,
        names.join(" "),
        Stamp(shown.not_after),
        shown.pem
    ))
}

/// The status of the daemon when it runs, else what the store says.
pub fn read_status(path: &Path) -> Result<Status, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    match talk::status(&config.store.path) {
        Some(status) => Ok(status),
        None => {
            let store = &config.store.path;
            if access(store, AccessFlags::R_OK) == Err(Errno::EACCES) {
                return Err(Failure::Runtime(anyhow::anyhow!(
                    "không có quyền đọc {0}; chạy bằng sudo / no permission to read {0}; use sudo",
                    store.display()
                )));
            }
            let clock = Clock::start(UnixMs(0));
            Ok(Reader::new(Arc::new(config), clock, None).read())
        }
    }
}

fn print(status: &Status, as_json: bool) -> Result<String, Failure> {
    if as_json {
        let text = serde_json::to_string_pretty(status).context("a status is plain JSON")?;
        return Ok(text + "\n");
    }
    Ok(status_text::render(status))
}
