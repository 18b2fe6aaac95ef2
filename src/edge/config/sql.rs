//! Settings of a `[[source]]` of kind `sql`.

use std::path::PathBuf;

use crate::edge::sql::attachment::{ANY_MIME, FileColumn, Pattern};
use crate::edge::sql::mapping::Column;
use crate::edge::sql::query::Query;
use crate::shell::settings::section::Section;
use crate::shell::settings::units::Wrong;
use crate::shell::systemd::credential;

const DAY_MS: u64 = 86_400_000;

#[derive(Debug, Clone)]
pub struct SqlConfig {
    pub driver: Driver,
    pub place: Place,
    pub query: Query,
    pub mode: Mode,
    /// What the dataset's fields are made of; empty: every column by its own name.
    pub columns: Vec<Column>,
    /// Columns that hold files.
    pub attachments: Vec<FileColumn>,
    /// A row with a larger file is parked.
    pub attachment_bytes_max: u64,
    /// Minutes east of UTC of times that name no zone.
    pub zone_minutes: i32,
    pub poll_ms: u64,
    /// Rows that one query may return; of a snapshot, rows that are read without a pause.
    pub rows_max: u64,
    pub statement_ms: u64,
    pub connect_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Postgres,
    Mysql,
    Mssql,
    Sqlite,
    Odbc,
}

/// Where the database is, and how one gets in.
#[derive(Debug, Clone)]
pub enum Place {
    Server(Server),
    File(PathBuf),
    /// An ODBC connection string without password.
    Odbc {
        connection: String,
        password: Option<PathBuf>,
    },
}

#[derive(Debug, Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<PathBuf>,
    /// The authority that signed the server's certificate; none: no encryption.
    pub tls_ca: Option<PathBuf>,
}

impl Server {
    pub fn is_on_this_machine(&self) -> bool {
        let address: Result<std::net::IpAddr, _> = self.host.parse();
        self.host == "localhost"
            || self.host.starts_with('/')
            || address.is_ok_and(|address| address.is_loopback())
    }
}

/// How new rows are found.
#[derive(Debug, Clone)]
pub enum Mode {
    /// By a column whose values only ever grow.
    Increasing {
        watermark: String,
        start: Option<String>,
    },
    /// By a time; what changed within `overlap_ms` before the latest time is read again.
    Time {
        watermark: String,
        start: Option<String>,
        overlap_ms: u64,
    },
    /// By comparing everything with what was seen before.
    Snapshot {
        key: Vec<String>,
        deletes_max_percent: u64,
    },
}

impl Mode {
    /// The column by which rows are ordered.
    pub fn watermark(&self) -> Option<&str> {
        match self {
            Mode::Increasing { watermark, .. } | Mode::Time { watermark, .. } => Some(watermark),
            Mode::Snapshot { .. } => None,
        }
    }

    pub fn start(&self) -> Option<&str> {
        match self {
            Mode::Increasing { start, .. } | Mode::Time { start, .. } => start.as_deref(),
            Mode::Snapshot { .. } => None,
        }
    }
}

pub fn sql(mut section: Section) -> Option<SqlConfig> {
    const DRIVERS: [&str; 5] = ["postgres", "mysql", "mssql", "sqlite", "odbc"];
    let driver = section.value("driver", None, |text| match text {
        "postgres" => Ok(Driver::Postgres),
        "mysql" => Ok(Driver::Mysql),
        "mssql" => Ok(Driver::Mssql),
        "sqlite" => Ok(Driver::Sqlite),
        "odbc" if cfg!(feature = "odbc") => Ok(Driver::Odbc),
        "odbc" => Err(Wrong::new(
            "bản cài này không có ODBC",
            "this build has no ODBC",
            "Dùng bản cài có ODBC (cargo build --features odbc).",
            "Use a build with ODBC (cargo build --features odbc).",
        )),
        _ => Err(one_of(text, &DRIVERS)),
    });
    let place = match driver {
        Some(driver) => place(&mut section, driver),
        None => return section.leave(),
    };
    let mode = mode(&mut section);
    let query = section.value("query", None, Query::parse);
    let zone_minutes = section.value("timezone", Some("+07:00"), zone);
    let poll_ms = section.duration("poll", "30 s", 100..=DAY_MS);
    let rows_max = section.number("rows_max", 1_000, 1..=100_000);
    let statement_ms = section.duration("statement_timeout", "30 s", 100..=3_600_000);
    let connect_ms = section.duration("connect_timeout", "10 s", 100..=120_000);
    let columns = columns(&mut section);
    let attachment_bytes_max = section.size("attachment_max", "16 MiB", 1024..=256 << 20);
    let attachments = attachments(&mut section);
    let (mode, query) = (mode?, query?);
    if let Some(wrong) = placeholders(&mode, &query) {
        section.fault("query", wrong);
        return None;
    }
    Some(SqlConfig {
        driver: driver?,
        place: place?,
        query,
        mode,
        columns: columns?,
        attachments: attachments?,
        attachment_bytes_max: attachment_bytes_max?,
        zone_minutes: zone_minutes?,
        poll_ms: poll_ms?,
        rows_max: rows_max?,
        statement_ms: statement_ms?,
        connect_ms: connect_ms?,
    })
}

