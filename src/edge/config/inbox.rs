//! `[[inbox]]`: by which ways documents that are addressed to this office go to its software.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use ureq::Agent;

use crate::edge::mqtt_source::read_password;
use crate::model::SourceName;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::web;

#[derive(Debug, Clone)]
pub struct InboxConfig {
    pub name: SourceName,
    pub kind: InboxKind,
}

#[derive(Debug, Clone)]
pub enum InboxKind {
    Folder { path: PathBuf },
    Http(Service),
}

/// A web service of the office's software.
#[derive(Debug, Clone)]
pub struct Service {
    pub url: String,
    /// Whose certificates count, for https.
    pub authority: Option<PathBuf>,
    pub token_file: Option<PathBuf>,
    pub timeout_ms: u64,
}

const KINDS: [&str; 2] = ["folder", "http"];

pub fn read(section: &mut Section) -> Option<InboxKind> {
    let kind = section.value("kind", None, |text| match KINDS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            &format!("không có lựa chọn “{text}”"),
            &format!("{text:?} is not one of the choices"),
            "Chọn folder hoặc http.",
            "Choose folder or http.",
        )),
    })?;
    if kind == "folder" {
        let path = section.path("path", None)?;
        return Some(InboxKind::Folder { path });
    }
    let url = section.value("url", None, |text| {
        match text.starts_with("http://") || text.starts_with("https://") {
            true => Ok(text.to_owned()),
            false => Err(Wrong::new(
                &format!("“{text}” không phải là địa chỉ dịch vụ"),
                &format!("{text:?} is not a service's address"),
                "Ví dụ: \"https://qlvb.xa.example/nhan\".",
                "For example: \"https://qlvb.xa.example/nhan\".",
            )),
        }
    });
    let authority = section.optional_path("ca");
    let token_file = section.optional_path("token_file");
    let timeout_ms = section.duration("timeout", "30 s", 1_000..=600_000);
    Some(InboxKind::Http(Service {
        url: url?,
        authority: authority?,
        token_file: token_file?,
        timeout_ms: timeout_ms?,
    }))
}

impl Service {
    pub fn agent(&self) -> anyhow::Result<Agent> {
        if self.url.starts_with("https://") {
            self.authority
                .as_ref()
                .context("https needs the setting ca")?;
        }
        let timeout = Duration::from_millis(self.timeout_ms);
        web::agent(timeout, self.authority.as_deref()).map_err(|fault| anyhow!("{fault}"))
    }

    pub fn token(&self) -> anyhow::Result<Option<String>> {
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        let token = read_password(file).map_err(|fault| anyhow!("{fault}"))?;
        Ok(Some(token))
    }
}
