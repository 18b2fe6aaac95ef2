//! The hub's pair of keys for what boxes bring on sticks: they seal with the public half, and only the
//! hub opens it. A hub that was made before there were sticks gets its pair at the first need.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, anyhow};

use crate::hub::authority::{PUBLIC, SECRET, write_new};
use crate::hub::config::Config;
use crate::hub::init::SEAL_PUBLIC_FILE;
use crate::shell::replace::hand_over;
use crate::shell::sealed::{OpenKey, SealKey, new_keys};

/// Makes a pair: the secret half at `path`, the public one beside it.
pub fn make(path: &Path) -> anyhow::Result<(OpenKey, SealKey)> {
    let (open, seal) = new_keys();
    write_new(path, open.to_pem().as_bytes(), SECRET)?;
    hand_over(&File::open(path)?, path);
    let public = path.with_file_name(SEAL_PUBLIC_FILE);
    if !public.exists() {
        write_new(&public, seal.to_pem().as_bytes(), PUBLIC)?;
        hand_over(&File::open(&public)?, &public);
    }
    Ok((open, seal))
}

/// The hub's pair; made when there is none yet.
pub fn keys(config: &Config) -> anyhow::Result<(OpenKey, SealKey)> {
    let path = &config.hub.seal_key;
    let shown = path.display();
    let pem = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => match make(path) {
            Ok(keys) => return Ok(keys),
            // Another process was faster.
            Err(_) if path.exists() => fs::read(path),
            Err(error) => {
                return Err(error.context(format!(
                    "chưa có khóa {shown} và không tạo được; chạy bằng tài khoản có quyền ghi vào thư mục đó / \
                     there is no key {shown} and none can be made; run this as a user that may write there"
                )));
            }
        },
        pem => pem,
    };
    let pem = pem.with_context(|| format!("cannot read {shown}"))?;
    let keys = OpenKey::from_pem(&pem).and_then(|open| Ok((open.clone(), open.seal_key()?)));
    keys.map_err(|error| {
        anyhow!(
            "{shown}: {error}; khôi phục khóa từ bản sao lưu của trục / restore the key from a backup of the hub"
        )
    })
}
