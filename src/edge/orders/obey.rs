//! The closed list of commands, done. Each is safe to repeat: it is remembered that it has begun
//! and that it is through, and what lies between can be done twice.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

use super::rotate::{Certificate, ToProve};
use super::{BANDWIDTH, Orders, PAUSED, compare};
use crate::edge::config::Config;
use crate::edge::published::CatalogueStatus;
use crate::evidence::CommandClaim;
use crate::model::UnixMs;
use crate::model::order::{NotAnOrder, Order};
use crate::store::StoreError;
use crate::store::down::DownStore;
use crate::store::orders::{CommandRow, CommandState, Said, SettingRow};

/// Longest detail of an answer, well within an entry.
const DETAIL_BYTES_MAX: usize = 50_000;

/// How a command ended, and what there is to say.
pub(super) struct Outcome {
    state: CommandState,
    detail: String,
    setting: Option<Setting>,
    /// The hub is to hear where the logs stand.
    says_logs: bool,
}

/// What commands have left to do.
#[derive(Default)]
pub(super) struct Left {
    /// The daemon is to end now.
    pub restart: bool,
    /// A certificate is to be tried.
    pub to_prove: Option<Box<ToProve>>,
}

/// A change of a setting, written in the transaction that ends its command.
pub(super) enum Setting {
    Put(String, String),
    Drop(String),
}

impl Outcome {
    pub fn new(state: CommandState, detail: impl Into<String>) -> Outcome {
        Outcome {
            state,
            detail: detail.into(),
            setting: None,
            says_logs: false,
        }
    }

    fn set(setting: Setting, detail: impl Into<String>) -> Outcome {
        Outcome {
            setting: Some(setting),
            ..Outcome::new(CommandState::Done, detail)
        }
    }
}

/// The setting that an order makes, and what there is to say of it; none for an order that sets
/// nothing. The error says what the order lacks.
pub(super) fn setting(config: &Config, order: &Order) -> Result<Option<(Setting, String)>, String> {
    Ok(Some(match order {
        Order::SetBandwidth(timetable) if timetable.is_empty() => (
            Setting::Drop(BANDWIDTH.to_owned()),
            "theo cấu hình của trạm / as the box's configuration says".to_owned(),
        ),
        Order::SetBandwidth(timetable) => {
            let hours = timetable.texts();
            (
                Setting::Put(BANDWIDTH.to_owned(), json!(hours).to_string()),
                hours.join("; "),
            )
        }
        Order::PauseSource(source) => {
            let mut names = config
                .sources
                .iter()
                .map(|known| &known.name)
                .chain(config.http.tokens.iter().map(|token| &token.name));
            if !names.any(|known| known == source) {
                return Err(format!(
                    "không có nguồn {source} / there is no source {source}"
                ));
            }
            (
                Setting::Put(format!("{PAUSED}{source}"), "true".to_owned()),
                source.to_string(),
            )
        }
        Order::ResumeSource(source) => (
            Setting::Drop(format!("{PAUSED}{source}")),
            source.to_string(),
        ),
        _ => return Ok(None),
    }))
}

/// In the open transaction.
pub(super) fn write_setting(
    store: &mut DownStore,
    setting: &Setting,
    by: &str,
    at: UnixMs,
) -> Result<(), StoreError> {
    match setting {
        Setting::Put(name, value) => store.put_setting(&SettingRow {
            name: name.clone(),
            value: value.clone(),
            by: by.to_owned(),
            at,
        }),
        Setting::Drop(name) => store.drop_setting(name),
    }
}

impl Orders {
    /// Does the commands that are not through; says what is left to do outside of the store. What is
    /// begun and not through in the first round was begun before the last start.
    pub(super) fn obey(&self, store: &mut DownStore, is_first: bool) -> Result<Left, StoreError> {
        let mut left = Left::default();
        for row in store.open_commands()? {
            let now = self.clock.now().wall;
            let order = match self.understand(&row, now) {
                Ok(order) => order,
                Err(outcome) => {
                    self.conclude(store, &row, &outcome, now)?;
                    continue;
                }
            };
            if order == Order::Restart && row.state == CommandState::Begun && !is_first {
                left.restart = true;
                continue;
            }
            if row.state == CommandState::Waiting {
                store.set_command(row.number, CommandState::Begun, now)?;
            } else if order == Order::Restart {
                let done = Outcome::new(CommandState::Done, "");
                self.conclude(store, &row, &done, now)?;
                continue;
            }
            match order {
                Order::Restart => left.restart = true,
                Order::UseCertificate(pem) => match self.take_certificate(&pem, now) {
                    Certificate::Settled(outcome) => self.conclude(store, &row, &outcome, now)?,
                    Certificate::ToProve(to_prove) => left.to_prove = Some(to_prove),
                    Certificate::Waits => {}
                },
                order => {
                    let outcome = self.act(order, row.command.id.as_str());
                    self.conclude(store, &row, &outcome, now)?;
                }
            }
        }
        Ok(left)
    }

