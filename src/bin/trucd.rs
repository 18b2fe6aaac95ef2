//! The hub's daemon and its commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "planted-faults")]
    if std::env::var_os("LIENTHONG_WEAK_SYNC").is_some() {
        lienthong::model::fault::weaken_sync();
    }
    lienthong::hub::commands::main()
}
