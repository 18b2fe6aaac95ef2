//! A real browser at a real box's page: every state of it reached for real, judged as its people meet
//! it, and kept in pictures.
#![cfg(all(feature = "edge", feature = "hub"))]
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for by the real clock"
)]

mod broker;
#[path = "../bed/certificates.rs"]
#[allow(dead_code)]
mod certificates;
mod driver;
mod judge;
mod keyboard;
mod link;
mod manual;
mod office;
#[path = "../bed/one_box.rs"]
#[allow(dead_code)]
mod one_box;
mod privacy;
#[path = "../e2e/rig.rs"]
#[allow(dead_code)]
mod rig;
mod states;
mod technician;
