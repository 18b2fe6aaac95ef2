//! What a workbook is by its first bytes, and whether it may be opened at all.

use std::io::{Cursor, Read};

use quick_xml::events::{BytesStart, Event};
use zip::ZipArchive;

use crate::formats::Fault;
use crate::formats::sheet::{CELLS_MAX, damaged, fault};

/// Most bytes that all parts of a workbook unpack to.
const UNPACKED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most parts of a workbook.
const PARTS_MAX: usize = 2_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xlsx,
    Xls,
    Ods,
}

/// Tells the kind of a workbook that is safe to open.
pub fn kind(bytes: &[u8]) -> Result<Kind, Fault> {
    if bytes.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        return match contains(bytes, &utf16("EncryptedPackage")) {
            true => Err(damaged("EncryptedPackage")),
            false => Ok(Kind::Xls),
        };
    }
    if bytes.starts_with(b"PK") {
        return packed(bytes);
    }
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]).to_lowercase();
    let (vi, en) = match start.contains("<html") || start.contains("<table") {
        true => (
            "tệp có đuôi bảng tính nhưng bên trong là trang web (HTML); hãy mở bằng Excel và lưu thành .xlsx, hoặc xuất CSV",
            "the file is named as a workbook but is a web page (HTML); open it in Excel and save it as .xlsx, or export CSV",
        ),
        false => (
            "tệp không phải là bảng tính Excel (.xlsx, .xls) hay OpenDocument (.ods); nếu là văn bản CSV, hãy đặt đuôi .csv",
            "the file is no workbook of Excel (.xlsx, .xls) or OpenDocument (.ods); if it is CSV, name it .csv",
        ),
    };
    Err(fault(vi.to_owned(), en.to_owned()))
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Unpacks every part once without keeping it: the sizes that a packed file declares prove nothing.
fn packed(bytes: &[u8]) -> Result<Kind, Fault> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    if PARTS_MAX < archive.len() {
        return Err(too_large());
    }
    let mut left = UNPACKED_BYTES_MAX;
    let mut kind = None;
    for at in 0..archive.len() {
        let part = archive.by_index(at).map_err(damaged)?;
        let name = part.name().map_err(damaged)?.into_owned();
        let mut part = part.take(left + 1);
        let unpacked = match name.as_str() {
            "content.xml" => {
                let mut content = Vec::new();
                part.read_to_end(&mut content).map_err(damaged)?;
                if !is_bounded(&content) {
                    return Err(too_large());
                }
                kind = kind.or(Some(Kind::Ods));
                content.len() as u64
            }
            _ => std::io::copy(&mut part, &mut std::io::sink()).map_err(damaged)?,
        };
        if name.eq_ignore_ascii_case("xl/workbook.xml") {
            kind = Some(Kind::Xlsx);
        }
        left = left.checked_sub(unpacked).ok_or_else(too_large)?;
    }
    kind.ok_or_else(|| damaged("no workbook inside"))
}

fn too_large() -> Fault {
    let mib = UNPACKED_BYTES_MAX >> 20;
    fault(
        format!(
            "bảng tính giải nén vượt {mib} MiB hoặc có quá nhiều ô lặp; hãy xóa hình ảnh, định dạng và vùng thừa, hoặc chia thành nhiều tệp"
        ),
        format!(
            "the workbook unpacks to more than {mib} MiB, or repeats too many cells; remove pictures, formats and what is not needed, or split it"
        ),
    )
}

/// An OpenDocument table says "so many times the same" of cells and rows; with values in them the
/// table would fill the memory.
fn is_bounded(content: &[u8]) -> bool {
    let mut reader = quick_xml::Reader::from_reader(content);
    let (mut cells, mut row_cells, mut row_repeats) = (0usize, 0usize, 1usize);
    loop {
        match reader.read_event() {
            Ok(Event::Start(start)) => match start.name().as_ref() {
                "table:table-row" => {
                    row_cells = 0;
                    row_repeats = repeats(&start, "table:number-rows-repeated");
                }
                "table:table-cell" => {
                    row_cells =
                        row_cells.saturating_add(repeats(&start, "table:number-columns-repeated"));
                }
                _ => {}
            },
            Ok(Event::End(end)) if end.name().as_ref() == "table:table-row" => {
                cells = cells.saturating_add(row_cells.saturating_mul(row_repeats));
                if CELLS_MAX < cells {
                    return false;
                }
            }
            // What cannot be read is said when the workbook is opened.
            Ok(Event::Eof) | Err(_) => return true,
            Ok(_) => {}
        }
    }
}

fn repeats(start: &BytesStart<'_>, name: &str) -> usize {
    let value = start
        .attributes()
        .flatten()
        .find(|attribute| attribute.key.as_ref() == name);
    let times = value.and_then(|attribute| attribute.value.trim().parse().ok());
    times.unwrap_or(1)
}
