//! The box (`tramd`): takes in the office's records, keeps them, and carries them to the hub.
//!
//! Sources hand records in through [`intake::Intake`]; one thread owns the engine and answers
//! after the commit. Everything that shows the box's state prints one [`status::Status`].

pub mod config;
pub mod intake;
pub mod metrics;
pub mod page;
pub mod status;
