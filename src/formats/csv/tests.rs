//! CSV as it is met: what is found, what is refused, and that no bytes break the reader.

use proptest::prelude::*;

use super::*;
use crate::formats::table::Column;
use crate::formats::table::cell::{DecimalSign, Kind};

fn column(name: &str, field: &str, kind: Kind) -> Column {
    Column {
        names: vec![name.to_owned()],
        path: field.split('/').map(str::to_owned).collect(),
        kind,
        is_required: true,
        ..Column::default()
    }
}

/// Columns of a list of dossiers.
fn dossiers() -> Columns {
    Columns {
        list: vec![
            column("Số hồ sơ", "ma_ho_so", Kind::Text),
            column("Họ tên", "nguoi_nop/ho_ten", Kind::Text),
            column("Ngày nhận", "ngay_nhan", Kind::Date),
            column("Lệ phí", "le_phi", Kind::Number),
        ],
        decimal: Some(DecimalSign::Comma),
        ..Columns::default()
    }
}

fn rows(text: &str, dialect: &Dialect, columns: &Columns) -> Vec<(u32, String)> {
    let table =
        parse(text.as_bytes(), dialect, columns, 100).unwrap_or_else(|faults| panic!("{faults}"));
    let row = |row: &Row| (row.line, row.data.get().to_owned());
    table.rows.iter().map(row).collect()
}

fn fault(text: &str, columns: &Columns) -> Fault {
    let faults = parse(text.as_bytes(), &Dialect::default(), columns, 100).expect_err("a fault");
    faults.list()[0].clone()
}

const ROW: &str = r#"{"ma_ho_so":"H01","nguoi_nop":{"ho_ten":"Lê Thị Mận"},"ngay_nhan":"2026-11-05","le_phi":1234567.50}"#;

#[test]
fn delimiters_are_found() {
    for delimiter in [",", ";", "\t", "|"] {
        let text =
            "Số hồ sơ;Họ tên;Ngày nhận;Lệ phí\r\nH01;Lê Thị Mận;05/11/2026;\"1.234.567,50\"\r\n"
                .replace(';', delimiter);
        let rows = rows(&text, &Dialect::default(), &dossiers());
        assert_eq!(rows, [(2, ROW.to_owned())], "{delimiter:?}");
        let table = parse(text.as_bytes(), &Dialect::default(), &dossiers(), 9).expect("readable");
        assert_eq!(table.delimiter, delimiter.as_bytes()[0]);
    }
}

#[test]
fn a_heading_is_found_below_titles_and_in_any_case() {
    let text = "DANH SÁCH HỒ SƠ;;;\nNgày in 20/11/2026;;;\n\nLệ  phí;SỐ HỒ SƠ;Họ tên;Ngày nhận;Ghi chú\n;H01;\"Lê \"\"Thị\"\"\nMận\";05-11-2026;x\n;;;;\n3;H02;Trần A;6/11/2026;\n";
    let table = parse(text.as_bytes(), &Dialect::default(), &dossiers(), 9).expect("readable");
    let read: Vec<(u32, &str)> = table
        .rows
        .iter()
        .map(|row| (row.line, row.data.get()))
        .collect();
    assert_eq!(
        read,
        [
            (
                5,
                r#"{"ma_ho_so":"H01","nguoi_nop":{"ho_ten":"Lê \"Thị\"\nMận"},"ngay_nhan":"2026-11-05"}"#
            ),
            (
                8,
                r#"{"ma_ho_so":"H02","nguoi_nop":{"ho_ten":"Trần A"},"ngay_nhan":"2026-11-06","le_phi":3}"#
            ),
        ]
    );
    let notes: Vec<String> = table.notes.iter().map(Note::message_vi).collect();
    assert_eq!(
        notes,
        [
            "bỏ qua các cột không khai báo: Ghi chú",
            "bỏ qua 1 dòng trống"
        ]
    );
}

#[test]
fn faults_name_line_and_column() {
    let head = "Số hồ sơ;Họ tên;Ngày nhận;Lệ phí\n";
    for (row, column, parts) in [
        (
            "H01;A;31/02/2026;5",
            3,
            &["cột “Ngày nhận”", "dd/MM/yyyy"][..],
        ),
        ("H01;A;05/11/2026;5 đồng", 4, &["cột “Lệ phí”", "số"]),
        ("H01;A;05/11/2026", 4, &["dòng có 3 ô", "4 cột"]),
        ("H01;A;05/11/2026;5;thừa", 5, &["dòng có 5 ô"]),
        ("H01;\"A;05/11/2026;5", 1, &["dấu nháy"]),
    ] {
        let text = format!("{head}H00;B;01/11/2026;1\n{row}\n");
        let faults = parse(text.as_bytes(), &Dialect::default(), &dossiers(), 9).expect_err(row);
        let faults = faults.list();
        let fault = faults
            .iter()
            .find(|fault| parts.iter().all(|part| fault.message_vi.contains(part)));
        let fault = fault.unwrap_or_else(|| panic!("{row}: {faults:?}"));
        assert_eq!((fault.line, fault.column), (3, column), "{row}");
    }
}

