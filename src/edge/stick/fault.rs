//! What goes wrong with a stick, for the page and the terminal: what it is, and what to do.

use std::path::Path;

use anyhow::anyhow;

use crate::edge::commands::Failure;
use crate::edge::status::{Stamp, Trouble};
use crate::model::UnixMs;
use crate::shell::sealed::SealError;
use crate::shell::stick::StickError;
use crate::store::StoreError;

/// One fault, in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: &'static str,
    /// Vietnamese and English.
    pub text: [String; 2],
    pub hint: [String; 2],
}

impl Fault {
    pub fn new(code: &'static str, text: [&str; 2], hint: [&str; 2]) -> Fault {
        Fault {
            code,
            text: text.map(str::to_owned),
            hint: hint.map(str::to_owned),
        }
    }

    pub fn of_stick(dir: &Path, error: StickError) -> Fault {
        let shown = dir.display();
        match error {
            StickError::NotThere(_) => Fault {
                code: "stick-not-there",
                text: [
                    format!("không có thư mục {shown}"),
                    format!("there is no folder {shown}"),
                ],
                hint: [
                    "Cắm USB và gắn (mount) vào thư mục đó trước.".to_owned(),
                    "Plug the stick in and mount it there first.".to_owned(),
                ],
            },
            StickError::NotPrepared => Fault::new(
                "stick-other-box",
                [
                    "USB không phải của trạm này",
                    "the stick is not one of this box",
                ],
                [
                    "Dùng đúng USB, hoặc chuẩn bị USB này cho trạm: tramd export --prepare DIR.",
                    "Use the right stick, or prepare this one for the box: tramd export --prepare DIR.",
                ],
            ),
            StickError::ReadOnly => Fault::new(
                "stick-read-only",
                ["không ghi được vào USB", "the stick cannot be written to"],
                [
                    "Gạt nút khóa ghi trên USB, hoặc gắn lại cho phép tài khoản của dịch vụ ghi (uid=tramd).",
                    "Unlock the stick, or mount it writable for the service's user (uid=tramd).",
                ],
            ),
            StickError::Full => Fault::new(
                "stick-full",
                ["USB đầy", "the stick is full"],
                [
                    "Xóa bớt tệp khác trên USB hoặc dùng USB lớn hơn; trạm vẫn giữ đủ dữ liệu.",
                    "Remove other files from it or use a larger one; the box still holds everything.",
                ],
            ),
            StickError::TooLarge => Fault::new(
                "stick-file-too-large",
                [
                    "hệ thống tệp của USB không nhận tệp lớn như vậy",
                    "the stick's file system takes no file of this size",
                ],
                [
                    "Định dạng USB thành exFAT hoặc FAT32.",
                    "Format the stick as exFAT or FAT32.",
                ],
            ),
            StickError::Gone => Fault::new(
                "stick-gone",
                [
                    "USB không trả lời: đã bị rút hoặc bị hỏng",
                    "the stick does not answer: it was pulled or is broken",
                ],
                [
                    "Cắm lại USB, hoặc dùng USB khác; trạm vẫn giữ đủ dữ liệu.",
                    "Plug it in again, or use another; the box still holds everything.",
                ],
            ),
            StickError::Damaged => Fault::new(
                "stick-damaged",
                [
                    "tệp biên nhận trên USB bị hỏng",
                    "a file of receipts on the stick is damaged",
                ],
                [
                    "Nhập lại USB tại trục (trucd import) để có biên nhận mới.",
                    "Import the stick at the hub again (trucd import) for new receipts.",
                ],
            ),
            StickError::Io(error) => Fault {
                code: "stick-io",
                text: [
                    format!("không đọc hoặc ghi được USB: {error}"),
                    format!("the stick cannot be read or written: {error}"),
                ],
                hint: [
                    "Cắm lại USB, hoặc dùng USB khác; trạm vẫn giữ đủ dữ liệu.".to_owned(),
                    "Plug it in again, or use another; the box still holds everything.".to_owned(),
                ],
            },
        }
    }

    pub fn of_seal(dir: &Path, error: SealError) -> Fault {
        match error {
            SealError::Io(error) => Fault::of_stick(dir, error.into()),
            error => Fault::no_key(&error.to_string()),
        }
    }

    /// The hub's key is not here, or is none.
    pub fn no_key(why: &str) -> Fault {
        Fault {
            code: "stick-no-key",
            text: [
                format!("chưa có khóa công khai của trục để mã hóa USB ({why})"),
                format!("the hub's public key that seals sticks is not here ({why})"),
            ],
            hint: [
                "Lấy khóa tại trục (trucd seal-key) và ghi vào tệp đó; chỉ trục đọc được dữ liệu trên USB."
                    .to_owned(),
                "Get it at the hub (trucd seal-key) and put it there; only the hub can read the stick."
                    .to_owned(),
            ],
        }
    }

    pub fn of_store(error: &StoreError) -> Fault {
        Fault {
            code: "stick-store",
            text: [
                format!("kho của trạm không dùng được: {error}"),
                format!("the box's store cannot be used: {error}"),
            ],
            hint: [
                "Chạy tramd check; nếu không có quyền đọc thì chạy bằng sudo.".to_owned(),
                error.hint().to_owned(),
            ],
        }
    }

    pub fn daemon(why: &str) -> Fault {
        Fault {
            code: "stick-daemon",
            text: [
                format!("dịch vụ của trạm không làm được việc này: {why}"),
                format!("the box's daemon did not do this: {why}"),
            ],
            hint: [
                "Chạy tramd status, sửa lỗi được báo rồi làm lại.".to_owned(),
                "Run tramd status, mend what it says, and do this again.".to_owned(),
            ],
        }
    }

    pub fn busy() -> Fault {
        Fault::new(
            "stick-busy",
            [
                "đang có một lần ghi hoặc đọc USB khác",
                "another stick is being written or read",
            ],
            ["Chờ việc đó xong.", "Wait for its end."],
        )
    }

    pub fn forged(file: &str) -> Fault {
        Fault {
            code: "stick-forged",
            text: [
                format!("{file} có biên nhận không do trục ký cho trạm này"),
                format!("{file} holds a receipt that the hub has not signed for this box"),
            ],
            hint: [
                "Không có gì được tính là đã gửi. Kiểm tra USB từ đâu đến; nhập lại tại đúng trục."
                    .to_owned(),
                "Nothing counts as delivered. Find out where the stick comes from; import it at the right hub."
                    .to_owned(),
            ],
        }
    }

    pub fn interrupted() -> Fault {
        Fault::new(
            "stick-interrupted",
            [
                "lần ghi USB gần nhất bị ngắt giữa chừng",
                "the last time a stick was used it was broken off",
            ],
            [
                "Cắm lại USB để làm lại; trạm vẫn giữ đủ dữ liệu.",
                "Plug the stick in again; the box still holds everything.",
            ],
        )
    }

    pub fn trouble(&self, at: UnixMs) -> Trouble {
        let ([text_vi, text_en], [hint_vi, hint_en]) = (self.text.clone(), self.hint.clone());
        Trouble {
            code: self.code.to_owned(),
            text_vi,
            text_en,
            hint_vi,
            hint_en,
            since: Some(Stamp(at)),
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        let [vi, en] = &fault.text;
        let message = format!("{vi} / {en}");
        let [hint_vi, hint_en] = fault.hint;
        match fault.code {
            "stick-no-key" => Failure::Setup {
                message,
                hint_vi,
                hint_en,
            },
            _ => Failure::Runtime(anyhow!("{message}\n    {hint_vi}\n    {hint_en}")),
        }
    }
}
