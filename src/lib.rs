//! Store-and-forward gateway for Vietnam's provincial data axes: the box (`tramd`) and the hub
//! (`trucd`).
//!
//! # The promise
//!
//! 1. *Accepted means committed and synced*: a source hears "accepted" only after its records and
//!    its cursor are in one committed SQLite transaction with `synchronous=FULL`.
//! 2. *Forgotten only after the hub's own commit*: only a signed receipt lets the box forget.
//! 3. *Once, in order, and provable*: entries are chained by hash, batches and receipts signed.
//! 4. *What is lost by force is said*, in the hub's gap ledger.
//! 5. *A full box refuses at the door.*
//!
//! # Rings and floors
//!
//! A pure core (`sync`) holds numbers and deadlines; a synchronous `engine` joins it to the store
//! so that effects leave only after the commit; shells around it do sockets, files and clocks.
//! A module imports only from lower floors, and `tests/tidy.rs` checks it:
//!
//! | Floor | Room |
//! |---|---|
//! | 7 | `bin/*` |
//! | 6 | `edge` (the box), `hub`; never each other |
//! | 5 | `shell` |
//! | 4 | `engine` |
//! | 3 | `wire` |
//! | 2 | `sync`, `store`, `formats`, `catalogue`, `evidence`, `pack`; never each other |
//! | 1 | `model` |

pub mod catalogue;
#[cfg(feature = "edge")]
pub mod edge;
pub mod engine;
pub mod evidence;
pub mod formats;
#[cfg(feature = "hub")]
pub mod hub;
pub mod model;
pub mod pack;
pub mod shell;
pub mod store;
pub mod sync;
pub mod wire;
