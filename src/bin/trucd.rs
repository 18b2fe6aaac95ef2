//! The hub's daemon and its commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    lienthong::hub::commands::main()
}
