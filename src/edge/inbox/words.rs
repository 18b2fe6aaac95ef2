//! What is said of a request about documents that is not taken.

use axum::http::StatusCode;

use crate::edge::problem::Problem;

pub fn no_document() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-document",
        ["Không có văn bản này", "There is no such document"],
        [
            "Hộp đến của trạm không có văn bản mang số này.",
            "The box's inbox has no document of this number.",
        ],
        [
            "Lấy số từ GET /v1/inbox?all=true.",
            "Take the number from GET /v1/inbox?all=true.",
        ],
    )
}

pub fn no_original() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-original",
        ["Không có tệp gốc", "There is no original file"],
        [
            "Văn bản này được gửi ở dạng bản ghi, không kèm tệp gốc.",
            "This document was sent as a record, without an original file.",
        ],
        [
            "Dùng data trong GET /v1/inbox/{số}.",
            "Use data of GET /v1/inbox/{number}.",
        ],
    )
}

pub fn no_attachment() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-attachment",
        ["Không có tệp này", "There is no such file"],
        [
            "Văn bản này không nêu tệp nào mang mã băm đó.",
            "The document names no file of this digest.",
        ],
        [
            "Lấy sha256 từ attachments trong GET /v1/inbox/{số}.",
            "Take sha256 from attachments of GET /v1/inbox/{number}.",
        ],
    )
}

/// Of the file, so many pieces are here.
pub fn file_coming(received: u64, chunks: u64) -> Problem {
    let vi = format!("Tệp đang về trạm: đã có {received} trên {chunks} đoạn.");
    let en = format!("The file is on its way: {received} of {chunks} chunks are here.");
    let hint = [
        "Gọi lại sau; trạm tự nhận tiếp khi có mạng.",
        "Try again later; the box goes on by itself while the link stands.",
    ];
    Problem::unavailable("file-on-its-way", [&vi, &en], hint, 30)
}

pub fn file_refused() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "file-refused",
        ["Tệp bị trục giữ lại", "The hub keeps the file back"],
        [
            "Tệp không qua được kiểm tra ở trục (sai mã băm hoặc có mã độc) nên không được chuyển về.",
            "The file did not pass the hub's check (other digest, or malware), so it does not come.",
        ],
        [
            "Đề nghị nơi gửi gửi lại văn bản với tệp sạch.",
            "Ask the sender to send the document again with a clean file.",
        ],
    )
}

pub fn file_removed() -> Problem {
    Problem::new(
        StatusCode::GONE,
        "file-removed",
        ["Tệp đã hết hạn lưu", "The file's time is over"],
        [
            "Văn bản đã xử lý xong và tệp đã được xóa khỏi trạm theo hạn lưu.",
            "The document was done, and the file has left the box after its time.",
        ],
        [
            "Đặt store.received_keep dài hơn; bản gốc còn ở trục.",
            "Set store.received_keep longer; the hub still has it.",
        ],
    )
}

pub fn nothing_said() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "nothing-said",
        ["Chưa có trạng thái nào", "Nothing has been said yet"],
        [
            "Chưa cơ quan nào báo trạng thái của văn bản này.",
            "No office has said anything of this document.",
        ],
        [
            "Dùng id đã nhận khi gửi; nơi nhận có thể đang mất mạng.",
            "Use the id that was answered when it was sent; the recipient may be offline.",
        ],
    )
}

pub fn not_allowed() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "inbox-not-allowed",
        ["Không được dùng hộp đến", "The inbox may not be used"],
        [
            "Mã truy cập này không được đọc hộp đến.",
            "This token may not use the inbox.",
        ],
        [
            "Đặt inbox = true cho [[http.token]] trong cấu hình của trạm.",
            "Set inbox = true for the [[http.token]] in the box's configuration.",
        ],
    )
}

pub fn says_the_sender() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "status-of-the-sender",
        ["Trạng thái của bên gửi", "A status of the sender"],
        [
            "Mã này chỉ bên gửi văn bản được báo.",
            "Only the document's sender says this code.",
        ],
        [
            "Bên gửi dùng POST /v1/sent/{id}/status.",
            "The sender uses POST /v1/sent/{id}/status.",
        ],
    )
}

pub fn to_whom() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "to-whom",
        ["Thiếu nơi nhận", "The recipient is missing"],
        [
            "Cần mã cơ quan nhận trong to.",
            "The recipient's agency code is needed in to.",
        ],
        [
            "Ví dụ: \"to\": \"H53.12\".",
            "For example: \"to\": \"H53.12\".",
        ],
    )
}

pub fn not_readable() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "not-readable",
        ["Yêu cầu không đọc được", "The request cannot be read"],
        [
            "code là mã trạng thái hai chữ số; note tối đa 1000 ký tự; after, limit là số; all là true hoặc false.",
            "code is a status of two digits; note has at most 1000 characters; after, limit are numbers; all is true or false.",
        ],
        [
            "Ví dụ: {\"code\": \"03\", \"note\": \"đã vào sổ\"}.",
            "For example: {\"code\": \"03\", \"note\": \"registered\"}.",
        ],
    )
}

pub fn unreadable() -> Problem {
    let what = ["Chưa dùng được hộp đến.", "The inbox cannot be used now."];
    let hint = [
        "Thử lại sau; nếu kéo dài, xem trang trạng thái của trạm.",
        "Try again later; if it lasts, look at the box's status page.",
    ];
    Problem::unavailable("inbox-unreadable", what, hint, 10)
}