#[test]
fn a_heading_that_lacks_a_column_is_refused_with_its_name() {
    let lacking = fault("Số hồ sơ;Họ tên;Ngày nhận\nH01;A;05/11/2026\n", &dossiers());
    assert!(
        lacking.message_vi.contains("thiếu cột “Lệ phí”"),
        "{lacking}"
    );
    assert_eq!(lacking.line, 1);
    let twice = fault(
        "Số hồ sơ;Họ tên;Ngày nhận;Lệ phí;Họ tên\n;;;;\n",
        &dossiers(),
    );
    assert!(twice.message_vi.contains("hai lần"), "{twice}");
    let nothing = fault("Số hồ sơ;Họ tên;Ngày nhận;Lệ phí\n", &dossiers());
    assert!(
        nothing.message_vi.contains("không có dòng dữ liệu"),
        "{nothing}"
    );
    let closed = Columns {
        is_closed: true,
        ignored: vec!["STT".to_owned()],
        ..dossiers()
    };
    let unknown = fault(
        "STT;Số hồ sơ;Họ tên;Ngày nhận;Lệ phí;Ghi chú\n1;H;A;05/11/2026;1;x\n",
        &closed,
    );
    assert!(
        unknown
            .message_vi
            .contains("không có trường cho các cột: Ghi chú"),
        "{unknown}"
    );
    let foreign = fault("a,b\n1,2\n", &dossiers());
    assert!(foreign.message_vi.contains("delimiter"), "{foreign}");
}

#[test]
fn settings_win_over_what_would_be_found() {
    let by_number = Columns {
        list: vec![
            column("2", "ma", Kind::Text),
            column("1", "so", Kind::Integer),
        ],
        ..Columns::default()
    };
    let no_heading = Dialect {
        header: Some(0),
        delimiter: Some(b';'),
        ..Dialect::default()
    };
    assert_eq!(
        rows("7;a\n8;b\n", &no_heading, &by_number)[1],
        (2, r#"{"ma":"b","so":8}"#.to_owned())
    );
    let single = Dialect {
        quote: Quote::Single,
        ..Dialect::default()
    };
    let one = Columns {
        list: vec![column("a", "a", Kind::Text)],
        ..Columns::default()
    };
    assert_eq!(
        rows("a\n'x''y'\n", &single, &one),
        [(2, r#"{"a":"x'y"}"#.to_owned())]
    );
    let none = Dialect {
        quote: Quote::None,
        ..Dialect::default()
    };
    assert_eq!(
        rows("a\n\"x\n", &none, &one),
        [(2, r#"{"a":"\"x"}"#.to_owned())]
    );
    assert_eq!(
        rows("sep=;\na;b\n1;2\n", &Dialect::default(), &one),
        [(3, r#"{"a":"1"}"#.to_owned())]
    );
    let second = Dialect {
        header: Some(2),
        ..Dialect::default()
    };
    assert_eq!(
        rows("a\na\n1\n", &second, &one),
        [(3, r#"{"a":"1"}"#.to_owned())]
    );
}

#[test]
fn an_old_encoding_is_found_and_reported() {
    // `Số hồ sơ;Họ tên` and two rows in TCVN3.
    let bytes =
        b"S\xe8 h\xe5 s\xac;H\xe4 t\xaan\nH01;L\xaa Th\xde M\xcbn\nH02;\xa7\xe7 V\xa8n T\xed\n";
    let columns = Columns {
        list: vec![
            column("Số hồ sơ", "ma", Kind::Text),
            column("Họ tên", "ten", Kind::Text),
        ],
        ..Columns::default()
    };
    let table =
        parse(bytes, &Dialect::default(), &columns, 9).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(
        (table.encoding, table.how),
        (Encoding::Tcvn3, How::Detected)
    );
    assert_eq!(
        table.rows[0].data.get(),
        r#"{"ma":"H01","ten":"Lê Thị Mận"}"#
    );
    let too_many = parse(bytes, &Dialect::default(), &columns, 1).expect_err("two rows");
    assert!(too_many.too_many_records());
}

proptest! {
    #[test]
    fn any_text_is_rows_or_a_fault(text in "[a-c;,\"'\t|\r\n0-9./ ]{0,120}") {
        for quote in [Quote::Double, Quote::Single, Quote::None] {
            let dialect = Dialect { quote, ..Dialect::default() };
            let columns = Columns { list: vec![column("a", "a", Kind::Number)], ..Columns::default() };
            for head in ["a;b\n", ""] {
                match parse(format!("{head}{text}").as_bytes(), &dialect, &columns, 5) {
                    Ok(table) => prop_assert!(!table.rows.is_empty()),
                    Err(faults) => prop_assert!(!faults.is_empty()),
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_read_back(cells in proptest::collection::vec("[a-zA-ZÀ-ỹ0-9 .,;\"'\n-]{0,12}|[\"',;\n]{1,6}", 1..20)) {
        let columns = Columns { list: vec![column("a", "a", Kind::Text), column("b", "b", Kind::Text)], ..Columns::default() };
        let mut writer = ::csv::WriterBuilder::new().delimiter(b';').from_writer(Vec::new());
        writer.write_record(["a", "b"]).expect("memory");
        for cell in &cells {
            writer.write_record(["x", cell]).expect("memory");
        }
        let bytes = writer.into_inner().expect("memory");
        let table = parse(&bytes, &Dialect::default(), &columns, 99).expect("what csv writes");
        let values: Vec<String> = table.rows.iter().map(|row| {
            let row: serde_json::Value = serde_json::from_str(row.data.get()).expect("JSON");
            row["b"].as_str().unwrap_or_default().to_owned()
        }).collect();
        let trimmed: Vec<String> = cells.iter().map(|cell| unicode_normalization::UnicodeNormalization::nfc(cell.trim()).collect()).collect();
        prop_assert_eq!(values, trimmed);
    }
}
