//! The box (`tramd`): takes in the office's records, keeps them, and carries them to the hub.
//!
//! Sources hand records in through [`intake::Intake`]; one thread owns the engine and answers
//! after the commit. Everything that shows the box's state prints one [`status::Status`].

pub mod config;
pub mod door;
pub mod folder;
pub mod intake;
pub mod live;
pub mod lock;
pub mod metrics;
pub mod owner;
pub mod page;
pub mod reserve;
pub mod status;
mod texts;