    /// What is to be done, or why nothing is.
    fn understand(&self, row: &CommandRow, now: UnixMs) -> Result<Order, Outcome> {
        let command = &row.command;
        let claim = CommandClaim {
            box_id: &self.config.box_id,
            id: command.id.as_str(),
            name: &command.name,
            arguments: command.arguments.get(),
            expires: command.expires,
            by: &command.by,
        };
        let signature = BASE64.decode(&command.signature).ok();
        let signature = signature.and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let is_signed = signature.is_some_and(|signature| {
            let mut keys = self.hub_keys.iter();
            keys.any(|key| key.verify(&claim, &signature).is_ok())
        });
        if !is_signed {
            let why = "chữ ký không phải của trục / the signature is not the hub's";
            return Err(Outcome::new(CommandState::Refused, why));
        }
        // What has begun is brought to its end.
        if row.state == CommandState::Waiting && command.expires < now {
            return Err(Outcome::new(CommandState::Expired, ""));
        }
        Order::parse(&command.name, command.arguments.get()).map_err(|error| match error {
            NotAnOrder::Unknown => Outcome::new(CommandState::Unknown, ""),
            NotAnOrder::Arguments(why) => Outcome::new(CommandState::Refused, why),
        })
    }

    fn act(&self, order: Order, id: &str) -> Outcome {
        match setting(&self.config, &order) {
            Ok(Some((setting, detail))) => return Outcome::set(setting, detail),
            Ok(None) => {}
            Err(why) => return Outcome::new(CommandState::Failed, why),
        }
        match order {
            Order::SendDiagnostics => self.diagnostics(),
            Order::SetBandwidth(_) | Order::PauseSource(_) | Order::ResumeSource(_) => {
                unreachable!("they set something")
            }
            // The hub does the rest: it sends again what it was asked for.
            Order::ReloadCopies(dataset) => Outcome::new(
                CommandState::Done,
                dataset.map_or("*".to_owned(), |dataset| dataset.to_string()),
            ),
            Order::UpdateCatalogue => {
                let status = CatalogueStatus::read(&self.config.store.down_path());
                Outcome::new(CommandState::Done, json!(status).to_string())
            }
            Order::Compare => Outcome {
                says_logs: true,
                ..Outcome::new(CommandState::Done, "")
            },
            Order::RotateKey => self.new_key(id),
            Order::Restart | Order::UseCertificate(_) => {
                unreachable!("it does not end with an act of this process")
            }
        }
    }

    /// The status, which holds no personal data; without its events when it is too long.
    fn diagnostics(&self) -> Outcome {
        let mut status = self.reader.read();
        loop {
            let text = serde_json::to_string(&status).expect("a status is plain JSON");
            if text.len() <= DETAIL_BYTES_MAX {
                return Outcome::new(CommandState::Done, text);
            }
            if status.events.is_empty() {
                return Outcome::new(CommandState::Failed, "the status is too long");
            }
            status.events.truncate(status.events.len() / 2);
        }
    }

    /// The end of a command, in one transaction.
    fn conclude(
        &self,
        store: &mut DownStore,
        row: &CommandRow,
        outcome: &Outcome,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        let command = &row.command;
        let result = outcome.state.as_str();
        let limited = |text: &str, most: usize| text.chars().take(most).collect::<String>();
        let name = match command.name.is_empty() {
            true => "-".to_owned(),
            false => limited(&command.name, 100),
        };
        let answer = json!({
            "thiet_bi": self.config.box_id,
            "loai": "lenh",
            "ma": command.id,
            "ten": name,
            "trang_thai": result,
            "nguoi": limited(&command.by, 200),
            "thoi_diem": now.to_string(),
            "chi_tiet": outcome.detail,
        });
        let said = Said {
            who: &command.by,
            what: "command",
            id: command.id.as_str(),
            name: &name,
            result,
            detail: &outcome.detail,
            answer: Some(answer.to_string()),
        };
        tracing::info!(id = %command.id, name, result, "a command of the hub's is through");
        store.begin()?;
        let done = self.write(store, row, outcome, &said, now);
        match done {
            Ok(()) => store.commit(),
            Err(error) => {
                // The first error says what is wrong.
                let _ = store.roll_back();
                Err(error)
            }
        }
    }

    fn write(
        &self,
        store: &mut DownStore,
        row: &CommandRow,
        outcome: &Outcome,
        said: &Said<'_>,
        now: UnixMs,
    ) -> Result<(), StoreError> {
        if let Some(setting) = &outcome.setting {
            write_setting(store, setting, &row.command.by, now)?;
        }
        if outcome.says_logs {
            compare::say_logs(store, &self.config, &row.command.by, now)?;
        }
        store.set_command(row.number, outcome.state, now)?;
        store.say(said, now)
    }
}
