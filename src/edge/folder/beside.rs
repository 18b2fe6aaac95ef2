//! Files that the rows of a table name: beside the table, and never outside of its folder.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// Folders inside of folders that a name may lead through.
const DEPTH_MAX: usize = 16;

/// Why a file is not there for its row.
#[derive(Debug)]
pub enum Why {
    /// The row is wrong, or the file: Vietnamese and English, without its name.
    Wrong([&'static str; 2]),
    /// It may be read later.
    Unreadable(io::Error),
}

/// The content of a file that is named from `folder` on. No part of the way may be a link, so that
/// a name leads nowhere else.
pub fn read(folder: &Path, name: &str, bytes_max: u64) -> Result<Vec<u8>, Why> {
    let name = name.replace('\\', "/");
    let parts: Vec<&str> = name.split('/').collect();
    let is_part =
        |part: &&str| !["", ".", ".."].contains(part) && !part.chars().any(char::is_control);
    if DEPTH_MAX < parts.len() || !parts.iter().all(is_part) {
        return Err(Why::Wrong([
            "tên tệp đính kèm phải là đường dẫn tương đối trong thư mục của bảng, không có “..”",
            "an attachment's name must be a relative path within the table's folder, without \"..\"",
        ]));
    }
    let (last, folders) = parts.split_last().expect("a split gives a part");
    let mut place: OwnedFd = File::open(folder).map_err(Why::Unreadable)?.into();
    for part in folders {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        place = openat(&place, *part, flags, Mode::empty()).map_err(of_errno)?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file: File = openat(&place, *last, flags, Mode::empty())
        .map_err(of_errno)?
        .into();
    let length = file.metadata().map_err(Why::Unreadable)?;
    if !length.is_file() {
        return Err(of_errno(Errno::ELOOP));
    }
    if bytes_max < length.len() {
        return Err(Why::Wrong([
            "tệp đính kèm lớn hơn giới hạn attachment_max",
            "the attachment is larger than attachment_max",
        ]));
    }
    let mut content = Vec::new();
    let read = (&file).take(length.len() + 1).read_to_end(&mut content);
    read.map_err(Why::Unreadable)?;
    match content.len() as u64 == length.len() {
        true => Ok(content),
        false => Err(Why::Unreadable(io::Error::other(
            "an attachment is still being written",
        ))),
    }
}

fn of_errno(errno: Errno) -> Why {
    match errno {
        Errno::ENOENT => Why::Wrong([
            "không thấy tệp đính kèm bên cạnh bảng; đặt các tệp đó vào trước rồi mới đặt bảng",
            "the attachment is not there; put such files in first, and then the table",
        ]),
        Errno::ELOOP | Errno::ENOTDIR | Errno::EMLINK => Why::Wrong([
            "tệp đính kèm không phải là tệp thường trong thư mục của bảng (liên kết không được theo)",
            "the attachment is no ordinary file within the table's folder (links are not followed)",
        ]),
        Errno::EACCES | Errno::EPERM => Why::Wrong([
            "trạm không có quyền đọc tệp đính kèm",
            "the box may not read the attachment",
        ]),
        errno => Why::Unreadable(errno.into()),
    }
}

/// What a file is by its extension.
pub fn mime_of(name: &str) -> &'static str {
    const KNOWN: [(&str, &str); 13] = [
        ("pdf", "application/pdf"),
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("tif", "image/tiff"),
        ("tiff", "image/tiff"),
        ("txt", "text/plain"),
        ("xml", "application/xml"),
        ("zip", "application/zip"),
        ("doc", "application/msword"),
        (
            "docx",
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        ),
        ("xls", "application/vnd.ms-excel"),
        (
            "xlsx",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
    ];
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = KNOWN
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(extension));
    known.map_or("application/octet-stream", |(_, mime)| mime)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_what_lies_in_the_folder_is_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("nhan");
        std::fs::create_dir_all(folder.join("quet/2026")).unwrap();
        std::fs::write(place.path().join("mat.txt"), "ngoài").unwrap();
        std::fs::write(folder.join("quet/2026/a.pdf"), "12345").unwrap();
        symlink(place.path().join("mat.txt"), folder.join("lien-ket.txt")).unwrap();
        symlink(place.path(), folder.join("ra-ngoai")).unwrap();
        for good in ["quet/2026/a.pdf", "quet\\2026\\a.pdf"] {
            assert_eq!(read(&folder, good, 5).unwrap(), b"12345", "{good}");
        }
        let absolute = place.path().join("mat.txt").display().to_string();
        for bad in [
            "",
            "..",
            "../mat.txt",
            "quet/../../mat.txt",
            "quet//2026/a.pdf",
            "./quet/2026/a.pdf",
            &absolute,
            "lien-ket.txt",
            "ra-ngoai/mat.txt",
            "quet",
            "quet/khong-co.pdf",
            "quet/2026/a.pdf/b",
            "a\u{0}b",
        ] {
            let why = read(&folder, bad, 100).unwrap_err();
            assert!(matches!(why, Why::Wrong(_)), "{bad}: {why:?}");
        }
        let large = read(&folder, "quet/2026/a.pdf", 4).unwrap_err();
        assert!(matches!(large, Why::Wrong([_, en]) if en.contains("attachment_max")));
    }

    #[test]
    fn extensions_say_what_a_file_is() {
        assert_eq!(mime_of("a.PDF"), "application/pdf");
        assert_eq!(mime_of("a"), "application/octet-stream");
    }
}
