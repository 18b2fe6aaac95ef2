//! The command line of `trucd`. Exit codes: 0 done, 1 fault at run time, 64 usage, 78 configuration.

mod arguments;
mod files;
mod orders;
mod rights;

use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Parser;
use serde_json::json;
use tokio::sync::oneshot;

use crate::hub::backup;
use crate::hub::commands::arguments::{
    BoxCommand, Cli, Command, ImportArgs, InitArgs, JsonArgs, RecordsArgs, VerifyArgs,
};
use crate::hub::config::{self, Config};
use crate::hub::grants::caller;
use crate::hub::init::{self, Plan};
use crate::hub::output::outlook;
use crate::hub::registry::{self, NewBoxPlan};
use crate::hub::run::Hub;
use crate::hub::status::Stamp;
use crate::hub::status::text::table;
use crate::hub::verify::{Summary, Unsound, verify};
use crate::hub::{http, output, records, seal, stick};
use crate::model::{BoxId, UnixMs};
use crate::shell::clock::Clock;
use crate::shell::logging;
use crate::shell::signals::StopSignals;
use crate::store::hub::BoxState;
use crate::store::hub::feed::place_text;
use crate::store::hub_view::{GapRow, Wanted};

const USAGE: u8 = 64;
const CONFIGURATION: u8 = 78;
/// Output is written in pieces of this size.
const PIECE_BYTES: usize = 64 * 1024;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. A terminal that is gone needs neither.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match run(cli) {
        Ok(code) => code,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let faulty = error.downcast_ref::<config::Faults>().is_some();
            eprintln!("trucd: {error:#}");
            ExitCode::from(if faulty { CONFIGURATION } else { 1 })
        }
    }
}

/// Whoever reads our output has had enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let now = Clock::start(UnixMs(0)).now().wall;
    let command = match cli.command {
        Command::Init(args) => return init(args, now).map(|()| ExitCode::SUCCESS),
        Command::Restore(args) => {
            let file = cli.config.unwrap_or_else(config::default_file);
            return print_text(&backup::restore(&file, &args.file, args.replace, now)?)
                .map(|()| ExitCode::SUCCESS);
        }
        command => command,
    };
    let config = config::load(&cli.config.unwrap_or_else(config::default_file))?;
    match command {
        Command::Init(_) | Command::Restore(_) => {
            unreachable!("done above, without a configuration")
        }
        Command::Backup(args) => {
            let with_files = !args.without_attachments;
            print_text(&backup::backup(&config, &args.file, with_files, now)?)?;
        }
        Command::Run => receive(config, cli.log_level.as_deref())?,
        Command::Box(command) => boxes(&config, command, now)?,
        Command::Status(args) => status(&config, &args, now)?,
        Command::Records(args) => write_records(&config, &args)?,
        Command::Gaps(args) => gaps(&config, &args)?,
        Command::Parked(args) => parked(&config, &args, now)?,
        Command::Grant(command) => rights::run(&config, command, now)?,
        Command::Audit(args) => rights::audit(&config, &args)?,
        Command::Catalogue(command) => orders::catalogue(&config, command, now)?,
        Command::Order(args) => orders::command(&config, &args, now)?,
        Command::Compare(args) => orders::compared(&config, &args)?,
        Command::Outputs(command) => print_text(&output::commands::run(&config, &command, now)?)?,
        Command::Attachments(args) => files::run(&config, args, now)?,
        Command::Import(args) => return import(&config, &args, now),
        Command::SealKey => print_text(&seal::keys(&config)?.1.to_pem())?,
        Command::Verify(args) => return verify_store(&config, &args),
    }
    Ok(ExitCode::SUCCESS)
}

fn init(args: InitArgs, now: UnixMs) -> anyhow::Result<()> {
    let names: Vec<String> = args
        .dns
        .into_iter()
        .chain(args.ip.iter().map(IpAddr::to_string))
        .collect();
    let name = match args.name.or_else(|| names.first().cloned()) {
        Some(name) => name,
        None => this_machine()?,
    };
    for name in names.iter().chain([&name]) {
        if !config::is_host_name(name) && name.parse::<IpAddr>().is_err() {
            bail!("{name:?} is neither a host name nor an IP address");
        }
    }
    let folder = std::path::absolute(&args.dir)
        .with_context(|| format!("cannot find {}", args.dir.display()))?;
    let plan = Plan {
        folder,
        name,
        listen: args.listen,
        names,
    };
    init::init(&plan, now)?;
    let file = plan.folder.join(config::FILE_NAME);
    let file = file.display();
    println!("Đã tạo trục / a hub was made: {}", plan.folder.display());
    println!("Tiếp theo / next:");
    println!("  trucd run --config {file}");
    println!("  trucd box add xa-tan-bien --agency H53.12 --config {file}");
    println!("Sao lưu nơi an toàn / back up in a safe place: ca.key, receipt.key, seal.key");
    if nix::unistd::geteuid().is_root() {
        println!(
            "Thư mục thuộc root; chạy trucd bằng tài khoản khác thì chuyển chủ sở hữu. / The folder \
             belongs to root; give it to the user that runs trucd."
        );
    }
    Ok(())
}

