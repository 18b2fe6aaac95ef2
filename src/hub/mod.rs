//! The hub (`trucd`): its certificate authority.

pub mod authority;
mod certificate;