fn place(section: &mut Section, driver: Driver) -> Option<Place> {
    match driver {
        Driver::Sqlite => section.path("file", None).map(Place::File),
        Driver::Odbc => {
            let connection = section.value("connection", None, |text| {
                let lower = text.to_lowercase().replace(' ', "");
                match lower.contains("pwd=") || lower.contains("password=") {
                    true => Err(Wrong::new(
                        "không ghi mật khẩu vào chuỗi kết nối",
                        "the connection string must not hold the password",
                        "Để mật khẩu trong tệp riêng và ghi password_file.",
                        "Keep the password in a file of its own and set password_file.",
                    )),
                    false => Ok(text.to_owned()),
                }
            });
            let password = section.optional_path("password_file");
            Some(Place::Odbc {
                connection: connection?,
                password: password?.map(credential),
            })
        }
        Driver::Postgres => server(section, driver, "5432"),
        Driver::Mysql => server(section, driver, "3306"),
        Driver::Mssql => server(section, driver, "1433"),
    }
}

fn server(section: &mut Section, driver: Driver, port: &'static str) -> Option<Place> {
    let host: Option<String> = section.text("host", None);
    let port: Option<u64> = section.number("port", port.parse().expect("a port"), 1..=65_535);
    let database = section.text("database", None);
    let user = section.text("user", None);
    let password = section.optional_path("password_file");
    let tls_ca = section.optional_path("tls_ca");
    let tls = section.optional("tls", |text| match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(one_of(text, &["on", "off"])),
    });
    let mut server = Server {
        host: host?,
        port: u16::try_from(port?).expect("bounded above"),
        database: database?,
        user: user?,
        password: password?.map(credential),
        tls_ca: tls_ca?,
    };
    match (tls?, driver, server.tls_ca.is_some()) {
        (Some(true), Driver::Mssql, _) | (None, Driver::Mssql, true) => {
            section.fault(
                "tls",
                Wrong::new(
                    "trình kết nối SQL Server của chương trình không mã hóa được",
                    "the program's SQL Server driver cannot encrypt",
                    "Dùng driver = \"odbc\" để mã hóa, hoặc ghi rõ tls = \"off\" và bỏ tls_ca.",
                    "Use driver = \"odbc\" to encrypt, or say tls = \"off\" and leave tls_ca out.",
                ),
            );
            None
        }
        (None, Driver::Mssql, false) => {
            section.fault("tls", Wrong::new(
                "phải ghi rõ tls = \"off\": đường nối tới SQL Server không được mã hóa",
                "say tls = \"off\": the link to SQL Server is not encrypted",
                "Ghi tls = \"off\" nếu chấp nhận trong mạng nội bộ, hoặc dùng driver = \"odbc\" để mã hóa.",
                "Set tls = \"off\" if that is acceptable on this network, or use driver = \"odbc\" to encrypt.",
            ));
            None
        }
        (Some(false), ..) => {
            server.tls_ca = None;
            Some(Place::Server(server))
        }
        (_, _, true) => Some(Place::Server(server)),
        (None, _, false) if server.is_on_this_machine() => Some(Place::Server(server)),
        (_, _, false) => {
            section.fault("tls_ca", Wrong::new(
                "kết nối qua mạng cần chứng thư của đơn vị cấp cho máy chủ cơ sở dữ liệu",
                "a link over the network needs the authority of the server's certificate",
                "Ghi tls_ca = \"tệp.crt\"; nếu máy chủ không có TLS thì ghi rõ tls = \"off\" (trang trạng thái sẽ cảnh báo).",
                "Set tls_ca = \"file.crt\"; if the server has no TLS say tls = \"off\" (the status page will warn).",
            ));
            None
        }
    }
}

fn mode(section: &mut Section) -> Option<Mode> {
    const MODES: [&str; 3] = ["increasing", "time", "snapshot"];
    let name = section.value("mode", None, |text| match MODES.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(one_of(text, &MODES)),
    })?;
    if name == "snapshot" {
        let key = section.texts("key", None, |text| Ok(text.to_owned()));
        let deletes_max_percent = section.number("deletes_max", 20, 0..=100);
        return Some(Mode::Snapshot {
            key: key?,
            deletes_max_percent: deletes_max_percent?,
        });
    }
    let watermark = section.text("watermark", None);
    let start = section.optional("start", |text| Ok(text.to_owned()));
    if name == "increasing" {
        return Some(Mode::Increasing {
            watermark: watermark?,
            start: start?,
        });
    }
    let overlap_ms = section.duration("overlap", "10 min", 0..=30 * DAY_MS);
    Some(Mode::Time {
        watermark: watermark?,
        start: start?,
        overlap_ms: overlap_ms?,
    })
}

