//! The technicians' accounts: the first by a code from the console, the others by a technician.
//!
//! Passwords lie in a small file beside the store; sessions and what is held against guessers are in
//! memory only. A password is hashed at most once at a time, and only after every cheaper check.

pub mod guard;
pub mod password;
pub mod sessions;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Semaphore;

use crate::edge::commands::Failure;
use crate::edge::config::load::load;
use crate::edge::config::{Config, StoreConfig};
use crate::edge::orders::local::{By, note};
use crate::edge::own_tls;
use crate::edge::run::engines::make_store_file;
use crate::evidence::sha256;
use crate::model::{Now, UnixMs};
use crate::shell::clock::{Clock, boot_ms};
use crate::store::StoreError;
use crate::store::accounts::{AccountRow, AccountStore, NewAccount};
use guard::Guard;
use password::Unfit;
use sessions::{Notice, Sessions};

/// The page that takes a code.
pub const FIRST_PATH: &str = "/ky-thuat/tai-khoan-dau";
/// A code of the console's is valid for so long once there is an account.
const CODE_MS: u64 = 60 * 60_000;
/// Letters of codes: those of Crockford's base 32, which are not mistaken for each other.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// 100 bits: nobody tries them out, so codes need no lock-out, and the owner always gets in.
const CODE_LETTERS: usize = 20;
const NAME_CHARS_MAX: usize = 32;
/// Passwords that may wait for the one that is being hashed.
const WAITING_MAX: usize = 6;

/// Who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    pub account: String,
    /// What his browser holds.
    pub token: String,
}

/// Why somebody was not let in, or a password not changed.
#[derive(Debug, thiserror::Error)]
pub enum Denied {
    #[error("wrong name or password")]
    Wrong,
    #[error("too many tries, {wait_ms} ms to wait")]
    Wait { wait_ms: u64 },
    #[error("too many logins at once")]
    Busy,
    #[error("the code is wrong, used or too old")]
    Code,
    #[error("not a name of an account")]
    Name,
    #[error("there is an account of this name")]
    Taken,
    #[error("the password is not taken: {0:?}")]
    Password(Unfit),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the password's process: {0}")]
    Process(#[from] std::io::Error),
}

pub struct Accounts {
    path: PathBuf,
    guard: Mutex<Guard>,
    sessions: Mutex<Sessions>,
    room: Semaphore,
    turn: Semaphore,
}

impl Accounts {
    pub fn new(store: &StoreConfig) -> Accounts {
        Accounts {
            path: store.accounts_path(),
            guard: Mutex::default(),
            sessions: Mutex::default(),
            room: Semaphore::new(WAITING_MAX),
            turn: Semaphore::new(1),
        }
    }

    /// A new session for who knows the password; the audit wants a line when `locks` is set.
    pub async fn log_in(
        &self,
        name: &str,
        password: &str,
        address: IpAddr,
        now: impl Fn() -> Now,
    ) -> Result<String, (Denied, bool)> {
        let denied = |denied: Denied| (denied, false);
        // What is no name is held against the address all the same, and its length against nobody.
        let name = account_name(name).unwrap_or_default();
        let _room = self.room.try_acquire().map_err(|_| (Denied::Busy, false))?;
        let _turn = self.turn.acquire().await.expect("it is never closed");
        if let Some(wait_ms) = self.guard().wait_ms(&name, address, now().mono_ms) {
            return Err(denied(Denied::Wait { wait_ms }));
        }
        let asked = name.clone();
        let secret = self.with_store(move |store| store.secret(&asked));
        let secret = secret.await.map_err(|error| denied(error.into()))?;
        let (text, hash) = (
            password.to_owned(),
            secret.as_ref().map(|secret| secret.hash.clone()),
        );
        let checked = blocking(move || password::is_password(&text, hash.as_deref())).await;
        let is_password = checked.map_err(|error| denied(error.into()))?;
        let Some(secret) = secret.filter(|_| is_password) else {
            let locks = self.guard().failed(&name, address, now().mono_ms);
            return Err((Denied::Wrong, locks));
        };
        self.guard().succeeded(&name, address);
        Ok(self.sessions().begin(&name, secret.stamp, now().mono_ms))
    }

    /// Makes an account, or gives it a new password, on the word of a code; returns a session.
    pub async fn log_in_by_code(
        &self,
        code: &str,
        name: &str,
        password: &str,
        address: IpAddr,
        now: Now,
    ) -> Result<String, Denied> {
        let digest = code_digest(code).ok_or(Denied::Code)?;
        let is_valid = self.with_store(move |store| {
            drop_old_codes(store)?;
            store.has_code(&digest)
        });
        if !is_valid.await? {
            return Err(Denied::Code);
        }
        let name = account_name(name)?;
        let password = password::fit(password, &name).map_err(Denied::Password)?;
        let hash = self.hash(password).await?;
        let (stamp, new_name) = (stamp(), name.clone());
        let made = self.with_store(move |store| {
            let new = NewAccount {
                name: &new_name,
                hash: &hash,
                stamp,
                by: "console",
                at: now.wall,
            };
            store.add_by_code(&digest, &new)
        });
        if !made.await? {
            return Err(Denied::Code);
        }
        self.guard().pardon(&name, address);
        Ok(self.sessions().begin(&name, stamp, now.mono_ms))
    }

