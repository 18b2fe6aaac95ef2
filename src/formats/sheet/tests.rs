//! Workbooks that are put together here: what is taken, what is refused, what is bounded.

use std::io::{Cursor, Write};

use proptest::prelude::*;
use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;
use crate::formats::table::Column;
use crate::formats::table::cell::Kind;

fn packed(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        writer
            .start_file(*name, SimpleFileOptions::default())
            .expect("memory");
        writer.write_all(content).expect("memory");
    }
    writer.finish().expect("memory").into_inner()
}

/// A workbook of one sheet with these rows, as XML. Style 1 is a date, style 2 a time.
fn xlsx(rows: &str) -> Vec<u8> {
    let sheet = format!(
        r#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{rows}</sheetData><mergeCells count="1"><mergeCell ref="A1:D1"/></mergeCells></worksheet>"#
    );
    packed(&[
        ("[Content_Types].xml", br#"<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>"#),
        ("_rels/.rels", br#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>"#),
        ("xl/workbook.xml", r#"<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="Ẩn" sheetId="2" state="hidden" r:id="rId2"/><sheet name="Hồ sơ" sheetId="1" r:id="rId1"/></sheets></workbook>"#.as_bytes()),
        ("xl/_rels/workbook.xml.rels", br#"<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="rId2" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet2.xml"/></Relationships>"#),
        ("xl/styles.xml", br#"<styleSheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><cellXfs count="3"><xf numFmtId="0"/><xf numFmtId="14"/><xf numFmtId="22"/></cellXfs></styleSheet>"#),
        ("xl/worksheets/sheet1.xml", sheet.as_bytes()),
        ("xl/worksheets/sheet2.xml", br#"<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData/></worksheet>"#),
    ])
}

fn text(cell: &str, text: &str) -> String {
    format!(r#"<c r="{cell}" t="inlineStr"><is><t>{text}</t></is></c>"#)
}

fn row(number: u32, cells: &[String]) -> String {
    format!(r#"<row r="{number}">{}</row>"#, cells.concat())
}

fn heading() -> String {
    row(
        2,
        &[
            text("A2", "Số hồ sơ"),
            text("B2", "Ngày nhận"),
            text("C2", "Lệ phí"),
            text("D2", "Lúc"),
        ],
    )
}

fn column(name: &str, field: &str, kind: Kind) -> Column {
    Column {
        names: vec![name.to_owned()],
        path: vec![field.to_owned()],
        kind,
        is_required: true,
        ..Column::default()
    }
}

fn dossiers() -> Columns {
    Columns {
        list: vec![
            column("Số hồ sơ", "ma", Kind::Text),
            column("Ngày nhận", "ngay", Kind::Date),
            column("Lệ phí", "phi", Kind::Number),
            column("Lúc", "luc", Kind::DateTime),
        ],
        ..Columns::default()
    }
}

fn read(bytes: &[u8]) -> Result<Table, Faults> {
    parse(bytes, &Choice::default(), &dossiers(), 100)
}

#[test]
fn cells_of_every_kind() {
    let title = row(1, &[text("A1", "DANH SÁCH")]);
    let plain = row(
        3,
        &[
            text("A3", "H01"),
            r#"<c r="B3" s="1"><v>46346</v></c>"#.to_owned(),
            r#"<c r="C3"><f>SUM(1,2)</f><v>1234567.5</v></c>"#.to_owned(),
            r#"<c r="D3" s="2"><v>46346.5</v></c>"#.to_owned(),
        ],
    );
    let written = row(
        6,
        &[
            text("A6", "H02"),
            text("B6", "5/11/2026"),
            text("C6", "12.5"),
            text("D6", "08:12 05/11/2026"),
            text("F6", "ghi chú bên lề"),
        ],
    );
    let table = read(&xlsx(&format!("{title}{}{plain}{written}", heading())))
        .unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(table.sheet, "Hồ sơ");
    let rows: Vec<(u32, &str)> = table
        .rows
        .iter()
        .map(|row| (row.line, row.data.get()))
        .collect();
    assert_eq!(
        rows,
        [
            (
                3,
                r#"{"ma":"H01","ngay":"2026-11-20","phi":1234567.5,"luc":"2026-11-20T12:00:00+07:00"}"#
            ),
            (
                6,
                r#"{"ma":"H02","ngay":"2026-11-05","phi":12.5,"luc":"2026-11-05T08:12:00+07:00"}"#
            ),
        ]
    );
    assert_eq!(table.notes, [Note::TitleRows(1)]);
}

#[test]
fn faults_name_sheet_and_cell() {
    for (cell, parts) in [
        (
            r#"<c r="C7" t="e"><v>#N/A</v></c>"#.to_owned(),
            ["ô C7", "#N/A"],
        ),
        (text("C7", "nhiều"), ["trang “Hồ sơ”", "không phải là số"]),
        (
            r#"<c r="C7"><v>1234567890123456</v></c>"#.to_owned(),
            ["ô C7", "15 chữ số"],
        ),
    ] {
        let faults = read(&xlsx(&format!(
            "{}{}",
            heading(),
            row(7, &[text("A7", "H"), cell])
        )))
        .expect_err("a fault");
        let fault = &faults.list()[0];
        assert_eq!((fault.line, fault.column), (7, 3));
        assert!(
            parts.iter().all(|part| fault.message_vi.contains(part)),
            "{fault}"
        );
    }
    let lacking = read(&xlsx(&row(2, &[text("A2", "Số hồ sơ")]))).expect_err("columns are missing");
    assert!(
        lacking.to_string().contains("thiếu cột “Ngày nhận”"),
        "{lacking}"
    );
    let other = Choice {
        sheet: Some("Khác".to_owned()),
        ..Choice::default()
    };
    let faults = parse(&xlsx(""), &other, &dossiers(), 9).expect_err("no such sheet");
    assert!(faults.to_string().contains("“Ẩn”, “Hồ sơ”"), "{faults}");
}

#[test]
fn fonts_of_an_old_encoding() {
    let columns = Columns {
        list: vec![column("Số hồ sơ", "ma", Kind::Text)],
        ..Columns::default()
    };
    let sheet = format!(
        "{}{}",
        row(1, &[text("B1", "Sè hå s¬")]),
        row(2, &[text("B2", "§Êt ®ai")])
    );
    let choice = Choice {
        encoding: Some(Encoding::Tcvn3),
        ..Choice::default()
    };
    let table =
        parse(&xlsx(&sheet), &choice, &columns, 9).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(table.rows[0].data.get(), r#"{"ma":"Đất đai"}"#);
}

#[test]
fn what_is_no_workbook_is_told_so() {
    for (bytes, part) in [
        (&b"<html><table><tr>"[..], "HTML"),
        (b"So;Ten\n1;2\n", ".csv"),
        (b"PK\x03\x04 cut", "không đọc được"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "không đọc được"),
        (b"", "không phải là bảng tính"),
    ] {
        let faults = read(bytes).expect_err("no workbook");
        assert!(faults.to_string().contains(part), "{faults}");
    }
    let mut locked = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".to_vec();
    locked.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    assert!(
        read(&locked)
            .expect_err("locked")
            .to_string()
            .contains("mật khẩu")
    );
}

#[test]
fn bombs_are_bounded() {
    let zeros = vec![b' '; 70 << 20];
    let bomb = packed(&[("xl/workbook.xml", &zeros)]);
    assert!(bomb.len() < 1 << 20);
    assert!(
        read(&bomb)
            .expect_err("a bomb")
            .to_string()
            .contains("64 MiB")
    );
    let ods = br#"<office:document-content xmlns:table="t"><table:table><table:table-row table:number-rows-repeated="1048576"><table:table-cell table:number-columns-repeated="16384" office:value="1">x</table:table-cell></table:table-row></table:table></office:document-content>"#;
    let ods = packed(&[("content.xml", ods)]);
    assert!(
        read(&ods)
            .expect_err("a bomb")
            .to_string()
            .contains("ô lặp")
    );
    let far = xlsx(&format!(
        "{}{}",
        heading(),
        r#"<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>"#
    ));
    assert!(
        read(&far)
            .expect_err("far away")
            .to_string()
            .contains("XFD1048576")
    );
    let many = vec![("part.xml", &b""[..]); 1];
    assert!(read(&packed(&many)).is_err());
}

#[test]
fn cells_have_names() {
    for (row, column, name) in [
        (7, 2, "C7"),
        (1, 0, "A1"),
        (1, 25, "Z1"),
        (1, 26, "AA1"),
        (1_048_576, 16_383, "XFD1048576"),
    ] {
        assert_eq!(cell_name(row, column), name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_damaged_workbook_is_a_fault_and_no_panic(at in 0usize..4000, byte in any::<u8>(), cut in 0usize..4000) {
        let mut bytes = xlsx(&format!("{}{}", heading(), row(3, &[text("A3", "H01")])));
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - if cut % 2 == 0 { 0 } else { cut % length });
        if let Ok(table) = read(&bytes) {
            prop_assert!(!table.rows.is_empty());
        }
    }
}
