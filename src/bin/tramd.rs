//! `tramd`, the box's daemon and its commands.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use lienthong::edge::accounts;
use lienthong::edge::accounts::password::is_hasher;
use lienthong::edge::backup;
use lienthong::edge::bundle::bundle;
use lienthong::edge::check::check;
use lienthong::edge::commands::{self, Failure, config_path};
use lienthong::edge::drill::drill;
use lienthong::edge::look;
use lienthong::edge::orders;
use lienthong::edge::put::{Put, put};
use lienthong::edge::run::run;
use lienthong::edge::sources;
use lienthong::edge::stick;
use lienthong::edge::workbook::is_unpacker;

/// Trạm liên thông: nhận dữ liệu của cơ quan, giữ an toàn, chuyển về trục.
/// The box of the axis: takes in the office's data, keeps it safe, carries it to the hub.
#[derive(Parser)]
#[command(name = "tramd", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Tệp cấu hình / the configuration [default: /etc/lienthong/tramd.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Mức nhật ký / off, error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Chạy dịch vụ / run the daemon
    Run,
    /// In cấu hình đang có hiệu lực và nguồn gốc từng giá trị / print the effective configuration
    Config,
    /// Trạng thái của trạm / what the page shows
    Status {
        /// JSON cho chương trình đọc / JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Kiểm tra tại chỗ, chỉ ra chỗ hỏng và cách sửa / field diagnosis
    Check {
        /// JSON cho chương trình đọc / JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Chứng thư của trang trong mạng nội bộ (PEM), để so dấu vân tay / the page's certificate
    Certificate,
    /// Trục và kỹ thuật viên đã ra lệnh gì, trạm đã làm gì / what was done, and on whose word
    Audit {
        /// JSON, mỗi dòng một mục / JSON, a line each
        #[arg(long)]
        json: bool,
    },
    /// Sao lưu kho của trạm trong khi chạy, có khôi phục thử / a verified copy of the store while it runs
    Backup {
        /// Tệp sẽ ghi, ví dụ /mnt/saoluu/xa.tar.zst / the file to write
        file: PathBuf,
    },
    /// Gói chẩn đoán gửi cho người hỗ trợ, không có dữ liệu cá nhân / diagnostics in one zip file
    Bundle {
        /// Tệp zip sẽ ghi / the file to write
        file: PathBuf,
    },
    /// Diễn tập hằng năm trên bản sao, in biên bản / the yearly rehearsal on copies, with a report
    Drill,
    /// Khôi phục kho từ bản sao lưu, khi dịch vụ đã dừng / restore the store, while the daemon is stopped
    Restore {
        /// Tệp sao lưu / the backup
        file: PathBuf,
        /// Cất cả những bản ghi chưa gửi sang một bên / also when records wait here
        #[arg(long)]
        replace: bool,
    },
    /// Ghi dữ liệu chờ gửi ra USB cho trục, đã mã hóa và ký / write what waits onto a stick for the hub
    Export {
        /// Thư mục gắn USB, ví dụ /media/usb / where the stick is mounted
        dir: PathBuf,
        /// Chỉ chuẩn bị USB: sau đó cắm vào trạm là tự ghi / only prepare the stick for this box
        #[arg(long)]
        prepare: bool,
    },
    /// Nhận biên nhận của trục từ USB / take the hub's receipts from a stick
    Import {
        /// Thư mục gắn USB, ví dụ /media/usb / where the stick is mounted
        dir: PathBuf,
    },
    /// Do systemd chạy khi cắm USB / run by systemd when a stick is plugged in
    #[command(hide = true)]
    Stick {
        /// Thiết bị, ví dụ /dev/sdb1 / the device
        device: PathBuf,
    },
    /// Tài khoản kỹ thuật viên trên trang của trạm / technicians' accounts on the box's page
    #[command(subcommand)]
    Account(Account),
    /// Nguồn dữ liệu: liệt kê, xem và xử lý dòng bị giữ lại / sources and their parked rows
    #[command(subcommand)]
    Sources(Sources),
    /// Đưa bản ghi vào bằng tay / hand in records by hand
    Put {
        /// Mã bộ dữ liệu / the dataset's id
        dataset: String,
        /// Tệp JSON hoặc NDJSON, `-` là đầu vào chuẩn / a file, `-` for standard input
        file: PathBuf,
        /// Mỗi dòng một bản ghi (mặc định theo đuôi tệp) / one record a line
        #[arg(long)]
        ndjson: bool,
        /// upsert, delete, snapshot
        #[arg(long, default_value = "upsert")]
        op: String,
        /// Khóa để gửi lại không bị trùng / makes a repeat harmless
        #[arg(long)]
        key: Option<String>,
    },
}

#[derive(Subcommand)]
enum Account {
    /// In mã dùng một lần: tạo tài khoản, hoặc đặt lại mật khẩu / print a one-time code
    Code,
    /// Các tài khoản / the accounts
    List,
    /// Xóa một tài khoản / remove an account
    Remove {
        /// Tên tài khoản / the account's name
        name: String,
    },
}

#[derive(Subcommand)]
enum Sources {
    /// Các nguồn và tình trạng / the sources and how they stand
    List {
        /// JSON cho chương trình đọc / JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Đọc thử, không lưu gì / read a sample, keep nothing
    Try {
        /// Tên nguồn / the source's name
        name: String,
    },
    /// Liệt kê bảng, cột hoặc tệp và gợi ý ánh xạ / list tables, columns or files, propose a mapping
    Discover {
        /// Tên nguồn / the source's name
        name: String,
    },
    /// Đọc lại cơ sở dữ liệu từ một giá trị watermark / read a database again from a watermark
    Rewind {
        /// Tên nguồn / the source's name
        name: String,
        /// Giá trị đã đọc đến / the value read so far
        #[arg(long, value_name = "MARK")]
        to: String,
    },
    /// Cho phép một lần lượt đọc sau xóa nhiều dòng / let the next reading delete many rows, once
    AllowDeletes {
        /// Tên nguồn / the source's name
        name: String,
    },
    /// Các dòng bị giữ lại và lý do / the rows that are parked, and why
    Parked {
        /// Tên nguồn / the source's name
        name: String,
        /// JSON cho chương trình đọc / JSON for programs
        #[arg(long)]
        json: bool,
    },
    /// Đưa lại các dòng bị giữ / hand parked rows in again
    Retry {
        /// Tên nguồn / the source's name
        name: String,
        /// Số của dòng; không ghi là tất cả / a row's number; all without it
        number: Option<i64>,
        /// Tất cả các dòng / all rows
        #[arg(long, conflicts_with = "number")]
        all: bool,
    },
    /// Bỏ hẳn một dòng bị giữ / give a parked row up
    Drop {
        /// Tên nguồn / the source's name
        name: String,
        /// Số của dòng / the row's number
        number: i64,
        /// Lý do, không ghi dữ liệu cá nhân / why, without personal data
        #[arg(long)]
        reason: String,
    },
}

fn main() -> ExitCode {
    #[cfg(feature = "planted-faults")]
    if std::env::var_os("LIENTHONG_WEAK_SYNC").is_some() {
        lienthong::model::fault::weaken_sync();
    }
    let words: Vec<_> = std::env::args_os().collect();
    if is_unpacker(&words) || is_hasher(&words) {
        return ExitCode::SUCCESS;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed terminal has nowhere to print to.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    match obey(arguments) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            match &failure {
                Failure::Found(text) => print(text),
                failure => eprintln!("{}", failure.text()),
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

fn obey(arguments: Arguments) -> Result<String, Failure> {
    let Arguments {
        command,
        config,
        log_level,
    } = arguments;
    let config = config_path(config);
    match command {
        Command::Run => run(&config, log_level.as_deref()).map(|()| String::new()),
        Command::Config => commands::config(&config),
        Command::Status { json } => commands::status(&config, json),
        Command::Certificate => commands::certificate(&config),
        Command::Audit { json } => orders::audit(&config, json),
        Command::Check { json } => check(&config, json),
        Command::Backup { file } => backup::backup(&config, &file),
        Command::Bundle { file } => bundle(&config, &file),
        Command::Drill => drill(&config),
        Command::Restore { file, replace } => backup::restore(&config, &file, replace),
        Command::Export { dir, prepare } => stick::export(&config, &dir, prepare),
        Command::Import { dir } => stick::import(&config, &dir),
        Command::Stick { device } => stick::device::serve(&config, &device),
        Command::Account(command) => match command {
            Account::Code => accounts::code(&config),
            Account::List => accounts::list(&config),
            Account::Remove { name } => accounts::remove(&config, &name),
        },
        Command::Sources(command) => match command {
            Sources::List { json } => sources::list(&config, json),
            Sources::Try { name } => look::try_source(&config, &name),
            Sources::Discover { name } => look::discover(&config, &name),
            Sources::Rewind { name, to } => sources::rewind(&config, &name, &to),
            Sources::AllowDeletes { name } => sources::allow_deletes(&config, &name),
            Sources::Parked { name, json } => sources::list_parked(&config, &name, json),
            Sources::Retry { name, number, .. } => sources::retry(&config, &name, number),
            Sources::Drop {
                name,
                number,
                reason,
            } => sources::drop_parked(&config, &name, number, &reason),
        },
        Command::Put {
            dataset,
            file,
            ndjson,
            op,
            key,
        } => put(
            &config,
            &Put {
                dataset: &dataset,
                file: &file,
                is_ndjson: ndjson,
                op: &op,
                key: key.as_deref(),
            },
        ),
    }
}

/// Prints to standard output; a reader that has gone, such as `head`, is no fault.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
