//! Passwords: which are taken, and their hashes.
//!
//! argon2id with 7 MiB, 5 rounds, 1 lane: the set of the OWASP Password Storage Cheat Sheet with the
//! least memory, of equal strength by RFC 9106's trade of memory for rounds. It is computed in a
//! process of its own, this program once more: 7 MiB that the C library would otherwise keep are
//! given back with it, and when memory runs out the kernel takes it and not the box.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use nix::sys::resource::{Resource, setrlimit};
use unicode_normalization::UnicodeNormalization;

use crate::edge::tokens::is_same;

pub const CHARS_MIN: usize = 12;
const CHARS_MAX: usize = 128;
const MEMORY_KIB: u32 = 7 * 1024;
const ROUNDS: u32 = 5;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// How a hash of this program's begins; the salt and the hash follow.
const HEAD: &str = "$argon2id$v=19$m=7168,t=5,p=1$";
/// First argument of the process.
const ARGUMENT: &str = "hash-password";
/// Memory that the process may ask for, and its time on the processor.
const PROCESS_BYTES_MAX: u64 = 64 << 20;
const CPU_S_MAX: u64 = 30;
/// Known to everybody who guesses; compared in small letters.
const GUESSED: [&str; 12] = [
    "123456789012",
    "1234567890123",
    "0123456789012",
    "matkhau12345",
    "matkhau123456",
    "password1234",
    "password12345",
    "admin1234567",
    "administrator",
    "qwertyuiop12",
    "qwertyuiopas",
    "lienthong123",
];

/// The program that hashes. Where none was named, as in tests of the library, this process does.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    Short,
    Long,
    Guessed,
}

impl Unfit {
    pub fn texts(self) -> [&'static str; 2] {
        match self {
            Unfit::Short => [
                "Mật khẩu phải có ít nhất 12 ký tự. Một câu vài từ là dễ nhớ nhất.",
                "At least 12 characters. A sentence of a few words is easiest to remember.",
            ],
            Unfit::Long => [
                "Mật khẩu không quá 128 ký tự.",
                "Not more than 128 characters.",
            ],
            Unfit::Guessed => [
                "Mật khẩu này quá dễ đoán; hãy chọn mật khẩu khác.",
                "This password is easily guessed; choose another.",
            ],
        }
    }
}

/// The password as it is hashed: one text is one password however a keyboard composes its letters.
/// No rules on which characters it has.
pub fn fit(text: &str, account: &str) -> Result<String, Unfit> {
    let password = normal(text);
    let count = password.chars().count();
    if count < CHARS_MIN {
        return Err(Unfit::Short);
    }
    if CHARS_MAX < count {
        return Err(Unfit::Long);
    }
    let lower = password.to_lowercase();
    let mut letters: Vec<char> = lower.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    let is_guessed = letters.len() < 4
        || GUESSED.contains(&lower.as_str())
        || (4 <= account.len() && lower.contains(account));
    match is_guessed {
        true => Err(Unfit::Guessed),
        false => Ok(password),
    }
}

fn normal(text: &str) -> String {
    text.nfc().collect()
}

/// Hashes a password anew, with a salt of its own. Blocks.
pub fn hash(password: &str) -> io::Result<String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).expect("the operating system has random numbers");
    let hash = compute(&salt, password)?;
    Ok(format!(
        "{HEAD}{}${}",
        BASE64.encode(salt),
        BASE64.encode(hash)
    ))
}

/// Whether a hash is of this password; without a hash it takes as long and says no. Blocks.
pub fn is_password(text: &str, hash: Option<&str>) -> io::Result<bool> {
    let parts = hash.and_then(|hash| {
        let (salt, hash) = hash.strip_prefix(HEAD)?.split_once('$')?;
        let salt: [u8; SALT_BYTES] = BASE64.decode(salt).ok()?.try_into().ok()?;
        let hash: [u8; HASH_BYTES] = BASE64.decode(hash).ok()?.try_into().ok()?;
        Some((salt, hash))
    });
    let password: String = normal(text).chars().take(CHARS_MAX).collect();
    let (salt, wanted) = parts.unwrap_or_default();
    let found = compute(&salt, &password)?;
    Ok(is_same(&found, &wanted) && parts.is_some())
}