fn this_machine() -> anyhow::Result<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .context("cannot read this machine's name; give one with --name")?;
    Ok(name.trim().to_owned())
}

fn receive(config: Config, log_level: Option<&str>) -> anyhow::Result<()> {
    logging::init(log_level.or(Some(&config.log_level)))?;
    // Without it all but sticks works.
    if let Err(error) = seal::keys(&config) {
        tracing::warn!(
            error = format!("{error:#}"),
            "there is no key that opens what boxes bring on sticks"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let hub = Hub::start(config).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        // A sender that is dropped means stop as well.
        let mut running = std::pin::pin!(hub.run(async { drop(stopped.await) }));
        tokio::select! {
            ended = &mut running => return ended,
            () = signals.next() => drop(stop),
        }
        tokio::select! {
            ended = running => ended,
            () = signals.next() => Err(anyhow!("stopped at once by a second signal")),
        }
    })
}

fn boxes(config: &Config, command: BoxCommand, now: UnixMs) -> anyhow::Result<()> {
    match command {
        BoxCommand::Add(args) => {
            let plan = NewBoxPlan {
                box_id: args.box_id,
                agency: args.agency,
                out: args.out,
                addresses: args.hub,
            };
            let folder = registry::add(config, &plan, now)?;
            println!(
                "Đã đăng ký trạm {}; chép thư mục này sang trạm, rồi xóa ở đây / registered; copy \
                 this folder to the box, then delete it here:",
                plan.box_id
            );
            println!("{}", folder.display());
            Ok(())
        }
        BoxCommand::Reissue(args) => {
            let (box_id, out) = (&args.box_id, args.out.as_deref());
            let folder = registry::reissue(config, box_id, out, &caller(None), now)?;
            println!(
                "Đã cấp lại cho trạm {box_id}; chép box.crt và box.key đè lên tệp của trạm, khởi động \
                 lại tramd, rồi xóa ở đây / issued again; copy both over the box's files, restart \
                 tramd, then delete them here:"
            );
            println!("{}", folder.display());
            Ok(())
        }
        BoxCommand::List(args) => list(config, &args, now),
        BoxCommand::Suspend(args) => set_state(config, &args.box_id, BoxState::Suspended),
        BoxCommand::Resume(args) => set_state(config, &args.box_id, BoxState::Active),
        BoxCommand::Revoke(args) => set_state(config, &args.box_id, BoxState::Revoked),
        BoxCommand::Move(args) => {
            registry::move_to(config, &args.box_id, &args.agency, now)?;
            println!("{} → {}", args.box_id, args.agency);
            Ok(())
        }
    }
}

fn set_state(config: &Config, box_id: &BoxId, state: BoxState) -> anyhow::Result<()> {
    registry::set_state(config, box_id, state)?;
    println!("{box_id}: {}", state.as_str());
    Ok(())
}

fn list(config: &Config, args: &JsonArgs, now: UnixMs) -> anyhow::Result<()> {
    let boxes = registry::list(config, now)?;
    if args.json {
        return print_json(&json!({ "boxes": boxes }));
    }
    let header = [
        "Trạm (box)",
        "Cơ quan (agency)",
        "Trạng thái (state)",
        "Đăng ký (registered)",
        "Chứng thư (days)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(boxes.iter().map(|known| {
        [
            known.box_id.to_string(),
            known.agency.to_string(),
            known.state.as_str().to_owned(),
            known.registered.0.to_string(),
            known.certificate_days.to_string(),
        ]
    }));
    print_text(&table(&rows))
}

fn status(config: &Config, args: &JsonArgs, now: UnixMs) -> anyhow::Result<()> {
    let status = http::read_status(config, now)?;
    match args.json {
        true => print_json(&status),
        false => print_text(&status.to_text()),
    }
}

fn write_records(config: &Config, args: &RecordsArgs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let snapshot = view.snapshot()?;
    let wanted = Wanted {
        dataset: &args.dataset,
        since: args.since,
        history: args.history,
        // Who asks for changes has to learn what is gone.
        deleted: args.since.is_some(),
    };
    let mut out = BufWriter::with_capacity(PIECE_BYTES, io::stdout().lock());
    let count = records::write(&snapshot, wanted, args.format, args.bom, &mut out)?;
    out.flush()?;
    if count == 0 {
        eprintln!(
            "trucd: không có bản ghi nào của {} / no records of {}",
            args.dataset, args.dataset
        );
    }
    Ok(())
}