    /// Who holds this; none when his session has ended, or his account or password is another.
    pub async fn visitor(&self, token: &str, now: Now) -> Option<Visitor> {
        let (account, stamp) = self.sessions().look(token, now.mono_ms)?;
        let asked = account.clone();
        let secret = self.with_store(move |store| store.secret(&asked)).await;
        let is_same = secret.ok()?.is_some_and(|secret| secret.stamp == stamp);
        if !is_same {
            self.sessions().end(token);
            return None;
        }
        Some(Visitor {
            account,
            token: token.to_owned(),
        })
    }

    pub fn log_out(&self, token: &str) {
        self.sessions().end(token);
    }

    pub fn set_notice(&self, visitor: &Visitor, notice: Notice) {
        self.sessions().set_notice(&visitor.token, notice);
    }

    pub fn take_notice(&self, visitor: &Visitor) -> Option<Notice> {
        self.sessions().take_notice(&visitor.token)
    }

    pub async fn list(&self) -> Result<Vec<AccountRow>, StoreError> {
        self.with_store(|store| store.accounts()).await
    }

    /// Makes a further account.
    pub async fn add(
        &self,
        name: &str,
        password: &str,
        by: &str,
        now: Now,
    ) -> Result<String, Denied> {
        let name = account_name(name)?;
        let password = password::fit(password, &name).map_err(Denied::Password)?;
        let hash = self.hash(password).await?;
        let (new_name, by) = (name.clone(), by.to_owned());
        let added = self.with_store(move |store| {
            store.add(&NewAccount {
                name: &new_name,
                hash: &hash,
                stamp: stamp(),
                by: &by,
                at: now.wall,
            })
        });
        match added.await? {
            true => Ok(name),
            false => Err(Denied::Taken),
        }
    }

    /// Gives the visitor a new password; every session of his ends, and a new one begins.
    pub async fn change_password(
        &self,
        visitor: &Visitor,
        old: &str,
        new: &str,
        address: IpAddr,
        now: impl Fn() -> Now,
    ) -> Result<String, Denied> {
        let name = visitor.account.clone();
        let password = password::fit(new, &name).map_err(Denied::Password)?;
        // A browser that was left open must not do: the old password is asked for, and guarded.
        let proof = self.log_in(&name, old, address, &now).await;
        let proof = proof.map_err(|(denied, _)| denied)?;
        self.log_out(&proof);
        let hash = self.hash(password).await?;
        let (stamp, changed) = (stamp(), name.clone());
        let is_there = self
            .with_store(move |store| store.set_password(&changed, &hash, stamp))
            .await?;
        match is_there {
            true => Ok(self.sessions().begin(&name, stamp, now().mono_ms)),
            false => Err(Denied::Wrong),
        }
    }

    /// False when there was none. Its sessions end with it.
    pub async fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.with_store(move |store| store.remove(&name)).await
    }

    async fn hash(&self, password: String) -> Result<String, Denied> {
        let _room = self.room.try_acquire().map_err(|_| Denied::Busy)?;
        let _turn = self.turn.acquire().await.expect("it is never closed");
        Ok(blocking(move || password::hash(&password)).await?)
    }

    /// The file is opened for each look: the daemon keeps no memory for it, and sees what a command
    /// has changed.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut AccountStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let path = self.path.clone();
        blocking(move || work(&mut open(&path)?)).await
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().expect("no holder panics")
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().expect("no holder panics")
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("it neither panics nor is cancelled")
}

fn open(path: &Path) -> Result<AccountStore, StoreError> {
    make_store_file(path);
    AccountStore::open(path)
}

/// 2 to 32 of a-z, 0-9, '.', '-' and '_', beginning with a letter; capitals are made small.
fn account_name(text: &str) -> Result<String, Denied> {
    let name = text.trim().to_lowercase();
    let is_name = (2..=NAME_CHARS_MAX).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    match is_name {
        true => Ok(name),
        false => Err(Denied::Name),
    }
}

fn stamp() -> i64 {
    (getrandom::u64().expect("the operating system has random numbers") >> 1) as i64
}

/// While nobody has an account, the codes of earlier starts stay valid.
fn drop_old_codes(store: &mut AccountStore) -> Result<(), StoreError> {
    if store.count()? == 0 {
        return Ok(());
    }
    let now_ms = boot_ms();
    store.drop_old_codes(now_ms.saturating_sub(CODE_MS), now_ms)
}

fn new_code(store: &mut AccountStore) -> Result<String, StoreError> {
    let mut bytes = [0; CODE_LETTERS];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    let letters = bytes.map(|byte| char::from(LETTERS[usize::from(byte % 32)]));
    let text: String = letters.iter().collect();
    store.add_code(&sha256(text.as_bytes()), boot_ms())?;
    let groups: Vec<&str> = (0..CODE_LETTERS / 5)
        .map(|i| &text[5 * i..5 * i + 5])
        .collect();
    Ok(groups.join("-"))
}

