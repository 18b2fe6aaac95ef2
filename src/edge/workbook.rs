//! Workbooks are opened in a process of their own: this program once more, with little memory.
//!
//! The library that reads them panics on some damaged files of the old form, and fills hundreds of
//! megabytes for one cell in a far corner. Either costs one file here: the box would otherwise end,
//! start again, and find the same file.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use nix::sys::resource::{Resource, setrlimit};

use crate::formats::Faults;
use crate::formats::sheet::{self, Choice, Table, damaged, too_wide, unpack};
use crate::formats::table::Columns;

/// Memory that the process may ask for. The unit's `MemoryMax=` leaves room for it beside the box.
const MEMORY_BYTES_MAX: u64 = 192 << 20;
/// Time on the processor, seconds; the largest workbook takes a tenth of it on a small board.
const CPU_S_MAX: u64 = 60;
/// How much is kept of what the process complains.
const COMPLAINT_BYTES_MAX: u64 = 64 * 1024;
/// First argument of the process; the name of the sheet may follow.
const ARGUMENT: &str = "unpack-workbook";

/// The program that unpacks. Where none was named, as in tests of the library, this process does.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// To be called first in the program's `main`: unpacks a workbook and tells so, where the arguments
/// ask for that, and otherwise lets workbooks be unpacked by this same program.
pub fn is_unpacker(arguments: &[OsString]) -> bool {
    match arguments {
        [_, argument, sheet @ ..] if argument == ARGUMENT => {
            let sheet = sheet.first().and_then(|sheet| sheet.to_str());
            // The other end sees that the last line is missing.
            let _ = unpack_here(sheet);
            true
        }
        _ => {
            // The file itself, even after an update has put another one into its place.
            let _ = PROGRAM.set(PathBuf::from("/proc/self/exe"));
            false
        }
    }
}

/// From standard input to standard output.
fn unpack_here(sheet: Option<&str>) -> io::Result<()> {
    // Where the limits cannot be set, those of the unit hold.
    let _ = setrlimit(Resource::RLIMIT_DATA, MEMORY_BYTES_MAX, MEMORY_BYTES_MAX);
    let _ = setrlimit(Resource::RLIMIT_CPU, CPU_S_MAX, CPU_S_MAX);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // When memory runs out, this process goes and the box stays.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut bytes = Vec::new();
    io::stdin().lock().read_to_end(&mut bytes)?;
    let mut out = BufWriter::new(io::stdout().lock());
    unpack::unpack(&bytes, sheet, &mut out)?;
    out.flush()
}

/// Reads a sheet whole, or says everything that is wrong with it. The outer error is that no
/// process can be started now.
pub fn parse(
    bytes: &[u8],
    choice: &Choice,
    columns: &Columns,
    records_max: usize,
) -> io::Result<Result<Table, Faults>> {
    /// One at a time: a form with a hundred workbooks must not take the machine's memory.
    static TURN: Mutex<()> = Mutex::new(());
    let Some(program) = PROGRAM.get() else {
        return Ok(sheet::parse(bytes, choice, columns, records_max));
    };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = Command::new(program)
        .arg(ARGUMENT)
        .args(&choice.sheet)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let read = talk(&mut child, bytes, choice, columns, records_max);
    // It may still write what nobody wants.
    let _ = child.kill();
    child.wait()?;
    read
}

fn talk(
    child: &mut Child,
    bytes: &[u8],
    choice: &Choice,
    columns: &Columns,
    records_max: usize,
) -> io::Result<Result<Table, Faults>> {
    let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        unreachable!("all three were piped");
    };
    std::thread::scope(|scope| {
        // A process that ends early breaks the pipe; what it wrote before decides.
        scope.spawn(move || stdin.write_all(bytes));
        let complaint = scope.spawn(move || {
            let mut complaint = String::new();
            let _ = (&mut stderr)
                .take(COMPLAINT_BYTES_MAX)
                .read_to_string(&mut complaint);
            complaint
        });
        let mut lines = BufReader::new(stdout);
        let read = sheet::read(&mut lines, choice, columns, records_max);
        if read.is_ok() {
            drop(lines);
            return Ok(read);
        }
        // The end of a process that did its work is no news; a fault of its own is.
        io::copy(&mut lines, &mut io::sink())?;
        let complaint = complaint.join().unwrap_or_default();
        let status = child.wait()?;
        Ok(match status.success() {
            true => read,
            false if complaint.contains("panicked") => Err(damaged("damaged").into()),
            false => Err(too_wide().into()),
        })
    })
}
