//! The dataset catalogue: what a province exchanges, as data. Nothing about a dataset is compiled
//! in.
//!
//! A catalogue is a folder with one file a dataset, `<id>.toml`. A file names the dataset and its
//! owner, says which fields make up the subject and the event time of a record, which lane a
//! record takes, what is refused at the door (state secrets), and holds a JSON Schema 2020-12.
//! [`file`] reads the written form, [`condition`] finds values in a record, and on the box
//! `admit` checks each record once, at the door. `docs/catalogue.md` describes the file.

#[cfg(feature = "edge")]
pub mod admit;
pub mod bundle;
pub mod codes;
pub mod condition;
pub mod directory;
pub mod file;
pub mod right;
pub mod schema;
#[cfg(feature = "edge")]
mod sentence;
#[cfg(feature = "edge")]
mod strict_json;
#[cfg(feature = "edge")]
pub mod time;
mod written;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::model::record::{Classification, RecordType};
use crate::model::{DatasetId, Lane};
use codes::{Codes, Scheme};
use condition::{Condition, Pattern};

/// Every dataset that an office or the hub knows.
#[derive(Debug)]
pub struct Catalogue {
    /// In the order of `code`.
    datasets: Vec<Arc<Dataset>>,
    places: BTreeMap<DatasetId, usize>,
}

/// One dataset, as its file means it.
#[derive(Debug)]
pub struct Dataset {
    pub id: DatasetId,
    pub version: u32,
    /// Short name in papers and on pages, such as `D02`.
    pub code: String,
    pub title_vi: String,
    pub title_en: String,
    /// The body that owns the dataset, in Vietnamese.
    pub owner: String,
    pub owner_en: String,
    /// Records that differ from the others in key or event time; the first that matches wins.
    pub variants: Vec<Variant>,
    /// JSON pointers; their values joined by `|` are the subject.
    pub key: Vec<String>,
    /// The subject is a digest of the key, because the key itself is personal data.
    pub hide_key: bool,
    /// JSON pointers to the event time; the first that is present counts.
    pub time: Vec<String>,
    /// 0 public, 1 internal, 2 personal, 3 sensitive personal.
    pub sensitivity: u8,
    pub retention_days: u32,
    pub lanes: LaneRules,
    /// Classification codes that every record carries.
    pub classification: Vec<Classification>,
    /// Classification codes that a record's own fields hold.
    pub classified_by: Vec<FieldScheme>,
    /// A record that matches one of these is refused.
    pub refuse: Vec<RefuseRule>,
    /// Fields that say whose a record is, beside the office that has handed it in: codes of agencies
    /// or of administrative units.
    pub area: Vec<Pattern>,
    /// Fields that are looked through for words where the dataset is copied to an office.
    pub search: Vec<Pattern>,
    /// Records that go to other offices; the first that matches says to which.
    pub deliver: Vec<DeliverRule>,
    /// A record says what became of a document.
    pub status: Option<StatusFields>,
    /// Records among documents that say what became of one of them.
    pub packet: Option<PacketFields>,
    /// The field of a record that names files which were put before it.
    pub attachments: Option<Pattern>,
    /// Fields that hold codes, and of what.
    pub coded: Vec<(Pattern, Scheme)>,
    /// What is known of codes; shared by all datasets.
    pub codes: Arc<Codes>,
    /// JSON Schema 2020-12, as written.
    pub schema: String,
    /// Compiled with the first record: most boxes use few of the datasets, and each compiled
    /// schema takes some 150 KB.
    #[cfg(feature = "edge")]
    checker: std::sync::OnceLock<admit::Checker>,
}

/// A kind of record within a dataset with a key or an event time of its own.
#[derive(Debug, Clone)]
pub struct Variant {
    pub when: Condition,
    pub key: Vec<String>,
    pub time: Vec<String>,
}

/// Which lane a record takes: that of the first rule that matches, else the default.
#[derive(Debug, Clone)]
pub struct LaneRules {
    pub default: Lane,
    pub rules: Vec<(Condition, Lane)>,
}

/// A classification scheme whose codes stand in a field of the record.
#[derive(Debug, Clone)]
pub struct FieldScheme {
    pub scheme: String,
    pub pointer: Pattern,
}

/// What must not enter, and why.
#[derive(Debug, Clone)]
pub struct RefuseRule {
    pub when: Condition,
    pub reason_vi: String,
    pub reason_en: String,
    /// Somebody has to look at it, not only the office's software.
    pub alarm: bool,
}

/// To whom a record is addressed.
#[derive(Debug, Clone)]
pub struct DeliverRule {
    /// None: every record.
    pub when: Option<Condition>,
    /// Codes of the offices.
    pub to: Pattern,
}

/// Fields of a record that says what became of a document.
#[derive(Debug, Clone)]
pub struct StatusFields {
    /// Id of the document's record.
    pub document: Pattern,
    /// Who has sent the document.
    pub from: Pattern,
    /// To whom it was sent, and to whom this is said.
    pub to: Pattern,
    pub code: Pattern,
    pub note: Pattern,
}

/// Fields of a record that stands among documents and says what became of one of them, which it names
/// by its subject.
#[derive(Debug, Clone)]
pub struct PacketFields {
    pub when: Condition,
    pub subject: Pattern,
    pub code: Pattern,
    pub note: Pattern,
}

/// What is wrong in a catalogue file, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueFault {
    /// Name of the file, or the folder when it cannot be read.
    pub file: String,
    /// Line and column, or the setting, such as `lane.rule[2].pointer`.
    pub place: String,
    pub message_vi: String,
    pub message_en: String,
    pub hint_vi: String,
    pub hint_en: String,
}

impl fmt::Display for CatalogueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.file, self.place, self.message_en)
    }
}

impl std::error::Error for CatalogueFault {}