/// The digest of a code as somebody types it.
fn code_digest(text: &str) -> Option<[u8; 32]> {
    let mut code = String::new();
    for c in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        code.push(match c.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            c if c.is_ascii_alphanumeric() && code.len() < CODE_LETTERS => c,
            _ => return None,
        });
    }
    (code.len() == CODE_LETTERS).then(|| sha256(code.as_bytes()))
}

/// At the start of the daemon: a code for the first account, while there is none. What goes wrong
/// here keeps no record from being taken.
pub fn invite(store: &StoreConfig) {
    let invited = open(&store.accounts_path()).and_then(|mut store| match store.count()? {
        0 => new_code(&mut store).map(Some),
        _ => Ok(None),
    });
    match invited {
        Ok(Some(code)) => {
            tracing::warn!(
                code,
                page = FIRST_PATH,
                "no technician has an account yet; this code makes the first"
            );
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the technicians' accounts cannot be read"),
    }
}

// === Commands ===

/// `tramd account code`: prints a one-time code.
pub fn code(path: &Path) -> Result<String, Failure> {
    let config = load(path).map_err(Failure::Configuration)?.config;
    let code = open_here(&config.store).and_then(|mut store| {
        drop_old_codes(&mut store)?;
        new_code(&mut store)
    });
    let code = code.map_err(Failure::of_store)?;
    said(&config, "account_code", "", "");
    Ok(format!(
        "{code}{}\n  Nhập mã này tại {FIRST_PATH} trên trang của trạm, trong vòng 1 giờ. Mã tạo tài khoản mới, hoặc đặt lại mật khẩu của tài khoản đã có.\n  Type it at {FIRST_PATH} of the box's page within an hour. It makes an account, or gives one a new password.\n",
        page(&config)
    ))
}

/// Where the page is in the office's network, and what to compare before typing a code there.
fn page(config: &Config) -> String {
    let Some(shown) = own_tls::shown(config) else {
        return String::new();
    };
    let (name, port) = (&config.http.name, config.http.listen.port());
    format!(
        "\n  https://{name}.local:{port}{FIRST_PATH}\n  SHA-256 {}",
        shown.fingerprint
    )
}

/// `tramd account list`.
pub fn list(path: &Path) -> Result<String, Failure> {
    let config = load(path).map_err(Failure::Configuration)?.config;
    let rows = open_here(&config.store).and_then(|store| store.accounts());
    let rows = rows.map_err(Failure::of_store)?;
    let mut text = String::new();
    for AccountRow { name, created, by } in &rows {
        text.push_str(&format!("{name} {created} {by}\n"));
    }
    if rows.is_empty() {
        text.push_str("chưa có tài khoản nào; lấy mã: tramd account code / no account yet\n");
    }
    Ok(text)
}

/// `tramd account remove NAME`: its sessions end with it.
pub fn remove(path: &Path, name: &str) -> Result<String, Failure> {
    let config = load(path).map_err(Failure::Configuration)?.config;
    let removed = open_here(&config.store).and_then(|mut store| store.remove(name));
    match removed.map_err(Failure::of_store)? {
        true => {
            said(&config, "account_remove", "done", name);
            Ok(format!("đã xóa tài khoản {name} / removed\n"))
        }
        false => Err(Failure::Runtime(anyhow::anyhow!(
            "không có tài khoản {name} / there is no account {name}"
        ))),
    }
}

fn open_here(store: &StoreConfig) -> Result<AccountStore, StoreError> {
    open(&store.accounts_path())
}

/// The deed of who sits at the console, in the audit.
fn said(config: &crate::edge::config::Config, name: &str, result: &str, detail: &str) {
    let now = Clock::start(UnixMs(0)).now().wall;
    if let Err(error) = note(config, &By::console(), name, result, detail, now) {
        tracing::warn!(%error, "the audit could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_typed_as_people_type() {
        let place = tempfile::tempdir().unwrap();
        let mut store = open(&place.path().join("accounts.db")).unwrap();
        let code = new_code(&mut store).unwrap();
        assert_eq!(code.len(), CODE_LETTERS + 3);
        for typed in [
            code.clone(),
            code.to_lowercase(),
            code.replace('-', " "),
            code.replace('0', "o").replace('1', "l"),
        ] {
            let digest = code_digest(&typed).unwrap();
            assert!(store.has_code(&digest).unwrap(), "{typed}");
        }
        for wrong in ["", "AAAAA-AAAAA-AAAAA-AAAAA-A", "ằằằằằ"] {
            assert_eq!(code_digest(wrong), None);
        }
    }

    #[test]
    fn names_are_plain() {
        for (text, name) in [
            (" Lan ", Some("lan")),
            ("nam.ky-thuat_2", Some("nam.ky-thuat_2")),
        ] {
            assert_eq!(account_name(text).ok().as_deref(), name);
        }
        for text in ["", "a", "1a", "lân", "a b", &"a".repeat(33), "<b>"] {
            assert!(account_name(text).is_err(), "{text}");
        }
    }
}
