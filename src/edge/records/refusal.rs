//! What is said of a request that is not taken, each case in its own words.

use axum::http::StatusCode;

use crate::catalogue::Dataset;
use crate::catalogue::admit::Refusal;
use crate::edge::intake::IntakeError;
use crate::edge::problem::{ErrorItem, Problem};
use crate::formats::Faults;
use crate::model::DatasetId;
use crate::model::limits::ENTRY_BYTES_MAX;

pub fn bad_request(detail: [&str; 2], hint: [&str; 2]) -> Problem {
    let title = ["Yêu cầu không đọc được", "The request cannot be read"];
    Problem::new(StatusCode::BAD_REQUEST, "not-readable", title, detail, hint)
}

pub fn not_readable(faults: &Faults) -> Problem {
    let count = faults.list().len() as u64 + faults.more();
    bad_request(
        [
            &format!("Dữ liệu có {count} chỗ không đọc được; không bản ghi nào được lưu."),
            &format!("The body cannot be read in {count} places; nothing was kept."),
        ],
        [
            "Sửa các chỗ nêu trong errors rồi gửi lại.",
            "Correct the places in errors and send it again.",
        ],
    )
    .with_errors(places(faults))
}

pub fn too_many_records(limit: usize, faults: &Faults) -> Problem {
    too_many(limit, places(faults))
}

pub fn too_many(limit: usize, errors: Vec<ErrorItem>) -> Problem {
    Problem::too_large([
        &format!("Một lần gửi tối đa {limit} bản ghi; không bản ghi nào được lưu."),
        &format!("A request has at most {limit} records; nothing was kept."),
    ])
    .with_errors(errors)
}

fn places(faults: &Faults) -> Vec<ErrorItem> {
    let items = faults.list().iter().map(|fault| ErrorItem {
        line: Some(fault.line),
        column: Some(fault.column),
        detail: fault.message_vi.clone(),
        detail_en: fault.message_en.clone(),
        ..ErrorItem::default()
    });
    items.collect()
}

pub fn unfit(
    dataset: &Dataset,
    first: &Refusal,
    errors: Vec<ErrorItem>,
    refused: usize,
    count: usize,
) -> Problem {
    if first.alarm() {
        return Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "state-secret",
            ["Nội dung không được phép vào hệ thống này", "This content must not enter this system"],
            [
                "Tài liệu mang dấu mật. Trạm đã từ chối, không lưu nội dung, và đã báo động về trục.",
                "The document is marked as a state secret. The box refused it, kept nothing of it, and raised the alarm.",
            ],
            [
                "Gửi tài liệu mật theo đường riêng đúng quy định về bảo vệ bí mật nhà nước.",
                "Send secret documents by the way that the law on state secrets provides.",
            ],
        )
        .with_errors(errors);
    }
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "unfit",
        ["Bản ghi không đúng mẫu", "The record does not fit"],
        [
            &format!("{refused} trong {count} bản ghi không đúng mẫu của bộ dữ liệu “{}”; không bản ghi nào được lưu.", dataset.title_vi),
            &format!("{refused} of {count} records do not fit the dataset {:?}; nothing was kept.", dataset.title_en),
        ],
        ["Sửa các trường nêu trong errors rồi gửi lại.", "Correct the fields in errors and send it again."],
    )
    .with_errors(errors)
}

pub fn unknown_dataset() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "unknown-dataset",
        ["Không có bộ dữ liệu này", "There is no such dataset"],
        [
            "Danh mục của trạm không có bộ dữ liệu với mã này.",
            "The box's catalogue has no dataset of this id.",
        ],
        [
            "Kiểm tra mã bộ dữ liệu trong đường dẫn.",
            "Check the dataset's id in the path.",
        ],
    )
}

pub fn not_allowed(dataset: &DatasetId) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "dataset-not-allowed",
        [
            "Không được gửi bộ dữ liệu này",
            "This dataset is not allowed",
        ],
        [
            &format!("Mã truy cập này không được gửi bộ dữ liệu {dataset}."),
            &format!("This token may not send the dataset {dataset}."),
        ],
        [
            "Đề nghị người quản trị trạm thêm bộ dữ liệu vào http.token.datasets.",
            "Ask the box's administrator to add the dataset to http.token.datasets.",
        ],
    )
}

pub fn body_too_large(limit: usize) -> Problem {
    let kib = limit / 1024;
    Problem::too_large([
        &format!("Một lần gửi tối đa {kib} KiB."),
        &format!("A request has at most {kib} KiB."),
    ])
}

pub fn record_too_large(index: usize, bytes: usize) -> Problem {
    let item = ErrorItem {
        record: Some(index),
        detail: format!("bản ghi có {bytes} byte, quá lớn"),
        detail_en: format!("the record has {bytes} bytes, which is too large"),
        ..ErrorItem::default()
    };
    let kib = ENTRY_BYTES_MAX / 1024;
    Problem::too_large([
        &format!(
            "Một bản ghi quá lớn (tối đa {kib} KiB); không bản ghi nào của lần gửi này được lưu. Gửi \
             tệp riêng bằng PUT /v1/blobs, trong bản ghi chỉ ghi mã băm của tệp."
        ),
        &format!(
            "A record is too large (at most {kib} KiB); nothing of this request was kept. Send files \
             by PUT /v1/blobs and name them in the record by their digest."
        ),
    ])
    .with_errors(vec![item])
}

