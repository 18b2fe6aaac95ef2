//! The box's key and certificate through their changes, one folder for each pair.
//!
//! The pair that the hub issued at the registration lies where the configuration says, which the
//! daemon often may not write to. Each later one has a folder of its own beside the store, named by
//! its number, with the key that was made here and never leaves it; the link `current` names the
//! pair that counts. It is switched by a rename, so at any moment one whole pair counts. A pair was
//! made in the place of the configured certificate that `from` names: when somebody puts another
//! certificate there, that one counts again.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::edge::config::Config;
use crate::evidence::{SigningKey, sha256};
use crate::model::UnixMs;

const CURRENT: &str = "current";
const KEY_FILE: &str = "box.key";
const CERTIFICATE_FILE: &str = "box.crt";
const FROM_FILE: &str = "from";
/// What was not finished ends in this.
const UNFINISHED: &str = ".new";

/// A key and its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// 0: the configured one.
    pub number: u64,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Since when it counts; none for the configured one.
    pub since: Option<UnixMs>,
}

/// All pairs of a box.
#[derive(Debug, Clone)]
pub struct Generations {
    folder: PathBuf,
    configured: Pair,
    #[cfg(test)]
    steps_left: std::sync::Arc<std::sync::atomic::AtomicU32>,
}

impl Generations {
    pub fn of(config: &Config) -> Generations {
        Generations::new(
            config.store.identity_path(),
            &config.hub.certificate,
            &config.hub.key,
        )
    }

    fn new(folder: PathBuf, certificate: &Path, key: &Path) -> Generations {
        let configured = Pair {
            number: 0,
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            since: None,
        };
        Generations {
            folder,
            configured,
            #[cfg(test)]
            steps_left: std::sync::Arc::new(u32::MAX.into()),
        }
    }

    /// The pair that counts.
    pub fn in_force(&self) -> Pair {
        let link = self.folder.join(CURRENT);
        let number = fs::read_link(&link).ok();
        let number = number.and_then(|name| name.to_str()?.parse::<u64>().ok());
        match number.map(|number| self.pair(number)) {
            Some(pair) if self.is_of_configured(&pair) && pair.certificate.is_file() => Pair {
                since: changed(&link),
                ..pair
            },
            _ => self.configured.clone(),
        }
    }

    /// The pair that the configuration names.
    pub fn configured(&self) -> &Pair {
        &self.configured
    }

    /// The pair whose key was made last and does not count yet.
    pub fn candidate(&self) -> Option<Pair> {
        let newest = self.numbers().into_iter().max()?;
        let pair = self.pair(newest);
        let is_newer = self.in_force().number < newest;
        (is_newer && self.is_of_configured(&pair)).then_some(pair)
    }

    /// A new key beside the present one; the same again while it does not count yet.
    pub fn make(&self) -> io::Result<Pair> {
        if let Some(pair) = self.candidate() {
            return Ok(pair);
        }
        let above = self.folder.parent().unwrap_or(Path::new("."));
        make_folder(&self.folder)?;
        sync(above)?;
        self.step()?;
        self.clear_unfinished();
        let number = self.numbers().into_iter().max().unwrap_or(0) + 1;
        let pair = self.pair(number);
        let unfinished = self.folder.join(format!("{number}{UNFINISHED}"));
        make_folder(&unfinished)?;
        self.step()?;
        write(
            &unfinished.join(KEY_FILE),
            pem(&SigningKey::generate()).as_bytes(),
        )?;
        self.step()?;
        let from = digest(&self.configured.certificate)?;
        write(&unfinished.join(FROM_FILE), from.as_bytes())?;
        self.step()?;
        sync(&unfinished)?;
        fs::rename(&unfinished, self.folder_of(number))?;
        self.step()?;
        sync(&self.folder)?;
        self.step()?;
        Ok(pair)
    }

    /// Puts a certificate beside the key of a pair that does not count yet.
    pub fn put_certificate(&self, pair: &Pair, pem: &str) -> io::Result<()> {
        let folder = self.folder_of(pair.number);
        let unfinished = folder.join(format!("{CERTIFICATE_FILE}{UNFINISHED}"));
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        write(&unfinished, pem.as_bytes())?;
        self.step()?;
        fs::rename(&unfinished, &pair.certificate)?;
        self.step()?;
        sync(&folder)?;
        self.step()
    }

    /// From now on this pair counts. The one before stays for whoever looks for it, those before that
    /// go.
    pub fn switch(&self, pair: &Pair) -> io::Result<()> {
        let before = self.in_force().number;
        let unfinished = self.folder.join(format!("{CURRENT}{UNFINISHED}"));
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(pair.number.to_string(), &unfinished)?;
        self.step()?;
        fs::rename(&unfinished, self.folder.join(CURRENT))?;
        self.step()?;
        sync(&self.folder)?;
        self.step()?;
        for number in self.numbers() {
            if number < pair.number && number != before {
                self.discard(number);
            }
        }
        self.step()
    }

    /// Removes a pair that does not count.
    pub fn discard(&self, number: u64) {
        // What stays is in nobody's way.
        let _ = fs::remove_dir_all(self.folder_of(number));
    }

