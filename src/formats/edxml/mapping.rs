//! From a document's header to the fields of the dataset of electronic documents.

use jiff::civil::{Date, DateTime};
use serde_json::{Map, Value, json};

use crate::formats::edxml::tree::Node;
use crate::formats::edxml::{File, Note, fault};
use crate::formats::{Fault, excerpt};

/// Kinds of documents of the archive's circular, by the names that people use, in small letters.
/// The numbers in a document differ between suppliers, so the name decides.
const TYPES: [(&str, &str); 35] = [
    ("nghị quyết", "01"),
    ("quyết định", "02"),
    ("chỉ thị", "03"),
    ("quy định", "04"),
    ("thông tư", "05"),
    ("thông tư liên tịch", "06"),
    ("thông báo", "07"),
    ("hướng dẫn", "08"),
    ("chương trình", "09"),
    ("kế hoạch", "10"),
    ("phương án", "11"),
    ("đề án", "12"),
    ("dự án", "13"),
    ("báo cáo", "14"),
    ("tờ trình", "15"),
    ("giấy ủy quyền", "16"),
    ("giấy uỷ quyền", "16"),
    ("phiếu gửi", "17"),
    ("phiếu chuyển", "18"),
    ("phiếu báo", "19"),
    ("biên bản", "20"),
    ("hợp đồng", "21"),
    ("công văn", "22"),
    ("công văn hành chính", "22"),
    ("công điện", "23"),
    ("bản ghi nhớ", "24"),
    ("bản thỏa thuận", "25"),
    ("bản thoả thuận", "25"),
    ("giấy mời", "26"),
    ("giấy giới thiệu", "27"),
    ("giấy nghỉ phép", "28"),
    ("thư công", "29"),
    ("bản đồ", "30"),
    ("bản vẽ kỹ thuật", "31"),
    ("khác", "32"),
];
const OTHER_TYPE: &str = "32";

/// Degrees of urgency, by number and by name.
const URGENCY: [(&str, &str); 12] = [
    ("0", "thuong"),
    ("thường", "thuong"),
    ("1", "khan"),
    ("khẩn", "khan"),
    ("2", "thuong_khan"),
    ("thượng khẩn", "thuong_khan"),
    ("3", "hoa_toc"),
    ("hỏa tốc", "hoa_toc"),
    ("hoả tốc", "hoa_toc"),
    ("4", "hoa_toc_hen_gio"),
    ("hỏa tốc hẹn giờ", "hoa_toc_hen_gio"),
    ("hoả tốc hẹn giờ", "hoa_toc_hen_gio"),
];

/// States that are described; the others are kept with their number.
const STATES: [(&str, &str); 9] = [
    ("01", "Đã đến"),
    ("02", "Từ chối tiếp nhận"),
    ("03", "Đã tiếp nhận"),
    ("04", "Phân công"),
    ("05", "Đang xử lý"),
    ("06", "Hoàn thành"),
    ("13", "Lấy lại"),
    ("15", "Đồng ý"),
    ("16", "Từ chối"),
];

/// The record of a document or of a status packet, as JSON.
pub fn record(header: &Node, files: &[File], notes: &mut Vec<Note>) -> Result<String, Fault> {
    let record = match (header.find("MessageHeader"), header.find("MessageStatus")) {
        (Some(message), _) => document(header, message, files, notes),
        (None, Some(status)) => state(status, notes),
        (None, None) => {
            return Err(fault(
                "phần đầu văn bản không có MessageHeader hay MessageStatus",
                "the header has neither MessageHeader nor MessageStatus",
            ));
        }
    };
    Ok(Value::Object(record).to_string())
}