fn gaps(config: &Config, args: &JsonArgs) -> anyhow::Result<()> {
    let gaps = registry::open_view(config)?.snapshot()?.gaps()?;
    if args.json {
        let line = |gap: &GapRow| {
            let gap = json!({
                "box": gap.box_id, "epoch": gap.epoch, "lane": gap.lane,
                "first": gap.first, "last": gap.last,
                "reason": gap.reason, "noted": Stamp(gap.noted),
            });
            format!("{gap}\n")
        };
        return print_text(&gaps.iter().map(line).collect::<String>());
    }
    let header = [
        "Trạm (box)",
        "epoch",
        "Làn (lane)",
        "Từ (first)",
        "Đến (last)",
        "Lý do (reason)",
        "Ghi nhận (noted)",
    ];
    let mut rows = vec![header.map(str::to_owned)];
    rows.extend(gaps.iter().map(|gap| {
        [
            gap.box_id.to_string(),
            gap.epoch.to_string(),
            gap.lane.to_string(),
            gap.first.to_string(),
            gap.last.to_string(),
            gap.reason.clone(),
            gap.noted.to_string(),
        ]
    }));
    print_text(&table(&rows))
}

/// A line each, because there may be many.
fn parked(config: &Config, args: &JsonArgs, now: UnixMs) -> anyhow::Result<()> {
    let view = registry::open_view(config)?;
    let mut out = BufWriter::with_capacity(PIECE_BYTES, io::stdout().lock());
    view.snapshot()?
        .for_each_parked::<anyhow::Error>(|parked| {
            let dataset = parked.dataset.as_deref();
            if args.json {
                let line = json!({
                    "box": parked.box_id, "epoch": parked.epoch, "lane": parked.lane,
                    "seq": parked.seq, "dataset": dataset, "reason": parked.reason,
                    "detail": parked.detail, "parked": Stamp(parked.parked),
                });
                writeln!(out, "{line}")?;
            } else {
                writeln!(
                    out,
                    "{} {} {} {} {} {} {} {}",
                    parked.parked,
                    parked.box_id,
                    parked.epoch,
                    parked.lane,
                    parked.seq,
                    dataset.unwrap_or("—"),
                    parked.reason,
                    parked.detail
                )?;
            }
            Ok(())
        })?;
    for waiting in registry::open(config)?.undelivered(0, u64::from(u32::MAX))? {
        let place = place_text(waiting.place);
        match args.json {
            true => {
                let line = json!({
                    "entry": place, "recipient": waiting.recipient, "reason": waiting.reason,
                    "parked": Stamp(waiting.noted),
                });
                writeln!(out, "{line}")?;
            }
            false => writeln!(
                out,
                "{} {place} → {} {}",
                waiting.noted, waiting.recipient, waiting.reason
            )?,
        }
    }
    // What outputs hold has commands of its own, which can try it again.
    if !args.json {
        for output in outlook::read(config, &view, now)? {
            if 0 < output.parked {
                writeln!(
                    out,
                    "→ {}: {} mục tạm giữ ở đầu ra, xem: trucd outputs parked {} / parked at the output",
                    output.name, output.parked, output.name
                )?;
            }
        }
    }
    Ok(out.flush()?)
}

fn import(config: &Config, args: &ImportArgs, now: UnixMs) -> anyhow::Result<ExitCode> {
    let brought = stick::import(config, &args.dir, now)?;
    match args.json {
        true => print_json(&brought)?,
        false => print_text(&brought.to_string())?,
    }
    Ok(match brought.is_good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn verify_store(config: &Config, args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let view = registry::open_view(config)?;
    if let Some(box_id) = &args.box_id
        && view.snapshot()?.box_row(box_id)?.is_none()
    {
        bail!("box {box_id} is not registered; see trucd box list");
    }
    let print = |summary: Summary| match args.json.json {
        true => println!("{}", json!(summary)),
        false => println!(
            "{}: {} mục, {} gói ký, {} mất, {} tạm giữ: đúng / {} entries in {} logs, {} signed \
             batches, {} doubles, {} lost, {} parked: sound",
            summary.box_id,
            summary.entries,
            summary.batches,
            summary.lost,
            summary.parked,
            summary.entries,
            summary.logs,
            summary.batches,
            summary.doubles,
            summary.lost,
            summary.parked
        ),
    };
    match verify(&view, args.box_id.as_ref(), print) {
        Ok(()) if args.attachments => files::verify(config, &view, args.json.json),
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(Unsound::Store(error)) => Err(anyhow!("{error}. {}", error.hint())),
        Err(Unsound::Fault(fault)) => {
            if args.json.json {
                println!("{}", json!({ "fault": fault.to_string() }));
            }
            eprintln!("trucd: {fault}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")?;
    print_text(&format!("{text}\n"))
}

fn print_text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
