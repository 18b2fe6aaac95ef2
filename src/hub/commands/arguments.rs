//! What may be written on the command line of `trucd`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::hub::grants::RowsWanted;
use crate::hub::output::commands::OutputsCommand;
use crate::hub::{config, records};
use crate::model::chunk::Digest;
use crate::model::{AgencyCode, BoxId, DatasetId, UnixMs};
use crate::shell::dial::Address;

/// Hub of the data axis / trục liên thông: receives the boxes' records and gives signed receipts.
#[derive(Debug, Parser)]
#[command(name = "trucd", version)]
pub struct Cli {
    /// Configuration file [default: /etc/lienthong/trucd.toml, else /var/lib/lienthong/trucd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// off, error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a hub in a folder: authority, keys, database, configuration
    Init(InitArgs),
    /// Receive
    Run,
    /// Register boxes and change their state
    #[command(subcommand)]
    Box(BoxCommand),
    /// The fleet: last seen, positions, what waits, what was lost
    Status(JsonArgs),
    /// The records of a dataset: the present state, or the whole history
    Records(RecordsArgs),
    /// What boxes said they lost, and why; --json prints an object a line
    Gaps(JsonArgs),
    /// Entries that could not be taken into the present state, and why; --json prints an object a line
    Parked(JsonArgs),
    /// Which office may read which dataset
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Who changed which right, or took a file out, and when
    Audit(JsonArgs),
    /// What goes out to databases, files and web services: state, what is parked, replay
    #[command(subcommand)]
    Outputs(OutputsCommand),
    /// Catalogues for all boxes: check, publish, see who has which
    #[command(subcommand)]
    Catalogue(CatalogueCommand),
    /// Give a box a command of the closed list, or list what was given: BOX NAME, --all NAME, list
    #[command(name = "command")]
    Order(OrderArgs),
    /// Attachments: state, from which box, which records name them; get SHA256 --to FILE takes one out
    Attachments(AttachmentsArgs),
    /// How the boxes' logs and copies were last compared with the hub's
    Compare(CompareArgs),
    /// Copy database, files, keys and configuration into one archive, while the hub runs
    Backup(BackupArgs),
    /// Bring a hub back from such an archive, while it is stopped; also on a new machine
    Restore(RestoreArgs),
    /// Take what boxes have put on a stick, and write the receipts beside it
    Import(ImportArgs),
    /// Print the key by which boxes seal what a stick carries: their file seal.pub
    SealKey,
    /// Check every chain and signature that is kept
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it holds the hub's keys, so keep it as safe as them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Leave the contents of attachments out, which are copied by other means
    #[arg(long)]
    pub without_attachments: bool,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Where the stick is mounted; it holds a folder `lienthong`
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Stable JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RestoreArgs {
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Set a database that is there aside
    #[arg(long)]
    pub replace: bool,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Only this box
    #[arg(long = "box", value_name = "BOX")]
    pub box_id: Option<BoxId>,
    /// An object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum CatalogueCommand {
    /// Hold a folder or file against the parser that boxes use
    Check(CheckArgs),
    /// Publish a folder, or the last publication with one file changed
    Publish(PublishArgs),
    /// What was published, and which box has which version
    List(CatalogueListArgs),
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    #[arg(value_name = "FOLDER|FILE")]
    pub path: PathBuf,
}

#[derive(Debug, Args)]
pub struct PublishArgs {
    #[arg(value_name = "FOLDER|FILE")]
    pub path: PathBuf,
    /// The day at whose midnight, Vietnam time, all boxes change [default: tomorrow]
    #[arg(long, value_name = "yyyy-MM-dd")]
    pub effective: Option<String>,
    /// A dataset of which there are records and that is to end; may be repeated
    #[arg(long, value_name = "DATASET")]
    pub end: Vec<DatasetId>,
    /// Who decides, for the audit [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct CatalogueListArgs {
    /// Only this box
    #[arg(long = "box", value_name = "BOX")]
    pub box_id: Option<BoxId>,
    /// Stable JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct OrderArgs {
    /// send_diagnostics, set_bandwidth "HH:MM-HH:MM KBITS"…, pause_source SOURCE, resume_source
    /// SOURCE, reload_copies [DATASET], update_catalogue, compare, restart
    #[arg(required = true, value_name = "[BOX] NAME [VALUE]…")]
    pub words: Vec<String>,
    /// Every box that is not revoked
    #[arg(long)]
    pub all: bool,
    /// A box that hears of it later does not do it any more
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = parse_span)]
    pub expires: i64,
    /// In the list: only this box
    #[arg(long = "box", value_name = "BOX")]
    pub box_id: Option<BoxId>,
    /// In the list: an object a line
    #[arg(long)]
    pub json: bool,
    /// Who decides, for the audit [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// Folder of the new hub
    pub dir: PathBuf,
    /// Name under which boxes reach the hub [default: the first --dns or --ip, else this machine's]
    #[arg(long, value_name = "HOST")]
    pub name: Option<String>,
    /// Where boxes connect to
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8883")]
    pub listen: SocketAddr,
    /// Another host name that the hub's certificate is good for
    #[arg(long, value_name = "NAME")]
    pub dns: Vec<String>,
    /// Another address that the hub's certificate is good for
    #[arg(long, value_name = "ADDRESS")]
    pub ip: Vec<IpAddr>,
}