impl Catalogue {
    /// Reads every `*.toml` of a folder; on faults gives all of them, of all files.
    pub fn load(dir: &Path) -> Result<Catalogue, Vec<CatalogueFault>> {
        let folder_fault = |error: std::io::Error| {
            vec![CatalogueFault {
                file: dir.display().to_string(),
                place: "-".to_owned(),
                message_vi: format!("không đọc được thư mục danh mục bộ dữ liệu: {error}"),
                message_en: format!("cannot read the catalogue folder: {error}"),
                hint_vi: "Chép thư mục catalogue của bộ cài vào đó, hoặc sửa catalogue.path; kiểm tra quyền đọc.".to_owned(),
                hint_en: "Copy the folder catalogue of the distribution there, or correct catalogue.path; check the permission to read it.".to_owned(),
            }]
        };
        let mut files = Vec::new();
        let mut faults = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(folder_fault)? {
            let path = entry.map_err(folder_fault)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !name.ends_with(".toml") || name.starts_with('.') {
                continue;
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => files.push((name.to_owned(), text)),
                Err(error) => faults.push(CatalogueFault {
                    file: name.to_owned(),
                    place: "-".to_owned(),
                    message_vi: format!("không đọc được tệp: {error}"),
                    message_en: format!("cannot read the file: {error}"),
                    hint_vi: "Tệp phải là văn bản UTF-8 và đọc được.".to_owned(),
                    hint_en: "The file must be readable UTF-8 text.".to_owned(),
                }),
            }
        }
        files.sort();
        let codes = Codes::load(dir).unwrap_or_else(|more| {
            faults.extend(more);
            Codes::default()
        });
        match Catalogue::from_files(files) {
            Ok(catalogue) if faults.is_empty() => Ok(catalogue.with_codes(codes)),
            Ok(_) => Err(faults),
            Err(more) => {
                faults.extend(more);
                Err(faults)
            }
        }
    }

    /// As [`Catalogue::load`], from names and texts of files.
    pub fn from_files(
        files: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Catalogue, Vec<CatalogueFault>> {
        let mut faults = Vec::new();
        let mut datasets: Vec<Dataset> = Vec::new();
        let mut files_read = 0;
        for (name, text) in files {
            files_read += 1;
            match file::read(&name, &text) {
                Ok(dataset) => match datasets.iter().find(|other| other.code == dataset.code) {
                    Some(other) => faults.push(doubled_code(&name, &dataset, other)),
                    None => datasets.push(dataset),
                },
                Err(more) => faults.extend(more),
            }
        }
        if files_read == 0 {
            faults.push(CatalogueFault {
                file: "-".to_owned(),
                place: "-".to_owned(),
                message_vi: "danh mục không có bộ dữ liệu nào".to_owned(),
                message_en: "the catalogue has no dataset".to_owned(),
                hint_vi: "Đặt ít nhất một tệp <mã bộ dữ liệu>.toml vào thư mục.".to_owned(),
                hint_en: "Put at least one file <dataset id>.toml into the folder.".to_owned(),
            });
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        datasets.sort_by(|a, b| a.code.cmp(&b.code));
        let places = datasets
            .iter()
            .enumerate()
            .map(|(place, dataset)| (dataset.id.clone(), place))
            .collect();
        let datasets = datasets.into_iter().map(Arc::new).collect();
        Ok(Catalogue { datasets, places })
    }

    /// The same datasets, whose codes are held against these.
    #[must_use]
    pub fn with_codes(mut self, codes: Codes) -> Catalogue {
        let codes = Arc::new(codes);
        for dataset in &mut self.datasets {
            let dataset = Arc::get_mut(dataset).expect("a new catalogue is not shared");
            dataset.codes = Arc::clone(&codes);
        }
        self
    }

    pub fn get(&self, id: &DatasetId) -> Option<&Dataset> {
        self.places.get(id).map(|&place| &*self.datasets[place])
    }

    /// As [`Catalogue::get`], for whoever goes on with it while another catalogue takes over.
    pub fn shared(&self, id: &DatasetId) -> Option<Arc<Dataset>> {
        let place = self.places.get(id)?;
        Some(Arc::clone(&self.datasets[*place]))
    }

    /// The datasets in the order of their codes.
    pub fn iter(&self) -> Datasets<'_> {
        self.datasets.iter().map(|dataset| dataset)
    }

    /// What is known of codes.
    pub fn codes(&self) -> Option<&Arc<Codes>> {
        self.datasets.first().map(|dataset| &dataset.codes)
    }
}

/// Goes through the datasets of a catalogue.
pub type Datasets<'a> =
    std::iter::Map<std::slice::Iter<'a, Arc<Dataset>>, fn(&'a Arc<Dataset>) -> &'a Dataset>;

impl<'a> IntoIterator for &'a Catalogue {
    type Item = &'a Dataset;
    type IntoIter = Datasets<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Dataset {
    /// Dataset and version, as every record carries them.
    pub fn record_type(&self) -> RecordType {
        RecordType {
            dataset: self.id.clone(),
            version: self.version,
        }
    }

    /// Whether messages about a record may quote its values.
    pub fn quotable(&self) -> bool {
        self.sensitivity <= 1
    }
}

fn doubled_code(file: &str, dataset: &Dataset, other: &Dataset) -> CatalogueFault {
    let code = &dataset.code;
    CatalogueFault {
        file: file.to_owned(),
        place: "code".to_owned(),
        message_vi: format!("mã {code} đã dùng cho bộ dữ liệu {}", other.id),
        message_en: format!("code {code} is taken by dataset {}", other.id),
        hint_vi: "Mỗi bộ dữ liệu có một mã riêng.".to_owned(),
        hint_en: "Give each dataset a code of its own.".to_owned(),
    }
}
