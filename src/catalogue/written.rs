//! The catalogue file as it is written; unknown settings are refused.

use serde::Deserialize;
use serde_json::Value;

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    pub id: String,
    pub version: u32,
    pub code: String,
    pub title_vi: String,
    pub title_en: String,
    pub owner: String,
    pub owner_en: String,
    pub key: OneOrMany,
    #[serde(default)]
    pub hide_key: bool,
    #[serde(default)]
    pub time: OneOrMany,
    pub sensitivity: u8,
    pub retention_days: u32,
    pub lane: WrittenLane,
    #[serde(default)]
    pub variant: Vec<WrittenVariant>,
    #[serde(default)]
    pub classification: Vec<WrittenClassification>,
    #[serde(default)]
    pub refuse: Vec<WrittenRefuse>,
    #[serde(default)]
    pub area: OneOrMany,
    #[serde(default)]
    pub search: OneOrMany,
    #[serde(default)]
    pub deliver: Vec<WrittenDeliver>,
    pub status: Option<WrittenStatus>,
    pub packet: Option<WrittenPacket>,
    pub attachments: Option<String>,
    pub schema: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenDeliver {
    #[serde(default)]
    pub pointer: OneOrMany,
    #[serde(default, rename = "in")]
    pub values: Vec<Value>,
    pub to: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenStatus {
    pub document: String,
    pub from: String,
    pub to: String,
    pub code: String,
    pub note: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenPacket {
    pub pointer: OneOrMany,
    #[serde(rename = "in")]
    pub values: Vec<Value>,
    pub subject: String,
    pub code: String,
    pub note: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenLane {
    pub default: String,
    #[serde(default)]
    pub rule: Vec<WrittenLaneRule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenLaneRule {
    pub pointer: OneOrMany,
    #[serde(rename = "in")]
    pub values: Vec<Value>,
    pub lane: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenVariant {
    pub pointer: OneOrMany,
    #[serde(rename = "in")]
    pub values: Vec<Value>,
    pub key: OneOrMany,
    #[serde(default)]
    pub time: OneOrMany,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenClassification {
    pub scheme: String,
    pub code: Option<String>,
    pub pointer: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenRefuse {
    pub pointer: OneOrMany,
    #[serde(rename = "in")]
    pub values: Vec<Value>,
    pub reason_vi: String,
    pub reason_en: String,
    #[serde(default)]
    pub alarm: bool,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        OneOrMany::Many(Vec::new())
    }
}

impl OneOrMany {
    pub fn into_vec(self) -> Vec<String> {
        match self {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        }
    }
}