fn compute(salt: &[u8; SALT_BYTES], password: &str) -> io::Result<[u8; HASH_BYTES]> {
    let Some(program) = PROGRAM.get() else {
        return Ok(argon2id(salt, password.as_bytes()));
    };
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut hash = [0; HASH_BYTES];
    let talked = (|| {
        let (Some(mut stdin), Some(mut stdout)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were piped");
        };
        stdin.write_all(salt)?;
        stdin.write_all(password.as_bytes())?;
        drop(stdin);
        stdout.read_exact(&mut hash)
    })();
    // It has nothing more to say.
    let _ = child.kill();
    child.wait()?;
    talked.map(|()| hash)
}

fn argon2id(salt: &[u8; SALT_BYTES], password: &[u8]) -> [u8; HASH_BYTES] {
    let params = Params::new(MEMORY_KIB, ROUNDS, 1, Some(HASH_BYTES)).expect("within its limits");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut hash = [0; HASH_BYTES];
    argon2
        .hash_password_into(password, salt, &mut hash)
        .expect("salt and password have lengths that it takes");
    hash
}

/// To be called early in the program's `main`: hashes a password and tells so, where the arguments
/// ask for that, and otherwise lets passwords be hashed by this same program.
pub fn is_hasher(arguments: &[OsString]) -> bool {
    match arguments {
        [_, argument] if argument == ARGUMENT => {
            // The other end sees that nothing came.
            let _ = hash_here();
            true
        }
        _ => {
            // The file itself, even after an update has put another one into its place.
            let _ = PROGRAM.set(PathBuf::from("/proc/self/exe"));
            false
        }
    }
}

fn hash_here() -> io::Result<()> {
    // Where the limits cannot be set, those of the unit hold.
    let _ = setrlimit(Resource::RLIMIT_DATA, PROCESS_BYTES_MAX, PROCESS_BYTES_MAX);
    let _ = setrlimit(Resource::RLIMIT_CPU, CPU_S_MAX, CPU_S_MAX);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // When memory runs out, this process goes and the box stays.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut salt = [0; SALT_BYTES];
    let mut password = Vec::new();
    let mut stdin = io::stdin().lock();
    stdin.read_exact(&mut salt)?;
    stdin
        .take(4 * CHARS_MAX as u64)
        .read_to_end(&mut password)?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(&argon2id(&salt, &password))?;
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_known_however_its_letters_are_composed() {
        let composed = fit("mưa đầu mùa hạ", "lan").unwrap();
        let hash = hash(&composed).unwrap();
        assert!(hash.starts_with(HEAD) && hash.len() == HEAD.len() + 22 + 1 + 43);
        let decomposed: String = "mưa đầu mùa hạ".nfd().collect();
        assert_ne!(decomposed, composed);
        assert!(is_password(&decomposed, Some(&hash)).unwrap());
        assert!(!is_password("mưa đầu mùa hè", Some(&hash)).unwrap());
        assert!(!is_password(&decomposed, None).unwrap());
        assert!(!is_password(&decomposed, Some("$argon2id$v=19$m=8,t=1,p=1$AA$AA")).unwrap());
    }

    #[test]
    fn short_long_and_guessed_passwords_are_not_taken() {
        for (text, unfit) in [
            ("mưa đầu mùa", Unfit::Short),
            ("", Unfit::Short),
            (&"đường dài ".repeat(20), Unfit::Long),
            ("aaaaaaaaaaaaaa", Unfit::Guessed),
            ("Password1234", Unfit::Guessed),
            ("ky-thuat-lan-2026", Unfit::Guessed),
        ] {
            assert_eq!(fit(text, "ky-thuat-lan"), Err(unfit), "{text}");
        }
    }

    #[test]
    fn the_parameters_are_those_that_a_hash_names() {
        assert_eq!(
            HEAD,
            format!("$argon2id$v=19$m={MEMORY_KIB},t={ROUNDS},p=1$")
        );
    }
}
