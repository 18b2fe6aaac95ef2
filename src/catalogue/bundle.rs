//! A catalogue as it is published: all files of one consistent set, packed into one piece of bytes.
//!
//! The content is a JSON object of file names and texts in the order of the names, compressed with
//! zstd. What it claims to be (version, day, digest) stands outside and is signed by the hub; here it
//! is only packed, unpacked within bounds, and held against the very parser that a box uses.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use super::codes::{AGENCIES, Codes, UNITS};
use super::{Catalogue, CatalogueFault};

/// Largest content, compressed and as text, and most files.
pub const CONTENT_BYTES_MAX: u64 = 8 << 20;
const TEXT_BYTES_MAX: u64 = 32 << 20;
const FILES_MAX: usize = 500;
/// Bytes of the content in one entry of the downlink: with base64 and envelope below the limit.
pub const PART_BYTES: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 9;

const _: () =
    assert!(PART_BYTES.div_ceil(3) * 4 + 1024 <= crate::model::limits::DOWN_ENTRY_BYTES_MAX);

/// Names of files and their texts: `ho_tich.toml`, `codes/units.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bundle(BTreeMap<String, String>);

/// Why bytes are not a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotABundle {
    #[error("the content is not zstd of a JSON object of texts")]
    Unreadable,
    #[error("the content is too large or has too many files")]
    TooLarge,
}

impl Bundle {
    /// Reads `*.toml` of a folder and of its folder `codes`.
    pub fn read(folder: &Path) -> Result<Bundle, Vec<CatalogueFault>> {
        let mut files = BTreeMap::new();
        let mut faults = Vec::new();
        for (below, prefix) in [(folder.to_owned(), ""), (folder.join("codes"), "codes/")] {
            let entries = match std::fs::read_dir(&below) {
                Err(error)
                    if !prefix.is_empty() && error.kind() == std::io::ErrorKind::NotFound =>
                {
                    continue;
                }
                entries => entries,
            };
            let names = entries.and_then(|entries| {
                let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
                names.collect::<Result<Vec<_>, _>>()
            });
            let names = match names {
                Ok(names) => names,
                Err(error) => {
                    faults.push(unreadable(&below.display().to_string(), &error));
                    continue;
                }
            };
            for name in names.iter().filter_map(|name| name.to_str()) {
                if !name.ends_with(".toml") || name.starts_with('.') {
                    continue;
                }
                match std::fs::read_to_string(below.join(name)) {
                    Ok(text) => drop(files.insert(format!("{prefix}{name}"), text)),
                    Err(error) => faults.push(unreadable(&format!("{prefix}{name}"), &error)),
                }
            }
        }
        match faults.is_empty() {
            true => Ok(Bundle(files)),
            false => Err(faults),
        }
    }

    /// The same files, but for one that is new or takes the place of another.
    #[must_use]
    pub fn with_file(mut self, name: &str, text: String) -> Bundle {
        let is_codes = [AGENCIES, UNITS].contains(&name);
        let prefix = if is_codes { "codes/" } else { "" };
        self.0.insert(format!("{prefix}{name}"), text);
        self
    }

    /// What a box makes of it, or everything that is wrong.
    pub fn catalogue(&self) -> Result<Catalogue, Vec<CatalogueFault>> {
        let is_codes = |name: &str| name.starts_with("codes/");
        let mut faults: Vec<CatalogueFault> = self
            .0
            .keys()
            .filter(|name| is_codes(name))
            .filter(|name| ![AGENCIES, UNITS].contains(&&name["codes/".len()..]))
            .map(|name| unknown_file(name))
            .collect();
        let datasets = self.0.iter().filter(|(name, _)| !is_codes(name));
        let datasets = datasets.map(|(name, text)| (name.clone(), text.clone()));
        let catalogue = Catalogue::from_files(datasets);
        let text = |name: &str| Some(Ok(self.0.get(&format!("codes/{name}"))?.clone()));
        let codes = Codes::from_texts(text(AGENCIES), text(UNITS));
        match (catalogue, codes) {
            (Ok(catalogue), Ok(codes)) if faults.is_empty() => Ok(catalogue.with_codes(codes)),
            (catalogue, codes) => {
                faults.extend(catalogue.err().unwrap_or_default());
                faults.extend(codes.err().unwrap_or_default());
                Err(faults)
            }
        }
    }

