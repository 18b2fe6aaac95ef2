//! The box (`tramd`): takes in the office's records, keeps them, and carries them to the hub.
//!
//! Sources hand records in through [`intake::Intake`]; one thread owns the engine and answers
//! after the commit. Everything that shows the box's state prints one [`status::Status`].

mod arrivals;
mod attachments;
pub mod backup;
pub mod blobs;
pub mod bundle;
pub mod check;
pub mod columns;
pub mod commands;
pub mod config;
pub mod connectors;
pub mod door;
pub mod drill;
pub mod folder;
pub mod ftp;
pub mod ftp_fetch;
pub mod http;
pub mod http_pull;
mod identity;
pub mod inbox;
pub mod intake;
pub mod json_rows;
mod link;
mod listen;
mod live;
mod lock;
pub mod look;
pub mod lookup;
pub mod metrics;
pub mod mqtt_source;
mod named;
pub mod orders;
mod owner;
pub mod page;
mod problem;
pub mod published;
pub mod put;
pub mod received;
pub mod records;
mod reserve;
pub mod rows;
pub mod run;
pub mod sources;
pub mod sql;
pub mod status;
mod status_text;
mod sweep;
mod talk;
mod texts;
mod tokens;
mod trust;
mod wear;
pub mod workbook;
