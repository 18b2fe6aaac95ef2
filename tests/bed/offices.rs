//! An office's database of dossiers, in each of the databases.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use lienthong::edge::config::sql::{Driver, Mode, Place, Server, SqlConfig};
use lienthong::edge::sql::attachment::{FileColumn, Pattern};
use lienthong::edge::sql::mapping::Column;
use lienthong::edge::sql::query::Query;
use mysql_async::prelude::Queryable;

use crate::servers::{Mariadb, Postgres, SECRET};

pub const SELECT: &str = "SELECT id, so, ten, phi, ngay, cap_nhat, da_thu, '1.001193' AS tthc, 'H53.12' AS cq, 'H53.12' AS cq2, 'ca_nhan' AS loai, 'Đang xử lý' AS goc, 'DANG_XU_LY' AS chuan FROM ho_so";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    Mariadb,
}

pub struct Office {
    folder: tempfile::TempDir,
    database: Database,
}

enum Database {
    Sqlite(rusqlite::Connection),
    Postgres(Postgres, tokio_postgres::Client),
    Mariadb(Mariadb, Box<mysql_async::Conn>),
}

pub fn by_id() -> Mode {
    Mode::Increasing {
        watermark: "id".to_owned(),
        start: None,
    }
}

pub fn by_time() -> Mode {
    Mode::Time {
        watermark: "cap_nhat".to_owned(),
        start: None,
        overlap_ms: 600_000,
    }
}

pub fn snapshot(deletes_max_percent: u64) -> Mode {
    Mode::Snapshot {
        key: vec!["id".to_owned()],
        deletes_max_percent,
    }
}