    /// Packs; equal bundles give equal bytes.
    pub fn to_content(&self) -> Result<Vec<u8>, NotABundle> {
        let text = serde_json::to_vec(&self.0).expect("texts are plain JSON");
        let content = zstd::bulk::compress(&text, ZSTD_LEVEL).map_err(|_| NotABundle::TooLarge)?;
        let fits = text.len() as u64 <= TEXT_BYTES_MAX
            && content.len() as u64 <= CONTENT_BYTES_MAX
            && self.0.len() <= FILES_MAX;
        fits.then_some(content).ok_or(NotABundle::TooLarge)
    }

    pub fn from_content(content: &[u8]) -> Result<Bundle, NotABundle> {
        let decoder = zstd::stream::read::Decoder::new(content);
        let mut text = String::new();
        decoder
            .map_err(|_| NotABundle::Unreadable)?
            .take(TEXT_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|_| NotABundle::Unreadable)?;
        if TEXT_BYTES_MAX < text.len() as u64 {
            return Err(NotABundle::TooLarge);
        }
        let files: BTreeMap<String, String> =
            serde_json::from_str(&text).map_err(|_| NotABundle::Unreadable)?;
        match files.len() <= FILES_MAX {
            true => Ok(Bundle(files)),
            false => Err(NotABundle::TooLarge),
        }
    }
}

fn unreadable(file: &str, error: &std::io::Error) -> CatalogueFault {
    CatalogueFault {
        file: file.to_owned(),
        place: "-".to_owned(),
        message_vi: format!("không đọc được: {error}"),
        message_en: format!("cannot be read: {error}"),
        hint_vi: "Tệp phải là văn bản UTF-8 và đọc được.".to_owned(),
        hint_en: "The file must be readable UTF-8 text.".to_owned(),
    }
}

fn unknown_file(name: &str) -> CatalogueFault {
    CatalogueFault {
        file: name.to_owned(),
        place: "-".to_owned(),
        message_vi: "không có danh mục mã nào mang tên này".to_owned(),
        message_en: "no catalogue of codes has this name".to_owned(),
        hint_vi: format!("Trong thư mục codes chỉ có {AGENCIES} và {UNITS}."),
        hint_en: format!("The folder codes holds {AGENCIES} and {UNITS} only."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Bundle {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
        Bundle::read(&folder).expect("the shipped catalogue")
    }

    #[test]
    fn the_shipped_catalogue_travels_and_means_the_same() {
        let bundle = shipped();
        let content = bundle.to_content().expect("small enough");
        assert_eq!(content, shipped().to_content().expect("small enough"));
        let arrived = Bundle::from_content(&content).expect("whole");
        assert_eq!(arrived, bundle);
        let (here, there) = (bundle.catalogue(), arrived.catalogue());
        let ids = |catalogue: Result<Catalogue, _>| -> Vec<String> {
            let catalogue = catalogue.expect("sound");
            catalogue.iter().map(|known| known.id.to_string()).collect()
        };
        assert_eq!(ids(here), ids(there));
        for damaged in [&content[..content.len() / 2], b"", b"{}"] {
            assert!(Bundle::from_content(damaged).is_err());
        }
    }

    #[test]
    fn faults_of_all_files_are_told_with_line_and_column() {
        let bundle = shipped()
            .with_file(
                "units.toml",
                "complete = true\n[[unit]]\ncode = 5\n".to_owned(),
            )
            .with_file("ho_tich.toml", "id = \n".to_owned());
        let faults = bundle.catalogue().expect_err("two files are broken");
        let told: Vec<String> = faults
            .iter()
            .map(|fault| format!("{} {}", fault.file, fault.place))
            .collect();
        assert_eq!(told, ["ho_tich.toml 1:6", "codes/units.toml 3:8"]);
    }
}
