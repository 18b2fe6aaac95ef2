//! `trucd grant …` and `trucd audit`: which office may read what, and who said so.
//!
//! A right and its line in the audit are one transaction. The running hub sees the change by itself
//! and loads, reloads or withdraws the copies.

use anyhow::{Context, anyhow, bail, ensure};
use serde::Serialize;

use crate::catalogue::Catalogue;
use crate::catalogue::right::{Right, Rows};
use crate::hub::config::Config;
use crate::hub::orders;
use crate::hub::registry;
use crate::hub::status::Stamp;
use crate::model::{AgencyCode, DatasetId, UnixMs};
use crate::shell::clock::Clock;
use crate::store::hub::rights::{AuditRow, RightRow};

/// A right that somebody wants to give.
#[derive(Debug, Clone)]
pub struct Grant {
    pub agency: AgencyCode,
    pub dataset: DatasetId,
    /// Names or JSON pointers; empty: the whole record.
    pub fields: Vec<String>,
    pub masked: Vec<String>,
    pub rows: RowsWanted,
    pub sensitive: bool,
    pub basis: String,
}

/// `--rows`
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowsWanted {
    /// Of the office itself and of what is below it.
    Own,
    Of(Vec<AgencyCode>),
    All,
}

impl std::str::FromStr for RowsWanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "own" => Ok(RowsWanted::Own),
            "all" => Ok(RowsWanted::All),
            _ => {
                let codes = text
                    .strip_prefix("agency=")
                    .ok_or_else(|| format!("{text:?} is not own, all or agency=CODE,CODE"))?;
                let codes: Result<Vec<AgencyCode>, _> = codes.split(',').map(str::parse).collect();
                codes.map(RowsWanted::Of).map_err(|error| error.to_string())
            }
        }
    }
}

/// A line of the list of rights.
#[derive(Debug, Serialize)]
pub struct Granted {
    pub agency: AgencyCode,
    pub dataset: DatasetId,
    pub right: Right,
    pub basis: String,
    pub granted: Stamp,
    pub by: String,
}

/// A line of the audit.
#[derive(Debug, Serialize)]
pub struct Audited {
    pub at: Stamp,
    pub who: String,
    pub action: String,
    pub detail: String,
}

/// The catalogue that holds now: the published one, else the installed one.
pub fn load_catalogue(config: &Config) -> anyhow::Result<Catalogue> {
    let now = Clock::start(UnixMs(0)).now().wall;
    let view = registry::open_view(config)?;
    if let Some(published) = orders::current(&view.snapshot()?, now)? {
        return Ok(published);
    }
    Catalogue::load(&config.catalogue).map_err(|faults| {
        let first = faults
            .first()
            .map_or(String::new(), |fault| format!("{fault}. {}", fault.hint_en));
        anyhow!(
            "the catalogue {} cannot be used (setting catalogue.path): {first}",
            config.catalogue.display()
        )
    })
}

/// Gives or changes a right. Returns what it now is.
pub fn add(config: &Config, grant: &Grant, by: &str, now: UnixMs) -> anyhow::Result<Right> {
    let catalogue = load_catalogue(config)?;
    let Some(dataset) = catalogue.get(&grant.dataset) else {
        let known: Vec<&str> = catalogue.iter().map(|known| known.id.as_str()).collect();
        bail!(
            "there is no dataset {}; known are {}",
            grant.dataset,
            known.join(", ")
        );
    };
    let pointers =
        |names: &[String]| -> Vec<String> { names.iter().map(|name| pointer(name)).collect() };
    let right = Right {
        fields: (!grant.fields.is_empty()).then(|| pointers(&grant.fields)),
        masked: pointers(&grant.masked),
        rows: match &grant.rows {
            RowsWanted::Own => Rows::Of(vec![grant.agency.clone()]),
            RowsWanted::Of(codes) => Rows::Of(codes.clone()),
            RowsWanted::All => Rows::All,
        },
        sensitive: grant.sensitive,
    };
    right
        .check(dataset)
        .map_err(|fault| anyhow!("{fault}. {}", fault.hint))?;
    ensure!(
        !grant.sensitive || !grant.basis.trim().is_empty(),
        "sensitive personal data needs a legal basis; name the law or decision with --basis"
    );
    let content = serde_json::to_string(&right).context("cannot write the right")?;
    let mut store = registry::open(config)?;
    store.begin()?;
    store.set_right(&RightRow {
        agency: grant.agency.clone(),
        dataset: grant.dataset.clone(),
        content: content.clone(),
        basis: grant.basis.clone(),
        granted: now,
        granted_by: by.to_owned(),
    })?;
    store.add_audit(&AuditRow {
        at: now,
        who: by.to_owned(),
        action: "grant".to_owned(),
        detail: format!(
            "{} {} {content} {}",
            grant.agency, grant.dataset, grant.basis
        )
        .trim_end()
        .to_owned(),
    })?;
    store.commit()?;
    Ok(right)
}

pub fn withdraw(
    config: &Config,
    agency: &AgencyCode,
    dataset: &DatasetId,
    by: &str,
    now: UnixMs,
) -> anyhow::Result<()> {
    let mut store = registry::open(config)?;
    store.begin()?;
    ensure!(
        store.drop_right(agency, dataset)?,
        "{agency} has no right to {dataset}; see trucd grant list"
    );
    store.add_audit(&AuditRow {
        at: now,
        who: by.to_owned(),
        action: "withdraw".to_owned(),
        detail: format!("{agency} {dataset}"),
    })?;
    Ok(store.commit()?)
}

pub fn list(config: &Config) -> anyhow::Result<Vec<Granted>> {
    let rows = registry::open(config)?.rights()?;
    rows.into_iter()
        .map(|row| {
            Ok(Granted {
                right: serde_json::from_str(&row.content)
                    .context("a stored right cannot be read; it was made by a newer program")?,
                agency: row.agency,
                dataset: row.dataset,
                basis: row.basis,
                granted: Stamp(row.granted),
                by: row.granted_by,
            })
        })
        .collect()
}

pub fn audit(config: &Config) -> anyhow::Result<Vec<Audited>> {
    let rows = registry::open(config)?.audit()?;
    let audited = |row: AuditRow| Audited {
        at: Stamp(row.at),
        who: row.who,
        action: row.action,
        detail: row.detail,
    };
    Ok(rows.into_iter().map(audited).collect())
}

/// Who sits at the machine, unless the command line says another name.
pub fn caller(named: Option<String>) -> String {
    let user = || {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok()??;
        Some(user.name)
    };
    named
        .or_else(|| std::env::var("SUDO_USER").ok())
        .or_else(user)
        .unwrap_or_else(|| nix::unistd::getuid().to_string())
}

/// A field's name alone is one at the top.
fn pointer(name: &str) -> String {
    match name.starts_with('/') {
        true => name.to_owned(),
        false => format!("/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_they_are_written() {
        assert_eq!("own".parse(), Ok(RowsWanted::Own));
        assert_eq!("all".parse(), Ok(RowsWanted::All));
        let codes = |codes: &[&str]| {
            RowsWanted::Of(codes.iter().map(|code| code.parse().unwrap()).collect())
        };
        assert_eq!("agency=H53.1,H53.2".parse(), Ok(codes(&["H53.1", "H53.2"])));
        for bad in ["", "agency=", "agency=h53", "H53.1"] {
            assert!(bad.parse::<RowsWanted>().is_err(), "{bad}");
        }
    }
}
