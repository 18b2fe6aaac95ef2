//! The hub (`trucd`): its certificate authority, its embedded broker, the receiver, the registry of
//! boxes, and what people look at.

pub mod attachments;
pub mod authority;
pub mod backup;
pub mod broker;
mod certificate;
pub mod commands;
pub mod config;
mod counters;
pub mod grants;
mod http;
pub mod init;
mod mosquitto;
pub mod orders;
pub mod output;
mod pem;
mod receiver;
pub mod records;
pub mod registry;
pub mod renewal;
pub mod run;
mod seal;
pub mod status;
mod stick;
pub mod verify;