#[derive(Debug, Subcommand)]
pub enum BoxCommand {
    /// Register a box; write its key material and configuration
    Add(AddArgs),
    /// All registered boxes
    List(JsonArgs),
    /// Refuse a box for a time
    Suspend(BoxArgs),
    /// Take a suspended box in again
    Resume(BoxArgs),
    /// Refuse a box for ever: stolen, broken, replaced
    Revoke(BoxArgs),
    /// Assign a box to another agency
    Move(MoveArgs),
    /// Issue key and certificate again, for a box that can no longer renew them by itself; what it
    /// has now counts until it uses them
    Reissue(ReissueArgs),
}

#[derive(Debug, Args)]
pub struct ReissueArgs {
    #[arg(value_name = "BOX")]
    pub box_id: BoxId,
    /// Folder for box.crt and box.key [default: one below boxes/BOX beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct AddArgs {
    #[arg(value_name = "BOX")]
    pub box_id: BoxId,
    /// Identifier code of the agency that the box stands in, such as H53.12
    #[arg(long, value_name = "CODE")]
    pub agency: AgencyCode,
    /// Folder for the box's files [default: boxes/BOX beside the configuration]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What the box dials, best first; may be repeated [default: hub.box_addresses]
    #[arg(long, value_name = "HOST:PORT", value_parser = config::parse_address)]
    pub hub: Vec<Address>,
}

#[derive(Debug, Args)]
pub struct BoxArgs {
    #[arg(value_name = "BOX")]
    pub box_id: BoxId,
}

#[derive(Debug, Args)]
pub struct MoveArgs {
    #[arg(value_name = "BOX")]
    pub box_id: BoxId,
    #[arg(long, value_name = "CODE")]
    pub agency: AgencyCode,
}

#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Let an office read a dataset, or change what it may read
    Add(GrantArgs),
    /// All rights
    List(JsonArgs),
    /// End a right: the office's copies are deleted
    Withdraw(WithdrawArgs),
}

#[derive(Debug, Args)]
pub struct GrantArgs {
    /// Identifier code of the office that reads
    pub agency: AgencyCode,
    pub dataset: DatasetId,
    /// Fields that may be read, as JSON pointers or names [default: the whole record]
    #[arg(long, value_delimiter = ',', value_name = "FIELD,…")]
    pub fields: Vec<String>,
    /// Fields of which only the last four characters may be read
    #[arg(long, value_delimiter = ',', value_name = "FIELD,…")]
    pub mask: Vec<String>,
    /// own, agency=CODE,… or all: whose records, with those of the offices below
    #[arg(long, default_value = "own")]
    pub rows: RowsWanted,
    /// Sensitive personal data too; needs --basis
    #[arg(long)]
    pub sensitive: bool,
    /// The law or decision that allows it; is stored
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub basis: String,
    /// Who decides, for the audit [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct WithdrawArgs {
    pub agency: AgencyCode,
    pub dataset: DatasetId,
    /// Who decides, for the audit [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

#[derive(Debug, Args)]
pub struct JsonArgs {
    /// Stable JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct RecordsArgs {
    /// Such as ho_so_tthc
    pub dataset: DatasetId,
    /// Received at this time or later: RFC 3339, or a date in Vietnam; deletions are listed too
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<UnixMs>,
    #[arg(long, value_enum, default_value = "ndjson")]
    pub format: records::Format,
    /// Every record that was ever taken, log by log
    #[arg(long)]
    pub history: bool,
    /// Begin CSV with a byte order mark, so that Excel reads Vietnamese
    #[arg(long)]
    pub bom: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Only this box
    #[arg(value_name = "BOX")]
    pub box_id: Option<BoxId>,
    /// Compute the digest of every kept attachment anew, too
    #[arg(long)]
    pub attachments: bool,
    #[command(flatten)]
    pub json: JsonArgs,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AttachmentsArgs {
    #[command(flatten)]
    pub list: ListArgs,
    #[command(subcommand)]
    pub command: Option<AttachmentsCommand>,
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only what this box has sent or named
    #[arg(long = "box", value_name = "BOX")]
    pub box_id: Option<BoxId>,
    /// Only these: expected, receiving, checking, kept, quarantined, lost
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    /// An object a line
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum AttachmentsCommand {
    /// Copy a kept attachment into a file; the audit notes who
    Get(GetArgs),
}

#[derive(Debug, Args)]
pub struct GetArgs {
    #[arg(value_name = "SHA256")]
    pub sha256: Digest,
    /// A file that does not exist yet
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Who takes it, for the audit [default: who is logged in]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
}

/// A span such as `7d`, `12h` or `30m`, in milliseconds.
fn parse_span(text: &str) -> Result<i64, String> {
    let units = [('d', 86_400_000), ('h', 3_600_000), ('m', 60_000)];
    let span = units.into_iter().find_map(|(unit, ms)| {
        let count: u32 = text.strip_suffix(unit)?.trim().parse().ok()?;
        (0 < count && count <= 100_000).then(|| i64::from(count) * ms)
    });
    span.ok_or_else(|| format!("{text:?} is not a span such as 7d, 12h or 30m"))
}

/// RFC 3339, or a date, which begins at midnight in Vietnam.
fn parse_time(text: &str) -> Result<UnixMs, String> {
    let wrong = || format!("{text:?} is neither an RFC 3339 time nor a date (2026-08-01)");
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(UnixMs(time.as_millisecond()));
    }
    let date: jiff::civil::Date = text.parse().map_err(|_| wrong())?;
    let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(7));
    let midnight = date.to_zoned(zone).map_err(|_| wrong())?;
    Ok(UnixMs(midnight.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_made() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn times_in_both_forms() {
        assert_eq!(parse_time("1970-01-02"), Ok(UnixMs(17 * 3_600_000)));
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(UnixMs(1000)));
        assert!(parse_time("hôm qua").is_err());
    }
}