fn document(
    header: &Node,
    message: &Node,
    files: &[File],
    notes: &mut Vec<Note>,
) -> Map<String, Value> {
    let business = header.find("Bussiness");
    let other = message.child("OtherInfo");
    let mut record = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            record.insert(name.to_owned(), value);
        }
    };
    let promulgation = message.child("PromulgationInfo").unwrap_or(message);
    let code = message.child("Code").unwrap_or(message);
    put("loai_ban_ghi", Some(json!("van_ban")));
    put("ma_van_ban", document_id(message));
    put("tu", message.child("From").map(body));
    put("den", Some(message.all("To").map(body).collect()));
    put("so", text(code, "CodeNumber"));
    put("ky_hieu", text(code, "CodeNotation"));
    put(
        "ngay_ban_hanh",
        promulgation.text("PromulgationDate").and_then(date),
    );
    put("noi_ban_hanh", text(promulgation, "Place"));
    put(
        "loai",
        message
            .child("DocumentType")
            .map(|kind| json!(type_of(kind, notes))),
    );
    put("loai_goc", message.child("DocumentType").and_then(raw));
    put("trich_yeu", text(message, "Subject"));
    put("noi_dung", text(message, "Content"));
    put("nguoi_ky", message.child("SignerInfo").and_then(signer));
    put("han_xu_ly", message.text("DueDate").and_then(date));
    let places = message
        .child("ToPlaces")
        .into_iter()
        .flat_map(|places| places.all("Place"));
    let places: Vec<Value> = places.map(|place| json!(place.content)).collect();
    put(
        "noi_nhan",
        (!places.is_empty()).then_some(Value::Array(places)),
    );
    let urgency = other.and_then(|other| other.text("Priority"));
    put(
        "do_khan",
        urgency
            .and_then(|urgency| named(&URGENCY, urgency))
            .map(Value::from),
    );
    put("thong_tin_khac", other.and_then(raw));
    let answered: Vec<Value> = message.all("ResponseFor").filter_map(document_id).collect();
    put(
        "hoi_dap",
        (!answered.is_empty()).then_some(Value::Array(answered)),
    );
    put("chi_dao", text(message, "SteeringType"));
    let kind = business.and_then(|business| business.text("BussinessDocType"));
    put(
        "loai_nghiep_vu",
        kind.unwrap_or("0").parse::<u32>().ok().map(Value::from),
    );
    put(
        "ly_do_nghiep_vu",
        business.and_then(|business| text(business, "BussinessDocReason")),
    );
    put(
        "thay_the",
        business
            .and_then(|business| business.child("ReplacementInfoList"))
            .and_then(raw),
    );
    let paper = business.and_then(|business| business.text("Paper"));
    put(
        "ban_giay",
        paper
            .and_then(|paper| paper.parse::<u32>().ok())
            .map(Value::from),
    );
    put(
        "can_bo",
        business
            .and_then(|business| business.child("StaffInfo"))
            .and_then(staff),
    );
    let traces: Vec<Value> = header
        .find("TraceHeaderList")
        .into_iter()
        .flat_map(|list| list.all("TraceHeader"))
        .map(|trace| json!({"ma": trace.text("OrganId"), "thoi_diem": trace.text("Timestamp").and_then(time)}))
        .collect();
    put(
        "thoi_diem",
        traces
            .first()
            .and_then(|trace| trace.get("thoi_diem"))
            .filter(|time| !time.is_null())
            .cloned(),
    );
    put(
        "dau_vet",
        (!traces.is_empty()).then_some(Value::Array(traces)),
    );
    let files: Vec<Value> = files
        .iter()
        .map(|file| json!({"ten": file.name, "mime": file.mime, "bytes": file.bytes.len(), "sha256": file.sha256}))
        .collect();
    put(
        "dinh_kem",
        (!files.is_empty()).then_some(Value::Array(files)),
    );
    put("chu_ky", text(header, "Signature"));
    record
}

fn state(status: &Node, notes: &mut Vec<Note>) -> Map<String, Value> {
    let mut record = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            record.insert(name.to_owned(), value);
        }
    };
    put("loai_ban_ghi", Some(json!("trang_thai")));
    put(
        "ma_van_ban",
        status.child("ResponseFor").and_then(document_id),
    );
    put("tu", status.child("From").map(body));
    if let Some(code) = status.text("StatusCode") {
        let code = format!("{code:0>2}");
        let name = named(&STATES, &code).map_or_else(
            || {
                notes.push(Note::UnknownStatus(excerpt(&code)));
                format!("Trạng thái chưa biết {code}")
            },
            str::to_owned,
        );
        put("trang_thai", Some(json!(code)));
        put("ten_trang_thai", Some(json!(name)));
    }
    put("mo_ta", text(status, "Description"));
    put("thoi_diem", status.text("Timestamp").and_then(time));
    put("can_bo", status.child("StaffInfo").and_then(staff));
    record
}