/// The code of a dossier.
pub fn code(id: u64) -> String {
    format!("H53.12-2611{:02}-{:06}", 1 + id / 1_000_000, id % 1_000_000)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row(id: u64, at: &str) -> String {
    let is_paid = if id % 2 == 1 { "true" } else { "false" };
    format!(
        "({id}, '{}', 'Người Thử {id}', {}.00, '2026-11-20 08:{:02}:{:02}', '{at}', {is_paid})",
        code(id),
        50_000 + id,
        id / 60 % 60,
        id % 60
    )
}

impl Office {
    pub async fn open(kind: Kind) -> Office {
        let folder = tempfile::tempdir().unwrap();
        let database = match kind {
            Kind::Sqlite => {
                let file = rusqlite::Connection::open(folder.path().join("mot-cua.db")).unwrap();
                file.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
                    .unwrap();
                Database::Sqlite(file)
            }
            Kind::Postgres => {
                let server = Postgres::start().await;
                let client = server.connect().await.unwrap();
                Database::Postgres(server, client)
            }
            Kind::Mariadb => {
                let server = Mariadb::start().await;
                let conn = server.connect_as("chu", SECRET).await.unwrap();
                Database::Mariadb(server, Box::new(conn))
            }
        };
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let mut office = Office { folder, database };
        office.create().await;
        office
    }

    pub async fn create(&mut self) {
        let time = match self.database {
            Database::Mariadb(..) => "datetime(6)",
            _ => "timestamp",
        };
        self.run(&format!(
            "CREATE TABLE ho_so (id integer PRIMARY KEY, so varchar(60) NOT NULL, ten varchar(200), phi numeric(15, 2), ngay {time}, cap_nhat {time}, da_thu boolean)"
        ))
        .await;
    }

    pub async fn run(&mut self, statement: &str) {
        match &mut self.database {
            Database::Sqlite(file) => file.execute_batch(statement).unwrap(),
            Database::Postgres(_, client) => client.batch_execute(statement).await.unwrap(),
            Database::Mariadb(_, conn) => conn.query_drop(statement).await.unwrap(),
        }
    }

    /// Rows whose time of change is a second apart.
    pub async fn add(&mut self, ids: RangeInclusive<u64>) {
        let rows: Vec<String> = ids
            .map(|id| {
                let (hour, minute, second) = (8 + id / 3_600 % 12, id / 60 % 60, id % 60);
                row(id, &format!("2026-11-20 {hour:02}:{minute:02}:{second:02}"))
            })
            .collect();
        for rows in rows.chunks(1_000) {
            let statement = format!(
                "INSERT INTO ho_so (id, so, ten, phi, ngay, cap_nhat, da_thu) VALUES {}",
                rows.join(", ")
            );
            self.run(&statement).await;
        }
    }

    /// So many rows at once, by SQLite itself.
    #[allow(dead_code)]
    pub async fn fill(&mut self, rows: u64) {
        let statement = format!(
            "INSERT INTO ho_so WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {rows})
             SELECT id, printf('H53.12-2611%02d-%06d', 1 + id / 1000000, id % 1000000), 'Người Thử ' || id, 50000 + id, '2026-11-20 08:00:00', '2026-11-20 08:00:00', true FROM n"
        );
        self.run(&statement).await;
    }

    pub async fn add_at(&mut self, id: u64, at: &str) {
        let statement = format!(
            "INSERT INTO ho_so (id, so, ten, phi, ngay, cap_nhat, da_thu) VALUES {}",
            row(id, at)
        );
        self.run(&statement).await;
    }

    /// A row while the name's column is called otherwise.
    pub async fn add_into(&mut self, name: &str, id: u64) {
        let statement = format!(
            "INSERT INTO ho_so (id, so, {name}, phi, ngay, cap_nhat, da_thu) VALUES {}",
            row(id, "2026-11-20 10:00:00")
        );
        self.run(&statement).await;
    }

    pub async fn touch(&mut self, id: u64, at: &str) {
        let statement = format!("UPDATE ho_so SET cap_nhat = '{at}' WHERE id = {id}");
        self.run(&statement).await;
    }

    /// Gives the table a column with files, their names and their types.
    #[allow(dead_code)]
    pub async fn add_file_columns(&mut self) {
        let file = match self.database {
            Database::Postgres(..) => "bytea",
            Database::Mariadb(..) => "longblob",
            Database::Sqlite(_) => "blob",
        };
        for column in [
            &format!("tep {file}"),
            "ten_tep varchar(200)",
            "loai_tep varchar(100)",
        ] {
            self.run(&format!("ALTER TABLE ho_so ADD COLUMN {column}"))
                .await;
        }
    }

    /// Sets a row's file; none takes it away.
    #[allow(dead_code)]
    pub async fn attach(&mut self, id: u64, content: Option<&[u8]>) {
        let file = match (content, &self.database) {
            (None, _) => "NULL".to_owned(),
            (Some(content), Database::Postgres(..)) => format!("'\\x{}'", hex(content)),
            (Some(content), _) => format!("X'{}'", hex(content)),
        };
        self.run(&format!(
            "UPDATE ho_so SET tep = {file}, ten_tep = 'Đơn {id}.pdf', loai_tep = 'application/pdf' WHERE id = {id}"
        ))
        .await;
    }

    pub async fn count(&mut self, table: &str) -> i64 {
        let statement = format!("SELECT count(*) FROM {table}");
        match &mut self.database {
            Database::Sqlite(file) => file.query_row(&statement, [], |row| row.get(0)).unwrap(),
            Database::Postgres(_, client) => {
                client.query_one(&statement, &[]).await.unwrap().get(0)
            }
            Database::Mariadb(_, conn) => conn.query_first(statement).await.unwrap().unwrap(),
        }
    }

    /// Makes text of the money; none where a column has no type of its own.
    pub fn change_type(&self) -> Option<&'static str> {
        match self.database {
            Database::Sqlite(_) => None,
            Database::Postgres(..) => Some("ALTER TABLE ho_so ALTER COLUMN phi TYPE varchar(30)"),
            Database::Mariadb(..) => Some("ALTER TABLE ho_so MODIFY COLUMN phi varchar(30)"),
        }
    }

    /// A query that reads by a function which writes; the account has every right.
    pub async fn writing_query(&mut self) -> String {
        match self.database {
            Database::Postgres(..) => {
                self.run("CREATE FUNCTION ghi() RETURNS integer LANGUAGE sql AS 'INSERT INTO ho_so (id, so) VALUES (99, ''x'') RETURNING id'").await;
            }
            _ => {
                self.run("CREATE FUNCTION ghi() RETURNS integer MODIFIES SQL DATA BEGIN INSERT INTO ho_so (id, so) VALUES (99, 'x'); RETURN 99; END").await;
            }
        }
        let select = SELECT.replacen("SELECT id", "SELECT ghi() AS ghi, id", 1);
        format!("{select} WHERE id > :after ORDER BY id LIMIT :limit")
    }

    pub fn stop_server(&mut self) {
        match &mut self.database {
            Database::Sqlite(_) => panic!("a file has no server"),
            Database::Postgres(server, _) => server.stop(),
            Database::Mariadb(server, _) => server.stop(),
        }
    }

    pub async fn start_server(&mut self) {
        match &mut self.database {
            Database::Sqlite(_) => panic!("a file has no server"),
            Database::Postgres(server, client) => {
                server.run().await;
                *client = server.connect().await.unwrap();
            }
            Database::Mariadb(server, conn) => {
                server.run().await;
                **conn = server.connect_as("chu", SECRET).await.unwrap();
            }
        }
    }

    pub fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    pub fn place(&self) -> (Driver, Place) {
        let server = |port, user: &str, database: &str| {
            Place::Server(Server {
                host: "127.0.0.1".to_owned(),
                port,
                database: database.to_owned(),
                user: user.to_owned(),
                password: Some(self.secret()),
                tls_ca: None,
            })
        };
        match &self.database {
            Database::Sqlite(_) => (
                Driver::Sqlite,
                Place::File(self.folder.path().join("mot-cua.db")),
            ),
            Database::Postgres(database, _) => (
                Driver::Postgres,
                server(database.port, "postgres", "postgres"),
            ),
            Database::Mariadb(database, _) => {
                (Driver::Mysql, server(database.port, "chu", "motcua"))
            }
        }
    }

    /// As [`Office::config`], with the column of files.
    #[allow(dead_code)]
    pub fn config_with_files(&self, mode: Mode, rows_max: u64) -> SqlConfig {
        let mut config = self.config(mode, rows_max);
        let query = config.query.with_marks();
        let mut marks = [":after", ":limit"].into_iter();
        let query: String = query
            .replacen(" FROM ho_so", ", tep, ten_tep, loai_tep FROM ho_so", 1)
            .split_inclusive('?')
            .map(|part| match part.strip_suffix('?') {
                Some(text) => text.to_owned() + marks.next().unwrap(),
                None => part.to_owned(),
            })
            .collect();
        config.query = Query::parse(&query).unwrap();
        config.attachments = vec![FileColumn {
            column: "tep".to_owned(),
            name: Pattern::parse("{ten_tep}").unwrap(),
            mime: Pattern::parse("{loai_tep}").unwrap(),
        }];
        config
    }

    pub fn config(&self, mode: Mode, rows_max: u64) -> SqlConfig {
        let (driver, place) = self.place();
        let query = match &mode {
            Mode::Increasing { .. } => {
                format!("{SELECT} WHERE id > :after ORDER BY id LIMIT :limit")
            }
            Mode::Time { .. } => {
                format!("{SELECT} WHERE cap_nhat >= :after ORDER BY cap_nhat LIMIT :limit")
            }
            Mode::Snapshot { .. } => SELECT.to_owned(),
        };
        SqlConfig {
            driver,
            place,
            query: Query::parse(&query).unwrap(),
            mode,
            columns: columns(),
            attachments: Vec::new(),
            attachment_bytes_max: 16 << 20,
            zone_minutes: 420,
            poll_ms: 100,
            rows_max,
            statement_ms: 10_000,
            connect_ms: 5_000,
        }
    }
}

fn columns() -> Vec<Column> {
    let pairs = [
        ("ma_ho_so", "so"),
        ("ma_tthc", "tthc"),
        ("co_quan_tiep_nhan", "cq"),
        ("co_quan_giai_quyet", "cq"),
        ("nguoi_nop.loai", "loai"),
        ("nguoi_nop.ho_ten", "ten"),
        ("ngay_tiep_nhan", "ngay"),
        ("phi", "phi"),
        ("da_thu", "da_thu"),
        ("trang_thai_goc", "goc"),
        ("trang_thai_chuan", "chuan"),
    ];
    let column = |(field, column): (&str, &str)| Column {
        field: field.split('.').map(str::to_owned).collect(),
        column: column.to_owned(),
    };
    pairs.into_iter().map(column).collect()
}