fn placeholders(mode: &Mode, query: &Query) -> Option<Wrong> {
    let wanted = !matches!(mode, Mode::Snapshot { .. });
    if query.has_after() == wanted && query.has_limit() == wanted {
        return None;
    }
    Some(match wanted {
        true => Wrong::new(
            "câu truy vấn phải có :after (giá trị đã đọc đến) và :limit (số dòng tối đa)",
            "the query must hold :after (the value read so far) and :limit (the most rows)",
            "Ví dụ: SELECT … WHERE id > :after ORDER BY id LIMIT :limit",
            "For example: SELECT … WHERE id > :after ORDER BY id LIMIT :limit",
        ),
        false => Wrong::new(
            "ở chế độ snapshot câu truy vấn đọc toàn bộ, không dùng :after và :limit",
            "in snapshot mode the query reads everything, without :after and :limit",
            "Bỏ :after và :limit khỏi câu truy vấn.",
            "Take :after and :limit out of the query.",
        ),
    })
}

/// `[source.columns]`: "column" = "field" or a list of fields; a dot leads into a nested field, and a column whose field is
/// empty is left out.
fn columns(section: &mut Section) -> Option<Vec<Column>> {
    let table: toml::Table = section.rest("columns")?;
    match mapped(&table) {
        Ok(columns) => Some(columns),
        Err(key) => {
            section.fault(
                &format!("columns.{key}"),
                Wrong::new(
                    "phải là tên trường trong ngoặc kép",
                    "must be a field's name in quotes",
                    "Ví dụ: SoHoSo = \"ma_ho_so\".",
                    "For example: SoHoSo = \"ma_ho_so\".",
                ),
            );
            None
        }
    }
}

/// `[[source.attachment]]`: columns that hold files.
fn attachments(section: &mut Section) -> Option<Vec<FileColumn>> {
    let mut attachments = Some(Vec::new());
    for mut entry in section.list("attachment") {
        let column = entry.text("column", None);
        let name = entry.value("name", None, Pattern::parse);
        let mime = entry.value("mime", Some(ANY_MIME), Pattern::parse);
        match (column, name, mime, &mut attachments) {
            (Some(column), Some(name), Some(mime), Some(attachments)) => {
                attachments.push(FileColumn { column, name, mime });
            }
            _ => attachments = None,
        }
    }
    attachments
}

fn mapped(table: &toml::Table) -> Result<Vec<Column>, String> {
    let mut columns = Vec::new();
    for (column, field) in table {
        let fields = match field {
            toml::Value::Array(fields) => fields.as_slice(),
            field => std::slice::from_ref(field),
        };
        for field in fields {
            let field = field.as_str().ok_or_else(|| column.clone())?;
            if !field.is_empty() {
                columns.push(Column {
                    field: field.split('.').map(str::to_owned).collect(),
                    column: column.clone(),
                });
            }
        }
    }
    Ok(columns)
}

/// `+07:00` in minutes.
fn zone(text: &str) -> Result<i32, Wrong> {
    let wrong = || {
        Wrong::new(
            "không phải là múi giờ",
            "is not an offset from UTC",
            "Ví dụ: \"+07:00\".",
            "For example: \"+07:00\".",
        )
    };
    let (sign, rest) = match text.as_bytes().first() {
        Some(b'+') => (1, &text[1..]),
        Some(b'-') => (-1, &text[1..]),
        _ => return Err(wrong()),
    };
    let (hours, minutes) = rest.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str, max: i32| -> Option<i32> {
        let is_two_digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        let number: i32 = text.parse().ok()?;
        (is_two_digits && number <= max).then_some(number)
    };
    match (number(hours, 14), number(minutes, 59)) {
        (Some(hours), Some(minutes)) => Ok(sign * (hours * 60 + minutes)),
        _ => Err(wrong()),
    }
}

fn one_of(text: &str, known: &[&str]) -> Wrong {
    let known = known.join(", ");
    Wrong {
        vi: format!("“{text}” không dùng được ở đây"),
        en: format!("{text:?} is not usable here"),
        hint_vi: format!("Chọn một trong: {known}."),
        hint_en: format!("Choose one of: {known}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_offsets() {
        assert_eq!(zone("+07:00"), Ok(420));
        assert_eq!(zone("-03:30"), Ok(-210));
        for bad in [
            "7",
            "+7:00",
            "+07",
            "Asia/Ho_Chi_Minh",
            "+15:00",
            "+07:60",
            "+é:00",
        ] {
            assert!(zone(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_lead_to_fields() {
        let table: toml::Table = toml::from_str(
            "SoHoSo = \"ma_ho_so\"\n\"Tên\" = \"nguoi.ten\"\nthua = \"\"\ncq = [\"a\", \"b\"]\n",
        )
        .expect("TOML");
        let columns = mapped(&table).expect("texts only");
        let pairs: Vec<(String, &str)> = columns
            .iter()
            .map(|column| (column.field.join("/"), column.column.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("ma_ho_so".to_owned(), "SoHoSo"),
                ("nguoi/ten".to_owned(), "Tên"),
                ("a".to_owned(), "cq"),
                ("b".to_owned(), "cq")
            ]
        );
        let wrong: toml::Table = toml::from_str("a = 5").expect("TOML");
        assert_eq!(mapped(&wrong), Err("a".to_owned()));
    }
}