    fn pair(&self, number: u64) -> Pair {
        let folder = self.folder_of(number);
        Pair {
            number,
            certificate: folder.join(CERTIFICATE_FILE),
            key: folder.join(KEY_FILE),
            since: None,
        }
    }

    fn folder_of(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }

    fn numbers(&self) -> Vec<u64> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// A configured certificate that cannot be read is no other one.
    fn is_of_configured(&self, pair: &Pair) -> bool {
        let Ok(from) = fs::read_to_string(self.folder_of(pair.number).join(FROM_FILE)) else {
            return false;
        };
        digest(&self.configured.certificate).is_ok_and(|found| found == from)
            || fs::metadata(&self.configured.certificate).is_err()
    }

    fn clear_unfinished(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.ends_with(UNFINISHED)) {
                let path = entry.path();
                // What stays is met again when its name is needed.
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
    }

    /// Between any two of these a test may end the work.
    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let left = &self.steps_left;
        left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .map(|_| ())
            .map_err(|_| io::Error::other("killed"))
    }

    #[cfg(not(test))]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }
}

/// When a link was made, by the file system.
fn changed(link: &Path) -> Option<UnixMs> {
    let changed = fs::symlink_metadata(link).ok()?.modified().ok()?;
    let since = changed.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(UnixMs(i64::try_from(since.as_millis()).ok()?))
}

fn digest(file: &Path) -> io::Result<String> {
    let digest = sha256(&fs::read(file)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn pem(pkcs8: &[u8]) -> String {
    let text = BASE64.encode(pkcs8);
    let mut pem = "-----BEGIN PRIVATE KEY-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).expect("base64 is ASCII"));
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}

fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn generations(folder: &Path) -> Generations {
        Generations::new(
            folder.join("identity"),
            &folder.join("box.crt"),
            &folder.join("box.key"),
        )
    }

    fn rig() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("box.crt"), "one").unwrap();
        fs::write(folder.path().join("box.key"), "key of one").unwrap();
        folder
    }

    /// One whole change; its certificate names the key that it is for.
    fn change(generations: &Generations) -> io::Result<()> {
        let pair = generations.make()?;
        let key = fs::read_to_string(&pair.key)?;
        generations.put_certificate(&pair, &format!("for {key}"))?;
        generations.switch(&pair)
    }

    fn assert_whole(pair: &Pair) {
        let (certificate, key) = (
            fs::read_to_string(&pair.certificate).unwrap(),
            fs::read_to_string(&pair.key).unwrap(),
        );
        match pair.number {
            0 => assert_eq!((certificate.as_str(), key.as_str()), ("one", "key of one")),
            _ => assert_eq!(certificate, format!("for {key}")),
        }
    }

    #[test]
    fn a_crash_at_any_step_leaves_one_whole_pair_and_the_change_can_be_done_again() {
        let mut steps = 0;
        loop {
            let folder = rig();
            let before = generations(folder.path());
            change(&before).unwrap();
            assert_eq!(before.in_force().number, 1);
            let dying = generations(folder.path());
            dying
                .steps_left
                .store(steps, std::sync::atomic::Ordering::Relaxed);
            let result = change(&dying);

            let after = generations(folder.path());
            let pair = after.in_force();
            assert_whole(&pair);
            match result {
                Ok(()) => assert_eq!(pair.number, 2),
                Err(_) => assert!(pair.number == 1 || pair.number == 2, "{pair:?}"),
            }
            change(&after).unwrap();
            let last = generations(folder.path()).in_force();
            assert_whole(&last);
            assert!(pair.number < last.number);
            assert_eq!(after.candidate(), None);
            let left: Vec<u64> = after.numbers();
            assert!(left.len() <= 2, "{left:?}");
            if result.is_ok() {
                break;
            }
            steps += 1;
        }
        assert!(10 < steps, "only {steps} steps were tried");
    }

    #[test]
    fn the_key_is_secret_and_the_same_until_it_counts() {
        let folder = rig();
        let generations = generations(folder.path());
        let first = generations.make().unwrap();
        let key = fs::read(&first.key).unwrap();
        assert_eq!(generations.make().unwrap(), first);
        assert_eq!(fs::read(&first.key).unwrap(), key);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&first.key), 0o600);
        assert_eq!(mode(first.key.parent().unwrap()), 0o700);
        assert_eq!(generations.in_force().number, 0, "it has no certificate");
        generations.discard(first.number);
        assert_ne!(fs::read(&generations.make().unwrap().key).unwrap(), key);
    }

    #[test]
    fn a_certificate_that_somebody_puts_in_its_place_counts_again() {
        let folder = rig();
        let generations = generations(folder.path());
        change(&generations).unwrap();
        assert_eq!(generations.in_force().number, 1);
        assert!(generations.in_force().since.is_some());
        fs::remove_file(folder.path().join("box.crt")).unwrap();
        assert_eq!(generations.in_force().number, 1, "missing is not another");
        fs::write(folder.path().join("box.crt"), "another").unwrap();
        assert_eq!(generations.in_force().number, 0);
        change(&generations).unwrap();
        assert_eq!(generations.in_force().number, 2);
    }
}