pub fn no_attachment(index: usize, sha256: &str) -> Problem {
    let item = ErrorItem {
        record: Some(index),
        detail: format!("trạm không có tệp {sha256}"),
        detail_en: format!("the box has no attachment {sha256}"),
        ..ErrorItem::default()
    };
    missing_attachments(vec![item])
}

/// Records name attachments that the box does not have.
pub fn missing_attachments(items: Vec<ErrorItem>) -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "attachment-missing",
        ["Thiếu tệp đính kèm", "An attachment is missing"],
        [
            "Bản ghi nêu tệp đính kèm mà trạm không có; không bản ghi nào của lần gửi này được lưu.",
            "A record names an attachment that the box does not have; nothing of this request was kept.",
        ],
        [
            "Gửi tệp trước bằng PUT /v1/blobs/{sha256}, rồi gửi lại bản ghi.",
            "PUT /v1/blobs/{sha256} it first, then send the record again.",
        ],
    )
    .with_errors(items)
}

pub fn body_too_slow() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "too-slow",
        ["Gửi quá chậm", "Too slow"],
        [
            "Dữ liệu không đến đủ trong 30 giây.",
            "The body did not arrive within 30 seconds.",
        ],
        [
            "Chia thành nhiều lần gửi nhỏ hơn.",
            "Send it in smaller parts.",
        ],
    )
}

pub fn busy() -> Problem {
    Problem::unavailable(
        "busy",
        [
            "Trạm đang nhận nhiều dữ liệu lớn cùng lúc. Không bản ghi nào của lần gửi này được lưu.",
            "The box is taking in many large bodies at once. Nothing of this request was kept.",
        ],
        ["Gửi lại sau ít giây.", "Send it again in a few seconds."],
        5,
    )
}

/// The hub has ordered that nothing is taken from this source for now.
pub fn paused() -> Problem {
    Problem::unavailable(
        "source-paused",
        [
            "Trục đã tạm dừng nguồn này. Không bản ghi nào của lần gửi này được lưu.",
            "The hub has paused this source. Nothing of this request was kept.",
        ],
        [
            "Gửi lại sau; hỏi người quản trị trục khi nào mở lại.",
            "Send it again later; ask the hub's administrator when it is resumed.",
        ],
        60,
    )
}

pub fn other_content(index: Option<usize>) -> Problem {
    let problem = Problem::new(
        StatusCode::CONFLICT,
        "other-content",
        [
            "Mã đã dùng cho nội dung khác",
            "The key was used with other content",
        ],
        [
            "Mã id hoặc Idempotency-Key này đã dùng trước đây với nội dung khác; không bản ghi nào của lần gửi này được lưu.",
            "This id or Idempotency-Key was used before with other content; nothing of this request was kept.",
        ],
        [
            "Dùng mã mới cho nội dung mới; chỉ gửi lại mã cũ với đúng nội dung cũ.",
            "Use a new key for new content, and an old key only with its old content.",
        ],
    );
    match index {
        None => problem,
        Some(index) => problem.with_errors(vec![ErrorItem {
            record: Some(index),
            detail: "id này đã dùng với nội dung khác".to_owned(),
            detail_en: "this id was used with other content".to_owned(),
            ..ErrorItem::default()
        }]),
    }
}

pub fn of_intake(error: IntakeError) -> Problem {
    let again = ["Gửi lại sau.", "Send it again later."];
    match error {
        IntakeError::StoreClosed => Problem::unavailable(
            "store-unavailable",
            [
                "Kho dữ liệu của trạm đang gặp lỗi. Không bản ghi nào của lần gửi này được lưu.",
                "The box's store has a fault. Nothing of this request was kept.",
            ],
            again,
            10,
        ),
        IntakeError::StoreFull => Problem::unavailable(
            "store-full",
            [
                "Ổ đĩa của trạm đã đầy. Không bản ghi nào của lần gửi này được lưu.",
                "The box's disk is full. Nothing of this request was kept.",
            ],
            [
                "Báo người quản trị trạm giải phóng ổ đĩa, rồi gửi lại.",
                "Ask the box's administrator to free the disk, then send it again.",
            ],
            60,
        ),
        IntakeError::Unsure => Problem::unavailable(
            "store-failed",
            [
                "Kho dữ liệu gặp lỗi khi đang ghi; có lẽ chưa lưu, nhưng không chắc chắn.",
                "The store failed while writing; most probably nothing was kept, but that is not certain.",
            ],
            [
                "Gửi lại với cùng id hoặc Idempotency-Key; bản ghi đã lưu sẽ không bị lặp.",
                "Send it again with the same id or Idempotency-Key; what was kept is not doubled.",
            ],
            10,
        ),
        IntakeError::Stopping => Problem::unavailable(
            "stopping",
            [
                "Trạm đang dừng. Không bản ghi nào của lần gửi này được lưu.",
                "The box is stopping. Nothing of this request was kept.",
            ],
            again,
            10,
        ),
    }
}