/// The document's identifier, put together where it is not written.
fn document_id(of: &Node) -> Option<Value> {
    if let Some(id) = of.text("DocumentId") {
        return Some(json!(id));
    }
    let agency = of
        .text("OrganId")
        .or_else(|| of.child("From")?.text("OrganId"))?;
    let promulgation = of.child("PromulgationInfo").unwrap_or(of);
    let date = promulgation.text("PromulgationDate")?;
    let code = of.child("Code")?;
    let number = match (code.text("CodeNumber"), code.text("CodeNotation")) {
        (Some(number), Some(notation)) => format!("{number}/{notation}"),
        (None, None) if !code.content.is_empty() => code.content.clone(),
        _ => return None,
    };
    Some(json!(format!("{agency},{date},{number}")))
}

/// An agency that sends or receives.
fn body(agency: &Node) -> Value {
    fields(
        agency,
        &[
            ("ma", "OrganId"),
            ("ten", "OrganName"),
            ("co_quan_chu_quan", "OrganizationInCharge"),
            ("dia_chi", "OrganAdd"),
            ("thu_dien_tu", "Email"),
            ("dien_thoai", "Telephone"),
            ("fax", "Fax"),
            ("trang_tin", "Website"),
        ],
    )
}

fn signer(signer: &Node) -> Option<Value> {
    signer.text("FullName")?;
    Some(fields(
        signer,
        &[
            ("tham_quyen", "Competence"),
            ("chuc_vu", "Position"),
            ("ho_ten", "FullName"),
        ],
    ))
}

fn staff(staff: &Node) -> Option<Value> {
    let value = fields(
        staff,
        &[
            ("ho_ten", "Staff"),
            ("don_vi", "Department"),
            ("thu_dien_tu", "Email"),
            ("dien_thoai", "Mobile"),
        ],
    );
    value
        .as_object()
        .is_some_and(|fields| !fields.is_empty())
        .then_some(value)
}

fn fields(of: &Node, names: &[(&str, &str)]) -> Value {
    let fields = names
        .iter()
        .filter_map(|(field, name)| Some((field.to_string(), text(of, name)?)));
    Value::Object(fields.collect())
}

/// An element as it is, for what no field of the dataset describes.
fn raw(of: &Node) -> Option<Value> {
    let mut fields = Map::new();
    for child in &of.children {
        let value = match child.children.is_empty() {
            true if child.content.is_empty() => continue,
            true => json!(child.content),
            false => raw(child)?,
        };
        match fields.get_mut(&child.name) {
            None => {
                fields.insert(child.name.clone(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(other) => *other = json!([other.take(), value]),
        }
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn text(of: &Node, name: &str) -> Option<Value> {
    of.text(name).map(Value::from)
}

fn named<'t>(table: &[(&str, &'t str)], name: &str) -> Option<&'t str> {
    let name = name.trim().to_lowercase();
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
}

fn type_of(kind: &Node, notes: &mut Vec<Note>) -> &'static str {
    let names = ["TypeName", "TypeDetail"].map(|name| kind.text(name));
    let found = names
        .into_iter()
        .flatten()
        .find_map(|name| named(&TYPES, name));
    found.unwrap_or_else(|| {
        let name = names.into_iter().flatten().next().unwrap_or_default();
        notes.push(Note::UnknownType(excerpt(name)));
        OTHER_TYPE
    })
}

/// `2026/11/20` as a date; what is none stays as it is, and the catalogue says so.
fn date(text: &str) -> Option<Value> {
    let date = text.get(..10).unwrap_or(text).replace('/', "-");
    let parsed = date.parse::<Date>();
    Some(parsed.map_or_else(|_| json!(text), |date| json!(date.to_string())))
}

/// `2026/11/20 08:12:45`, Vietnam's time.
fn time(text: &str) -> Option<Value> {
    let written = text.replace('/', "-");
    let parsed = written.parse::<DateTime>();
    Some(parsed.map_or_else(
        |_| json!(text),
        |time| json!(format!("{}+07:00", time.strftime("%Y-%m-%dT%H:%M:%S"))),
    ))
}
