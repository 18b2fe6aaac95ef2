//! What the store's faults and the hub's refusals mean, in the operator's language.

use crate::edge::status::{Stamp, Trouble};
use crate::store::StoreError;
use crate::wire::RefusalCode;

/// A store that does not work, for the page.
pub fn trouble(error: &StoreError, since: Stamp) -> Trouble {
    let (code, text_vi, hint_vi) = match error {
        StoreError::Full => (
            "store_full",
            "ổ đĩa hoặc hạn mức kho dữ liệu đã đầy; trạm tạm thời không nhận bản ghi mới, dữ liệu đã nhận vẫn an toàn",
            "Giải phóng phân vùng dữ liệu, hoặc tăng store.quota.",
        ),
        StoreError::Damaged | StoreError::BrokenChain { .. } => (
            "store_damaged",
            "tệp kho dữ liệu bị hỏng",
            "Giữ lại tệp cho đơn vị hỗ trợ và phục hồi bản sao lưu gần nhất.",
        ),
        StoreError::Newer { .. } => (
            "store_newer",
            "kho dữ liệu do phiên bản mới hơn tạo ra",
            "Cài lại phiên bản mới hơn, hoặc phục hồi bản sao lưu của phiên bản này.",
        ),
        StoreError::Foreign { .. } => (
            "store_foreign",
            "kho dữ liệu là của một trạm khác",
            "Kiểm tra box.id, hoặc dùng đúng thư mục của trạm này.",
        ),
        StoreError::Busy => (
            "store_busy",
            "một chương trình khác đang dùng kho dữ liệu",
            "Dừng chương trình kia.",
        ),
        StoreError::ReadOnly => (
            "store_read_only",
            "kho dữ liệu chỉ đọc được, không ghi được",
            "Kiểm tra phân vùng dữ liệu: có thể nó đã bị gắn lại ở chế độ chỉ đọc sau một lỗi ổ đĩa.",
        ),
        StoreError::Content(_) => (
            "attachments_failed",
            "không đọc hoặc ghi được tệp đính kèm; chương trình tự thử lại",
            "Kiểm tra thư mục blobs cạnh kho dữ liệu: chỗ trống, quyền ghi, số tệp mở.",
        ),
        StoreError::Sqlite(_) => (
            "store_failed",
            "kho dữ liệu gặp lỗi; chương trình tự thử lại",
            "Xem nhật ký (journalctl -u tramd); nếu kéo dài, kiểm tra ổ đĩa.",
        ),
    };
    Trouble {
        code: code.to_owned(),
        text_vi: text_vi.to_owned(),
        text_en: error.to_string(),
        hint_vi: hint_vi.to_owned(),
        hint_en: error.hint().to_owned(),
        since: Some(since),
    }
}

/// Why the hub did not take a batch.
pub fn refusal_vi(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::UnknownBox => {
            "Trục chưa biết trạm này; đề nghị đơn vị vận hành trục đăng ký (trucd box add)."
        }
        RefusalCode::Suspended => {
            "Trục đã tạm ngừng hoặc thu hồi trạm này; liên hệ đơn vị vận hành trục."
        }
        RefusalCode::Forged => {
            "Trục không nhận chữ ký của trạm; khóa của trạm không khớp với đăng ký ở trục."
        }
        RefusalCode::BrokenChain => {
            "Chuỗi băm không khớp với dữ liệu trục đang giữ; báo đơn vị hỗ trợ."
        }
        RefusalCode::Unreadable => "Trục không đọc được gói tin; có thể hai bên khác phiên bản.",
        RefusalCode::Lost => "Trục thiếu dữ liệu mà trạm không còn giữ.",
    }
}

/// The same in English, by the refusal's code.
pub fn refusal_en(code: &str) -> &'static str {
    match code {
        "unknown_box" => "the hub does not know this box; have it registered (trucd box add).",
        "suspended" => "the hub has suspended or revoked this box; call its operator.",
        "forged" => "the hub does not take the box's signature; its key is not the registered one.",
        "broken_chain" => "the hash chain does not continue what the hub has; call support.",
        "unreadable" => "the hub cannot read the message; the versions may differ.",
        "lost" => "the hub lacks what the box no longer holds.",
        _ => "for a reason that this version does not know.",
    }
}
