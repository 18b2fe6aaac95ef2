//! Why a backup was not made, where somebody can do something about it: the words for the terminal, the
//! page and the result that is kept.

use std::fmt;
use std::path::PathBuf;

use crate::edge::page::lang::Lang;
use crate::edge::status::{Stamp, Trouble};
use crate::model::UnixMs;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Another one is being made.
    Busy,
    /// There is a file of this name.
    Exists(PathBuf),
    /// The folder that backups go to is not there.
    NoFolder(PathBuf),
    /// The box's own disk has no room for the copies that a backup is made of.
    NoRoom { free_mib: u64, needed_mib: u64 },
    /// The archive cannot be written where it is to be.
    Unwritable(PathBuf),
    /// It was made, and could not be restored.
    Trial,
    /// Anything else; the log and the chain of causes tell more.
    Other,
}

impl Problem {
    /// What a failure says of itself.
    pub fn of(error: &anyhow::Error) -> &Problem {
        error.downcast_ref().unwrap_or(&Problem::Other)
    }

    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Problem::Busy => "backup_busy",
            Problem::Exists(_) => "backup_exists",
            Problem::NoFolder(_) => "backup_no_folder",
            Problem::NoRoom { .. } => "backup_no_room",
            Problem::Unwritable(_) => "backup_unwritable",
            Problem::Trial => "backup_trial_failed",
            Problem::Other => "backup_failed",
        }
    }

    /// Vietnamese and English.
    fn texts(&self) -> [String; 2] {
        match self {
            Problem::Busy => [
                "đang có một lần sao lưu".to_owned(),
                "another backup is being made".to_owned(),
            ],
            Problem::Exists(path) => [
                format!("{} đã có", path.display()),
                format!("{} exists already", path.display()),
            ],
            Problem::NoFolder(path) => [
                format!("không có thư mục {}", path.display()),
                format!("there is no folder {}", path.display()),
            ],
            Problem::NoRoom {
                free_mib,
                needed_mib,
            } => [
                format!(
                    "đĩa của trạm chỉ còn {free_mib} MiB, sao lưu cần {needed_mib} MiB trong lúc làm"
                ),
                format!(
                    "the box's disk has {free_mib} MiB left, a backup needs {needed_mib} MiB while it is made"
                ),
            ],
            Problem::Unwritable(path) => [
                format!("không ghi được {}", path.display()),
                format!("cannot write {}", path.display()),
            ],
            Problem::Trial => [
                "bản sao lưu không khôi phục thử được nên đã bị bỏ".to_owned(),
                "the backup failed its trial and was dropped".to_owned(),
            ],
            Problem::Other => [
                "không sao lưu được".to_owned(),
                "the backup could not be made".to_owned(),
            ],
        }
    }

    fn hints(&self) -> [&'static str; 2] {
        match self {
            Problem::Busy => ["Chờ lần đó xong.", "Wait for its end."],
            Problem::Exists(_) => ["Chọn tên khác.", "Choose another name."],
            Problem::NoFolder(_) => [
                "Kiểm tra ổ mạng hoặc USB đã gắn chưa; trạm không tự tạo thư mục này.",
                "See whether the share or stick is mounted; the box never makes this folder.",
            ],
            Problem::NoRoom { .. } => [
                "Giải phóng chỗ trên đĩa của trạm.",
                "Free some space on the box's disk.",
            ],
            Problem::Unwritable(_) => [
                "Kiểm tra chỗ trống và quyền ghi của nơi chứa; với systemd thêm ReadWritePaths= cho tramd.",
                "Check room and permissions there; under systemd add ReadWritePaths= for tramd.",
            ],
            Problem::Trial => [
                "Kiểm tra ổ đĩa chứa bản sao lưu và kho dữ liệu (tramd check), rồi sao lưu lại.",
                "Check the disk that holds backups and the store (tramd check), then back up again.",
            ],
            Problem::Other => [
                "Xem nhật ký (journalctl -u tramd) rồi sao lưu lại.",
                "See the log (journalctl -u tramd), then back up again.",
            ],
        }
    }

    /// What a failure is, with its causes, and what to do.
    pub fn words(error: &anyhow::Error, lang: Lang) -> [String; 2] {
        let told = Problem::trouble(error, Stamp(UnixMs(0)));
        lang.of([[told.text_vi, told.hint_vi], [told.text_en, told.hint_en]])
    }

    /// For the page.
    pub fn trouble(error: &anyhow::Error, at: Stamp) -> Trouble {
        let problem = Problem::of(error);
        let [text_vi, text_en] = problem.texts();
        // What caused it is told as it is: it names files and the system's words, no records.
        let causes: Vec<String> = match problem {
            Problem::Other => error.chain().map(ToString::to_string).collect(),
            _ => error.chain().skip(1).map(ToString::to_string).collect(),
        };
        let causes = match causes.is_empty() {
            true => String::new(),
            false => format!(" ({})", causes.join(": ")),
        };
        let [hint_vi, hint_en] = problem.hints();
        Trouble {
            code: problem.code().to_owned(),
            text_vi: format!("{text_vi}{causes}"),
            text_en: format!("{text_en}{causes}"),
            hint_vi: hint_vi.to_owned(),
            hint_en: hint_en.to_owned(),
            since: Some(at),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([vi, en], [hint_vi, hint_en]) = (self.texts(), self.hints());
        write!(f, "{vi}. {hint_vi} / {en}. {hint_en}")
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_failure_is_told_with_its_cause_and_what_to_do() {
        let at = Stamp(UnixMs(7));
        let error = Err::<(), _>(anyhow!("disk full"))
            .context(Problem::Unwritable(PathBuf::from("/mnt/x")))
            .unwrap_err();
        let told = Problem::trouble(&error, at);
        assert_eq!(told.code, "backup_unwritable");
        assert_eq!(told.text_vi, "không ghi được /mnt/x (disk full)");
        assert_eq!(told.text_en, "cannot write /mnt/x (disk full)");
        assert!(told.hint_vi.contains("quyền ghi") && told.hint_en.contains("ReadWritePaths"));
        assert_eq!(told.since, Some(at));
        let other = Problem::trouble(&anyhow!("the store is gone"), at);
        assert_eq!(
            other.text_en,
            "the backup could not be made (the store is gone)"
        );
        let plain = Problem::trouble(&Problem::Busy.into(), at);
        assert_eq!(plain.text_en, "another backup is being made");
    }
}
