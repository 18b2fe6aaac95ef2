//! What boxes of these tests take in: records, rows that cannot be kept as they are, and a file that
//! is refused; each with marks in its personal fields, which belong to nobody.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;

use crate::one_box::{SOON, XA, configure, said, source};
use crate::rig::{Rig, wait_for};

/// Marks in personal fields. None may be seen without login, and none ever whole.
pub const NAME: &str = "Phạm Thị Mẫu Đơn";
pub const NUMBER: &str = "001304009991";
/// Of a dataset that is never shown at all.
pub const DISEASE: &str = "HIV dương tính";
/// Pieces by which a mark would be known.
pub const MARKS: [&str; 6] = [
    "Phạm Thị",
    "Mẫu Đơn",
    "00130400",
    "HIV",
    "dương tính",
    "Trần Thị Bích",
];

/// Address of the box's page.
pub fn origin(rig: &Rig) -> String {
    origin_of(rig, XA)
}

pub fn origin_of(rig: &Rig, name: &str) -> String {
    format!("http://127.0.0.1:{}", rig.boxes[name].http_port)
}

/// Sources whose rows are all parked: `ho-so` for a wrong code, a name as a code and a wrong state,
/// `tiem` because parts of its rows are missing.
pub fn with_parked_rows(rig: &Rig) {
    let file = rig.folder.path().join("mot-cua.db");
    let office = Connection::open(&file).unwrap();
    office
        .execute_batch(
            "CREATE TABLE ho_so (id INTEGER PRIMARY KEY, so TEXT, tthc TEXT, ten TEXT, dinh_danh TEXT, chuan TEXT DEFAULT 'DANG_XU_LY');
             CREATE TABLE tiem (id INTEGER PRIMARY KEY, loai TEXT, benh TEXT);",
        )
        .unwrap();
    let mut add = office
        .prepare("INSERT INTO ho_so (so, tthc, ten, dinh_danh) VALUES (?1, ?2, ?3, ?4)")
        .unwrap();
    for (so, tthc) in [
        ("H53.12-261120-0002", "hai"),
        ("H53.12-261120-0003", NAME),
        ("H53.12-261120-0004", "sai"),
    ] {
        add.execute([so, tthc, NAME, NUMBER]).unwrap();
    }
    office
        .execute(
            "INSERT INTO tiem (loai, benh) VALUES ('ca_benh', ?1)",
            [DISEASE],
        )
        .unwrap();
    let place = format!(
        "kind = \"sql\"\npoll = \"100 ms\"\ndriver = \"sqlite\"\nfile = \"{}\"\nmode = \"increasing\"\nwatermark = \"id\"\n",
        file.display()
    );
    configure(
        rig,
        "20-rows.toml",
        &format!(
            "[[source]]\nname = \"ho-so\"\ndataset = \"ho_so_tthc\"\n{place}\
             query = \"SELECT id, so, tthc, ten, dinh_danh, chuan, 'H53.12' cq, 'H53.12' cq2, 'ca_nhan' loai, '2026-11-20T08:12:45+07:00' ngay, 'Đang thụ lý' goc FROM ho_so WHERE id > :after ORDER BY id LIMIT :limit\"\n\
             [source.columns]\nso = \"ma_ho_so\"\ntthc = \"ma_tthc\"\nten = \"nguoi_nop.ho_ten\"\ndinh_danh = \"nguoi_nop.so_dinh_danh\"\nchuan = \"trang_thai_chuan\"\ncq = \"co_quan_tiep_nhan\"\ncq2 = \"co_quan_giai_quyet\"\nloai = \"nguoi_nop.loai\"\nngay = \"ngay_tiep_nhan\"\ngoc = \"trang_thai_goc\"\n\
             [[source]]\nname = \"tiem\"\ndataset = \"tiem_chung_dich_benh\"\n{place}\
             query = \"SELECT id, loai, benh FROM tiem WHERE id > :after ORDER BY id LIMIT :limit\"\n\
             [source.columns]\nloai = \"loai_ban_ghi\"\nbenh = \"benh\"\n"
        ),
    );
}

/// Waits until the rows of [`with_parked_rows`] are parked.
pub fn until_parked(rig: &Rig) {
    wait_for("the rows are parked", SOON, || {
        source(rig, "ho-so")["parked"] == 3 && source(rig, "tiem")["parked"] == 1
    });
}

/// Numbers of a source's parked rows.
pub fn parked(rig: &Rig, name: &str) -> Vec<i64> {
    let text = said(rig, &["sources", "parked", name, "--json"], 0);
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| row["number"].as_i64().unwrap()).collect()
}

/// A source that takes files from a folder; the folder.
pub fn with_folder(rig: &Rig) -> PathBuf {
    let folder = rig.folder.path().join("nhan");
    fs::create_dir(&folder).unwrap();
    configure(
        rig,
        "30-folder.toml",
        &format!(
            "[[source]]\nname = \"thu-muc\"\nkind = \"folder\"\ndataset = \"ho_so_tthc\"\npath = \"{}\"\nsettle = \"100 ms\"\n",
            folder.display()
        ),
    );
    folder
}

/// Puts a file into the folder that cannot be taken, with marks in it, and waits for the refusal.
pub fn refuse_a_file(folder: &std::path::Path) {
    let name = "ho-so-thang-11.json";
    let text = format!(
        "[{{\"ma_ho_so\": 1, \"nguoi_nop\": {{\"ho_ten\": \"{NAME}\", \"so_dinh_danh\": \"{NUMBER}\"}}}}]"
    );
    fs::write(folder.join(name), text).unwrap();
    let refused = folder.join("refused").join(name);
    wait_for("the file is refused", SOON, || refused.is_file());
}
