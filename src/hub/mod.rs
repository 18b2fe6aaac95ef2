//! The hub (`trucd`): its certificate authority and its embedded broker.

pub mod authority;
pub mod broker;
mod certificate;
