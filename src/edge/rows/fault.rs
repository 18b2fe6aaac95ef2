//! Why a source that delivers rows stands still, in words that say what to do.

use crate::edge::blobs::BlobError;
use crate::edge::connectors::Fault;
use crate::edge::intake::IntakeError;
use crate::model::{Lane, SourceName};
use crate::store::StoreError;
use crate::store::rows::NewParked;

/// The code of the fault that a person has set the cursor while rows were read: it is to be read
/// anew from there.
pub const CURSOR_SET: &str = "cursor_set";

pub fn of_intake(error: IntakeError) -> Fault {
    let code = match error {
        IntakeError::StoreClosed => "store_closed",
        IntakeError::StoreFull => "store_full",
        IntakeError::Unsure => "store_unsure",
        IntakeError::Stopping => "stopping",
    };
    Fault::new(
        code,
        [
            "kho dữ liệu của trạm tạm thời không nhận bản ghi; chưa mất dòng nào",
            "the box's store does not take records now; no row is lost",
        ],
        [
            "Xem mục Kho dữ liệu; nguồn tự đọc lại khi kho hoạt động.",
            "See the store's state; the source goes on by itself when the store works.",
        ],
    )
}

pub(super) fn cursor_set() -> Fault {
    Fault::new(
        CURSOR_SET,
        [
            "vị trí đọc của nguồn vừa được đặt lại; đọc lại từ đó",
            "the source's cursor was set; it is read again from there",
        ],
        ["Không cần làm gì.", "Nothing is to be done."],
    )
}

pub(super) fn of_blobs(error: &BlobError) -> Fault {
    let (code, hint) = match error {
        BlobError::Full { .. } => (
            "attachments_full",
            [
                "Kiểm tra đường truyền về trục, hoặc tăng store.attachments; nguồn tự đọc tiếp khi có chỗ.",
                "Check the link to the hub, or raise store.attachments; the source goes on by itself when there is room.",
            ],
        ),
        BlobError::NotScanned(_) => (
            "scanner_down",
            [
                "Kiểm tra trình quét mã độc (attachments.scanner); nguồn tự đọc lại.",
                "Look at the scanner (attachments.scanner); it is read again by itself.",
            ],
        ),
        BlobError::Io(_) | BlobError::OtherDigest { .. } | BlobError::Infected { .. } => (
            "attachments",
            [
                "Kiểm tra ổ đĩa còn chỗ và quyền ghi cạnh kho; nguồn tự đọc lại.",
                "Check that the disk has room and can be written beside the store; it is read again by itself.",
            ],
        ),
    };
    Fault::new(
        code,
        [
            format!("chưa giữ được tệp đính kèm của một dòng; chưa bỏ qua dòng nào: {error}"),
            format!("a row's attachment cannot be kept; no row is skipped: {error}"),
        ],
        hint,
    )
}

pub(super) fn of_store(error: StoreError) -> Fault {
    Fault::new(
        "store_closed",
        [
            "không đọc được kho dữ liệu của trạm".to_owned(),
            format!("the box's store cannot be read: {error}"),
        ],
        [
            "Xem mục Kho dữ liệu; nguồn tự đọc lại khi kho hoạt động.",
            "See the store's state; the source goes on by itself when the store works.",
        ],
    )
}

pub(super) fn lane_full(lane: Lane) -> Fault {
    Fault::new(
        "lane_full",
        [
            format!("làn {lane} đã đầy; nguồn chờ đến khi gửi bớt được về trục"),
            format!("lane {lane} is full; the source waits until some of it is delivered"),
        ],
        [
            "Kiểm tra đường truyền về trục, hoặc tăng store.quota.",
            "Check the link to the hub, or raise store.quota.",
        ],
    )
}

pub(super) fn parked_full(name: &SourceName, rows: u64, park: &[NewParked]) -> Fault {
    let reason = |parked: &&NewParked| !parked.reason_vi.is_empty();
    let last = park.iter().find(reason);
    let (vi, en) = last.map_or(("", ""), |parked| {
        (parked.reason_vi.as_str(), parked.reason_en.as_str())
    });
    Fault::new(
        "parked_full",
        [
            format!(
                "đã có {rows} dòng bị giữ lại, không giữ thêm được; nguồn dừng, chưa bỏ qua dòng nào. Lý do gần nhất: {vi}"
            ),
            format!(
                "{rows} rows are parked and there is no room for more; the source stands still and has skipped nothing. Latest reason: {en}"
            ),
        ],
        [
            format!("Sửa dữ liệu hoặc cấu hình nguồn, rồi chạy: tramd sources retry {name} --all"),
            format!(
                "Correct the data or the source's configuration, then run: tramd sources retry {name} --all"
            ),
        ],
    )
}
