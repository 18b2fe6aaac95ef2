//! The shipped catalogue: it loads without a fault, takes what offices really send, and names the
//! field that is wrong in what it refuses.
#![cfg(feature = "edge")]

use std::collections::BTreeSet;
use std::path::Path;

use lienthong::catalogue::admit::{FAULTS_MAX, Refusal};
use lienthong::catalogue::{Catalogue, CatalogueFault, Dataset};
use lienthong::model::Lane;
use proptest::prelude::*;
use serde_json::{Value, json};
use unicode_normalization::is_nfc;

fn shipped() -> Catalogue {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue");
    Catalogue::load(&folder).expect("the shipped catalogue loads")
}

fn dataset<'c>(catalogue: &'c Catalogue, id: &str) -> &'c Dataset {
    catalogue
        .get(&id.parse().expect("an id"))
        .expect("a shipped dataset")
}

#[test]
fn all_are_there_once_and_in_order() {
    let catalogue = shipped();
    let codes: Vec<&str> = catalogue
        .iter()
        .map(|dataset| dataset.code.as_str())
        .collect();
    let plan = (1..=15).map(|n| format!("D{n:02}"));
    let expected: Vec<String> = plan.chain(["T01".to_owned(), "T02".to_owned()]).collect();
    assert_eq!(codes, expected);
    let ids: BTreeSet<&str> = catalogue
        .iter()
        .map(|dataset| dataset.id.as_str())
        .collect();
    assert_eq!(ids.len(), 17);
    for dataset in &catalogue {
        assert!(
            is_nfc(&dataset.title_vi) && is_nfc(&dataset.owner),
            "{}",
            dataset.id
        );
        assert!(
            !dataset.classification.is_empty(),
            "{} has no classification (TN-40)",
            dataset.id
        );
    }
}

#[test]
fn every_field_has_a_vietnamese_title_and_every_text_a_bound() {
    for dataset in &shipped() {
        let schema: Value = serde_json::from_str(&dataset.schema).expect("JSON");
        let mut seen = 0;
        walk(&schema, &mut |name, field| {
            seen += 1;
            let place = format!("{} {name}", dataset.id);
            if field.is_boolean() {
                return;
            }
            assert!(
                field["title"].as_str().is_some_and(is_nfc),
                "{place} has no title"
            );
            let is = |kind: &str| {
                field["type"] == kind
                    || field["type"]
                        .as_array()
                        .is_some_and(|kinds| kinds.contains(&kind.into()))
            };
            let bounded =
                |keywords: &[&str]| keywords.iter().any(|keyword| field.get(*keyword).is_some());
            if is("string") {
                assert!(
                    bounded(&["maxLength", "$ref", "format", "pattern"]),
                    "{place} is unbounded"
                );
            }
            if is("array") {
                assert!(bounded(&["maxItems"]), "{place} is unbounded");
            }
            if is("integer") || is("number") {
                assert!(bounded(&["maximum", "$ref"]), "{place} is unbounded");
            }
        });
        assert!(seen > 5, "{} has only {seen} fields", dataset.id);
    }
}

/// Visits the declared fields, not those of conditions.
fn walk(schema: &Value, visit: &mut dyn FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        visit(name, field);
        walk(field, visit);
    }
    if let Some(items) = schema.get("items") {
        walk(items, visit);
    }
    for (_, part) in schema["$defs"].as_object().into_iter().flatten() {
        walk(part, visit);
    }
}

/// A good record of a dataset, with the subject and lane that it must get.
struct Good {
    dataset: &'static str,
    record: Value,
    subject: &'static str,
    time: Option<&'static str>,
    lane: Lane,
}

fn good_records() -> Vec<Good> {
    let sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let good = |dataset, record, subject, time: &'static str, lane| Good {
        dataset,
        record,
        subject,
        time: (!time.is_empty()).then_some(time),
        lane,
    };
    vec![
        good(
            "van_ban_dien_tu",
            json!({"loai_ban_ghi": "van_ban", "ma_van_ban": "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT",
                "so": 7816, "ky_hieu": "VPCP-TTĐT", "ngay_ban_hanh": "2015-09-30", "loai": "22",
                "trich_yeu": "V/v triển khai liên thông văn bản", "do_khan": "thuong", "do_mat": "thuong",
                "tu": {"ma": "000.00.00.G22", "ten": "Văn phòng Chính phủ"}, "den": [{"ma": "H53"}, {"ma": "H60"}],
                "nguoi_ky": {"tham_quyen": "KT. BỘ TRƯỞNG, CHỦ NHIỆM", "ho_ten": "Nguyễn Khắc Định An"},
                "loai_nghiep_vu": 0, "ban_giay": 0,
                "dinh_kem": [{"ten": "7816.pdf", "mime": "application/pdf", "bytes": 412330, "sha256": sha256}],
                "truong_rieng_cua_phan_mem": 1}),
            "000.00.00.G22,2015/09/30,7816/VPCP-TTĐT",
            "2015-09-30T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "van_ban_dien_tu",
            json!({"loai_ban_ghi": "van_ban", "ma_van_ban": "H53.12,2026/11/20,142/UBND-VP", "so": "142",
                "ky_hieu": "UBND-VP", "ngay_ban_hanh": "2026-11-20", "loai": "22", "trich_yeu": "Họp khẩn",
                "do_khan": "hoa_toc", "tu": {"ma": "H53.12"}, "den": [{"ma": "H53"}], "loai_nghiep_vu": 0}),
            "H53.12,2026/11/20,142/UBND-VP",
            "2026-11-20T00:00:00.000+07:00",
            Lane::P1,
        ),
        good(
            "van_ban_dien_tu",
            json!({"loai_ban_ghi": "trang_thai", "ma_van_ban": "H53.12,2026/11/20,142/UBND-VP", "tu": {"ma": "H53.07"},
                "trang_thai": "03", "mo_ta": "Đã tiếp nhận", "thoi_diem": "2026-11-20T09:00:00+07:00"}),
            "H53.12,2026/11/20,142/UBND-VP|H53.07|03",
            "2026-11-20T09:00:00+07:00",
            Lane::P2,
        ),
        good(
            "ho_so_tthc",
            json!({"ma_ho_so": "H53.12-261120-0042", "ma_tthc": "1.001193", "ten_tthc": "Đăng ký khai sinh",
                "co_quan_tiep_nhan": "H53.012", "co_quan_giai_quyet": "H53.012", "kenh": "truc_tuyen",
                "muc_dvc": "toan_trinh", "xac_thuc": "dinh_danh_dien_tu_2",
                "nguoi_nop": {"loai": "ca_nhan", "ho_ten": "Trần Thị Bích", "so_dinh_danh": "072096001234"},
                "ngay_tiep_nhan": "2026-11-20T08:12:45+07:00", "ngay_hen_tra": "2026-11-24T17:00:00+07:00",
                "trang_thai_goc": "Đang thụ lý", "trang_thai_chuan": "DANG_XU_LY", "buoc": 3, "phi": 8000,
                "da_thu": true, "dinh_kem": [{"ten": "to_khai.pdf", "bytes": 412330, "sha256": sha256}]}),
            "H53.12-261120-0042",
            "2026-11-20T08:12:45+07:00",
            Lane::P1,
        ),
        good(
            "ho_tich",
            json!({"loai": "KS", "so": 12, "quyen_so": "01/2026", "trang_so": 12, "ngay_dang_ky": "20/11/2026",
                "noi_dang_ky": "H53.12", "nguoi_ky": "Lê Văn Hòa", "chuc_vu": "Chủ tịch",
                "nks": {"ho_ten": "Nguyễn Minh Khôi", "gioi_tinh": "nam", "ngay_sinh": "15/11/2026", "dan_toc": "Kinh"},
                "me": {"ho_ten": "Trần Thị Bích", "ngay_sinh": "1996"}, "cha": null,
                "nyc": {"ho_ten": "Trần Thị Bích", "quan_he": "mẹ"}, "ma_ho_so": "H53.12-261120-0042"}),
            "KS|H53.12|01/2026|12",
            "2026-11-20T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "quan_trac_moi_truong",
            station(json!("00"), json!({})),
            "KCNA|NUO001|2026-11-20T08:05:00+07:00",
            "2026-11-20T08:05:00+07:00",
            Lane::P3,
        ),
        good(
            "quan_trac_moi_truong",
            station(json!("02"), json!({})),
            "KCNA|NUO001|2026-11-20T08:05:00+07:00",
            "2026-11-20T08:05:00+07:00",
            Lane::P1,
        ),
        good(
            "quan_trac_moi_truong",
            station(
                json!("00"),
                json!({"nguong": [{"k": "COD", "max": 30, "vuot": true}]}),
            ),
            "KCNA|NUO001|2026-11-20T08:05:00+07:00",
            "2026-11-20T08:05:00+07:00",
            Lane::P1,
        ),
        good(
            "quan_trac_moi_truong",
            station(json!("02"), json!({"lich_su": true})),
            "KCNA|NUO001|2026-11-20T08:05:00+07:00",
            "2026-11-20T08:05:00+07:00",
            Lane::P3,
        ),
        good(
            "bien_dong_dat_dai",
            json!({"loai_bien_dong": "chuyen_nhuong", "ma_xa": "25459", "so_to": 12, "so_thua": 345,
                "dien_tich": 152.4, "muc_dich": "ODT+CLN", "so_phat_hanh_gcn": "DA 123456",
                "chu_cu": [{"ho_ten": "Phạm Văn Lộc"}], "chu_moi": [{"ho_ten": "Đỗ Thị Hạnh", "so_dinh_danh": "072185004321"}],
                "ngay_bien_dong": "2026-11-19", "toa_do": [[11.31, 106.1], [11.32, 106.1], [11.32, 106.2]]}),
            "25459|12|345",
            "2026-11-19T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "ngan_sach_xa",
            json!({"don_vi_qhns": "1053421", "nien_do": 2026, "ky": 11, "so_ct": "UNC-0117", "dong": 2,
                "ngay": "2026-11-20", "loai": "chi", "chuong": "805", "loai_khoan": "341", "muc": "6000",
                "tieu_muc": "6001", "nguon": "13", "so_tien": 12500000, "dien_giai": "Chi lương tháng 11",
                "kho_bac": "2161", "trang_thai": "da_duyet"}),
            "1053421|2026|UNC-0117|2",
            "2026-11-20T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "nguoi_co_cong",
            json!({"ma_doi_tuong": "NCC-25459-0012", "ho_ten": "Huỳnh Văn Sáu", "loai": "thuong_binh", "ty_le": 41,
                "muc_tro_cap": 2789000, "ky": "2026-11", "hinh_thuc": "tai_khoan", "tai_khoan_mask": "******4321",
                "trang_thai": "cho_chi", "ma_xa": "25459"}),
            "NCC-25459-0012|thuong_binh|2026-11",
            "",
            Lane::P2,
        ),
        good(
            "tiem_chung_dich_benh",
            json!({"loai_ban_ghi": "mui_tiem", "co_so": "72-25459", "ma_doi_tuong": "7225459202600123",
                "ngay_sinh": "2026-08-02", "gioi": "nu", "vac_xin": "DPT-VGB-Hib", "mui": 2, "lo": "AB123",
                "ngay_tiem": "2026-11-20T08:30:00+07:00", "phan_ung": {"co": false}}),
            "7225459202600123|DPT-VGB-Hib|2",
            "2026-11-20T08:30:00+07:00",
            Lane::P2,
        ),
        good(
            "tiem_chung_dich_benh",
            json!({"loai_ban_ghi": "ca_benh", "co_so": "72-25459", "ma_benh": "A97.0", "ngay_khoi_phat": "2026-11-18",
                "so_ca": 7, "muc_do": "o_dich"}),
            "72-25459|A97.0|2026-11-18",
            "2026-11-18T00:00:00.000+07:00",
            Lane::P1,
        ),
        good(
            "cu_tru",
            json!({"loai": "tam_tru", "so_dinh_danh": "072096001234", "ho_ten": "Trần Thị Bích", "ma_xa": "25459",
                "dia_chi": "Số 12, đường Lê Lợi", "tu_ngay": "2026-11-01", "den_ngay": "2027-11-01",
                "can_cu": "Quy chế phối hợp số 05/QCPH"}),
            "054fd8a2cdc01ba24de23e3a4d8ce2ad",
            "2026-11-01T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "don_thu_phan_anh",
            json!({"ma_don": "H53.12-DT-2026-0031", "loai": "to_cao", "ngay_nhan": "2026-11-20",
                "noi_dung_tom_tat": "Tố cáo việc thu phí sai quy định", "nguoi_gui": {"an_danh": true, "bi_danh": "NTC-31"},
                "co_quan_xu_ly": "H53.12", "trang_thai": "moi_nhan"}),
            "H53.12-DT-2026-0031",
            "2026-11-20T00:00:00.000+07:00",
            Lane::P1,
        ),
        good(
            "thong_ke_giao_duc",
            json!({"ma_truong": "7225459501", "nam_hoc": "2026-2027", "ky": "dau_nam", "so_lop": 18, "so_hoc_sinh": 612,
                "nu": 301, "pho_cap": [{"do_tuoi": "6", "ty_le": 99.8}], "giao_vien": {"tong": 31, "dat_chuan": 30}}),
            "7225459501|2026-2027|dau_nam",
            "",
            Lane::P3,
        ),
        good(
            "can_bo_giay_phep",
            json!({"loai_ban_ghi": "can_bo", "ma_cbccvc": "H53.12-CB-0007", "don_vi": "H53.12", "chuc_vu": "Chuyên viên",
                "ngach": "01.003", "bac": 4, "tu_ngay": "2026-11-01", "trang_thai": "dang_cong_tac"}),
            "f2b1",
            "2026-11-01T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "can_bo_giay_phep",
            json!({"loai_ban_ghi": "gplx", "so": "720215001234", "hang": "B", "ngay_cap": "2026-11-02",
                "gia_tri_den": "2036-11-02", "trang_thai": "con_hieu_luc"}),
            "f2b2",
            "2026-11-02T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "danh_muc_dung_chung",
            json!({"bo_ma": "don_vi_hanh_chinh", "phien_ban": 3, "ma": "25459", "ten": "Phường Tân Ninh", "cha": "80",
                "hieu_luc_tu": "2025-07-01", "thay_the": ["25456"]}),
            "don_vi_hanh_chinh|25459|2025-07-01",
            "2025-07-01T00:00:00.000+07:00",
            Lane::P2,
        ),
        good(
            "nhiem_vu_cuoc_hop",
            json!({"loai_ban_ghi": "nhiem_vu", "ma_nhiem_vu": "NV-2026-118", "noi_dung": "Rà soát thủ tục",
                "co_quan_chu_tri": "H53.12", "phoi_hop": ["H53.07"], "han": "2026-12-15", "tien_do": "dang_thuc_hien"}),
            "NV-2026-118",
            "",
            Lane::P1,
        ),
        good(
            "nhiem_vu_cuoc_hop",
            json!({"loai_ban_ghi": "cuoc_hop", "ma_hop": "H-2026-44", "ten_hop": "Giao ban tuần",
                "thoi_gian": "2026-11-23T07:30:00+07:00"}),
            "H-2026-44",
            "2026-11-23T07:30:00+07:00",
            Lane::P1,
        ),
        good(
            "an_toan_thiet_bi",
            json!({"loai_ban_ghi": "su_kien", "thiet_bi": "h53-12-tram", "su_kien": "dang_nhap_sai", "muc": "canh_bao",
                "nguon_ip": "10.12.0.44", "dem": 12, "thoi_diem": "2026-11-20T02:11:09+07:00"}),
            "h53-12-tram|dang_nhap_sai|2026-11-20T02:11:09+07:00",
            "2026-11-20T02:11:09+07:00",
            Lane::P0,
        ),
        good(
            "an_toan_thiet_bi",
            json!({"loai_ban_ghi": "nhip_tim", "thiet_bi": "h53-12-tram", "thoi_diem": "2026-11-20T02:15:00+07:00",
                "hang_doi": {"P0": 0, "P1": 2, "P2": 14, "P3": 88, "P4": 3}, "cu_nhat_s": 41, "dia": 12.5, "cpu": 3,
                "phien_ban": "0.1.0", "lech_gio_ms": -12}),
            "h53-12-tram|nhip_tim",
            "2026-11-20T02:15:00+07:00",
            Lane::P3,
        ),
        good(
            "trang_thai_giao_nhan",
            json!({"tai_lieu": "019a-mau", "tu": {"ma": "H53.07"}, "den": {"ma": "H53.09"}, "trang_thai": "03",
                "thoi_diem": "2026-11-20T02:15:00+07:00", "mo_ta": "đã vào sổ"}),
            "",
            "2026-11-20T02:15:00+07:00",
            Lane::P1,
        ),
    ]
}

fn station(status: Value, more: Value) -> Value {
    let mut record = json!({"tram": "NUO001", "co_so": "KCNA", "loai": "nuoc_thai",
        "thoi_diem": "2026-11-20T08:05:00+07:00", "chu_ky_giay": 300,
        "gia_tri": [{"k": "pH", "v": 7.21, "u": "-", "s": "00"}, {"k": "COD", "v": 41.3, "u": "mg/L", "s": "00"},
            {"k": "PM2,5", "v": null, "u": "ug/m3", "s": status}],
        "tep": "TNI_KCNA_NUO001_20261120080500.txt", "lich_su": false});
    let more = more.as_object().expect("an object").clone();
    record.as_object_mut().expect("an object").extend(more);
    record
}

#[test]
fn good_records_of_every_dataset_are_taken() {
    let catalogue = shipped();
    let mut covered = BTreeSet::new();
    for Good {
        dataset: id,
        record,
        subject,
        time,
        lane,
    } in good_records()
    {
        let dataset = dataset(&catalogue, id);
        covered.insert(dataset.code.clone());
        let admitted = dataset
            .admit(record.to_string().as_bytes())
            .unwrap_or_else(|refusal| panic!("{id}: {:#?}", refusal.faults()));
        if dataset.hide_key {
            assert_eq!(admitted.subject.as_str().len(), 32, "{id}");
            for value in ["072096001234", "H53.12", "720215001234"] {
                assert!(
                    !admitted.subject.as_str().contains(value),
                    "{id} shows its key"
                );
            }
        } else {
            assert_eq!(admitted.subject.as_str(), subject, "{id}");
        }
        assert_eq!(admitted.time.as_deref(), time, "{id}");
        assert_eq!(admitted.lane, lane, "{id}");
        assert!(!admitted.classification.is_empty(), "{id}");
    }
    assert_eq!(covered.len(), 16, "{covered:?}");
}

/// The good record of the dataset (its `number`-th, from 0) with one field changed or, with null
/// for `Remove`, gone.
fn broken(id: &str, number: usize, pointer: &str, change: Change) -> Value {
    let mut record = good_records()
        .into_iter()
        .filter(|good| good.dataset == id)
        .nth(number)
        .expect("a good record")
        .record;
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = record
        .pointer_mut(parent)
        .expect("the parent stands in the record");
    match (change, parent) {
        (Change::Set(value), Value::Object(fields)) => {
            fields.insert(name.to_owned(), value);
        }
        (Change::Set(value), Value::Array(elements)) => {
            elements[name.parse::<usize>().expect("a place")] = value;
        }
        (Change::Remove, Value::Object(fields)) => {
            fields.remove(name).expect("the field stands in the record");
        }
        _ => panic!("{pointer} is not in a list or object"),
    }
    record
}

enum Change {
    Set(Value),
    Remove,
}

#[test]
fn broken_records_name_the_field() {
    use Change::{Remove, Set};
    let catalogue = shipped();
    let cases: Vec<(&str, usize, &str, Change, &str, &str)> = vec![
        (
            "van_ban_dien_tu",
            0,
            "/loai_ban_ghi",
            Remove,
            "/loai_ban_ghi",
            "bắt buộc",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/so",
            Remove,
            "/so",
            "“Số văn bản” là bắt buộc",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/loai",
            Set(json!("33")),
            "/loai",
            "ví dụ đúng: 22",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/tu/ma",
            Set(json!("h53")),
            "/tu/ma",
            "(đang là “h53”)",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/den/1/ma",
            Set(json!("L53")),
            "/den/1/ma",
            "mục 2 của Cơ quan nhận",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/ngay_ban_hanh",
            Set(json!("30/09/2015")),
            "/ngay_ban_hanh",
            "yyyy-MM-dd",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/do_mat",
            Set(json!("lung tung")),
            "/do_mat",
            "một trong",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/dinh_kem/0/sha256",
            Set(json!("abc")),
            "/dinh_kem/0/sha256",
            "64 chữ số",
        ),
        (
            "van_ban_dien_tu",
            0,
            "/dinh_kem/0/ten",
            Set(json!("../etc/passwd")),
            "/dinh_kem/0/ten",
            "đường dẫn",
        ),
        (
            "van_ban_dien_tu",
            2,
            "/trang_thai",
            Set(json!("7")),
            "/trang_thai",
            "trạng thái",
        ),
        (
            "van_ban_dien_tu",
            2,
            "/thoi_diem",
            Set(json!("2026-11-20 09:00")),
            "/thoi_diem",
            "RFC 3339",
        ),
        (
            "ho_so_tthc",
            0,
            "/ma_ho_so",
            Set(json!("H53.12-261320-0042")),
            "/ma_ho_so",
            "H53.12-261120-0042",
        ),
        (
            "ho_so_tthc",
            0,
            "/ma_tthc",
            Set(json!("1193")),
            "/ma_tthc",
            "1.001193",
        ),
        (
            "ho_so_tthc",
            0,
            "/nguoi_nop/so_dinh_danh",
            Set(json!("07209600123")),
            "/nguoi_nop/so_dinh_danh",
            "12 chữ số",
        ),
        (
            "ho_so_tthc",
            0,
            "/phi",
            Set(json!("8.000")),
            "/phi",
            "số nguyên",
        ),
        (
            "ho_so_tthc",
            0,
            "/phi",
            Set(json!(-1)),
            "/phi",
            "từ 0 trở lên",
        ),
        (
            "ho_so_tthc",
            0,
            "/ngay_tiep_nhan",
            Set(json!("2026-11-20T08:12:45")),
            "/ngay_tiep_nhan",
            "múi giờ",
        ),
        (
            "ho_so_tthc",
            0,
            "/trang_thai_chuan",
            Set(json!("DA_TRA_KET_QUA")),
            "/ngay_tra",
            "bắt buộc",
        ),
        (
            "ho_so_tthc",
            0,
            "/nguoi_nop/ho_ten",
            Set(json!("")),
            "/nguoi_nop/ho_ten",
            "không được để trống",
        ),
        (
            "ho_tich",
            0,
            "/nks",
            Remove,
            "/nks",
            "“Người được khai sinh” là bắt buộc",
        ),
        (
            "ho_tich",
            0,
            "/nks/ngay_sinh",
            Set(json!("15/13/2026")),
            "/nks/ngay_sinh",
            "dd/MM/yyyy",
        ),
        (
            "ho_tich",
            0,
            "/loai",
            Set(json!("KX")),
            "/loai",
            "một trong: KS, KT",
        ),
        (
            "quan_trac_moi_truong",
            0,
            "/gia_tri/1/v",
            Set(json!("41,3")),
            "/gia_tri/1/v",
            "“Giá trị (mục 2 của Kết quả đo)”",
        ),
        (
            "quan_trac_moi_truong",
            0,
            "/gia_tri/1/s",
            Set(json!("04")),
            "/gia_tri/1/s",
            "(đang là “04”)",
        ),
        (
            "quan_trac_moi_truong",
            0,
            "/gia_tri",
            Set(json!([])),
            "/gia_tri",
            "ít nhất 1 mục",
        ),
        (
            "quan_trac_moi_truong",
            0,
            "/co_so",
            Remove,
            "/co_so",
            "“Mã cơ sở” là bắt buộc",
        ),
        (
            "bien_dong_dat_dai",
            0,
            "/dien_tich",
            Set(json!(0)),
            "/dien_tich",
            "lớn hơn 0",
        ),
        (
            "bien_dong_dat_dai",
            0,
            "/ma_xa",
            Set(json!(25459)),
            "/ma_xa",
            "chuỗi ký tự",
        ),
        (
            "bien_dong_dat_dai",
            0,
            "/muc_dich",
            Set(json!("đất ở")),
            "/muc_dich",
            "ODT+CLN",
        ),
        (
            "ngan_sach_xa",
            0,
            "/so_tien",
            Set(json!(12.5)),
            "/so_tien",
            "số nguyên",
        ),
        (
            "ngan_sach_xa",
            0,
            "/tieu_muc",
            Set(json!("61")),
            "/tieu_muc",
            "4 chữ số",
        ),
        (
            "ngan_sach_xa",
            0,
            "/so_ct",
            Set(json!("A|B")),
            "/so_ct",
            "|",
        ),
        (
            "nguoi_co_cong",
            0,
            "/tai_khoan_mask",
            Set(json!("0721000654321")),
            "/tai_khoan_mask",
            "******4321",
        ),
        (
            "nguoi_co_cong",
            0,
            "/ty_le",
            Set(json!(141)),
            "/ty_le",
            "từ 100 trở xuống",
        ),
        (
            "nguoi_co_cong",
            0,
            "/benh_an",
            Set(json!("x")),
            "/benh_an",
            "không phải là trường của bộ dữ liệu này",
        ),
        (
            "tiem_chung_dich_benh",
            0,
            "/mui",
            Set(json!(0)),
            "/mui",
            "từ 1 trở lên",
        ),
        (
            "tiem_chung_dich_benh",
            1,
            "/ma_benh",
            Set(json!("sốt xuất huyết")),
            "/ma_benh",
            "ICD-10",
        ),
        (
            "tiem_chung_dich_benh",
            1,
            "/ma_doi_tuong",
            Set(json!("7225459202600123")),
            "/ma_doi_tuong",
            "không được có",
        ),
        (
            "cu_tru",
            0,
            "/den_ngay",
            Remove,
            "/den_ngay",
            "“Đến ngày” là bắt buộc",
        ),
        ("cu_tru", 0, "/can_cu", Remove, "/can_cu", "Căn cứ pháp lý"),
        (
            "don_thu_phan_anh",
            0,
            "/nguoi_gui/ho_ten",
            Set(json!("Lê Thị Mai")),
            "/nguoi_gui/ho_ten",
            "không được có",
        ),
        (
            "don_thu_phan_anh",
            0,
            "/nguoi_gui/an_danh",
            Set(json!(false)),
            "/nguoi_gui/an_danh",
            "phải là true",
        ),
        (
            "thong_ke_giao_duc",
            0,
            "/danh_sach_hoc_sinh",
            Set(json!([])),
            "/danh_sach_hoc_sinh",
            "không phải là trường",
        ),
        (
            "thong_ke_giao_duc",
            0,
            "/pho_cap/0/ty_le",
            Set(json!(101)),
            "/pho_cap/0/ty_le",
            "100",
        ),
        (
            "can_bo_giay_phep",
            0,
            "/ma_cbccvc",
            Remove,
            "/ma_cbccvc",
            "bắt buộc",
        ),
        (
            "can_bo_giay_phep",
            1,
            "/hang",
            Set(json!("B7")),
            "/hang",
            "một trong",
        ),
        (
            "danh_muc_dung_chung",
            0,
            "/bo_ma",
            Set(json!("Đơn vị")),
            "/bo_ma",
            "chữ thường",
        ),
        (
            "danh_muc_dung_chung",
            0,
            "/hieu_luc_tu",
            Set(json!("01/07/2025")),
            "/hieu_luc_tu",
            "yyyy-MM-dd",
        ),
        (
            "nhiem_vu_cuoc_hop",
            0,
            "/phoi_hop/0",
            Set(json!("Sở Nội vụ")),
            "/phoi_hop/0",
            "mục 1 của Cơ quan phối hợp",
        ),
        (
            "nhiem_vu_cuoc_hop",
            1,
            "/thoi_gian",
            Set(json!("sáng thứ hai")),
            "/thoi_gian",
            "RFC 3339",
        ),
        (
            "an_toan_thiet_bi",
            0,
            "/nguon_ip",
            Set(json!("10.12.0.444")),
            "/nguon_ip",
            "IP",
        ),
        (
            "an_toan_thiet_bi",
            1,
            "/hang_doi/P5",
            Set(json!(1)),
            "/hang_doi/P5",
            "không phải là trường",
        ),
        (
            "an_toan_thiet_bi",
            1,
            "/thiet_bi",
            Set(json!("a|b")),
            "/thiet_bi",
            "(đang là “a|b”)",
        ),
        (
            "trang_thai_giao_nhan",
            0,
            "/trang_thai",
            Set(json!("3")),
            "/trang_thai",
            "hai chữ số",
        ),
    ];
    let mut covered = BTreeSet::new();
    for (id, number, pointer, change, named, words) in cases {
        let dataset = dataset(&catalogue, id);
        covered.insert(dataset.code.clone());
        let record = broken(id, number, pointer, change);
        let refusal = dataset
            .admit(record.to_string().as_bytes())
            .expect_err(pointer);
        let faults = refusal.faults();
        assert!(
            faults.iter().any(|fault| fault.pointer == named),
            "{id} {pointer}: {faults:#?}"
        );
        let fault = faults
            .iter()
            .find(|fault| fault.pointer == named)
            .expect("named");
        assert!(
            fault.message_vi.contains(words),
            "{id} {pointer}: {}",
            fault.message_vi
        );
        assert!(is_nfc(&fault.message_vi) && !fault.message_en.is_empty());
        assert_eq!(faults.len(), 1, "{id} {pointer}: {faults:#?}");
    }
    assert_eq!(covered.len(), 16, "{covered:?}");
}

#[test]
fn a_dossier_of_the_future_is_refused_where_today_is_known() {
    let catalogue = shipped();
    let dossiers = dataset(&catalogue, "ho_so_tthc");
    let of = |code: &str| {
        let record = json!({"ma_ho_so": code, "ma_tthc": "1.001193", "ten_tthc": "Đăng ký khai sinh",
            "nguoi_nop": {"loai": "ca_nhan", "ho_ten": "Lê Thị Mận"}, "co_quan_tiep_nhan": "H53.12",
            "co_quan_giai_quyet": "H53.12", "ngay_tiep_nhan": "2026-11-20T08:12:45+07:00",
            "trang_thai_goc": "Mới nộp", "trang_thai_chuan": "MOI_NOP"});
        record.to_string()
    };
    let today = Some("2026-11-20".parse().expect("a day"));
    for code in ["H53.12-261119-0042", "H53.12-261121-0042"] {
        let admitted = dossiers.admit_on(of(code).as_bytes(), today);
        assert!(admitted.is_ok(), "{code}: {admitted:?}");
    }
    let late = of("H53.12-261122-0042");
    let refusal = dossiers
        .admit_on(late.as_bytes(), today)
        .expect_err("two days ahead");
    let faults = refusal.faults();
    assert_eq!((faults.len(), faults[0].pointer.as_str()), (1, "/ma_ho_so"));
    assert!(faults[0].message_vi.contains("tương lai"), "{faults:?}");
    assert!(
        !faults[0].message_vi.contains("261122"),
        "a code is not quoted"
    );
    assert!(
        dossiers.admit(late.as_bytes()).is_ok(),
        "today is not known"
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let catalogue = shipped();
    let record = json!({"ma_ho_so": 1, "ma_tthc": "x", "nguoi_nop": {"loai": "khach"}, "phi": -5});
    let refusal = dataset(&catalogue, "ho_so_tthc")
        .admit(record.to_string().as_bytes())
        .expect_err("broken");
    let mut pointers: Vec<String> = refusal
        .faults()
        .into_iter()
        .map(|fault| fault.pointer)
        .collect();
    pointers.sort();
    assert_eq!(
        pointers,
        [
            "/co_quan_giai_quyet",
            "/co_quan_tiep_nhan",
            "/ma_ho_so",
            "/ma_tthc",
            "/ngay_tiep_nhan",
            "/nguoi_nop/ho_ten",
            "/nguoi_nop/loai",
            "/phi",
            "/trang_thai_chuan",
            "/trang_thai_goc"
        ]
    );
    let garbage = json!({"tram": "T1", "co_so": "KCNA", "thoi_diem": "2026-11-20T08:05:00+07:00",
        "gia_tri": vec![json!({}); 64]});
    let refusal = dataset(&catalogue, "quan_trac_moi_truong").admit(garbage.to_string().as_bytes());
    let faults = refusal.expect_err("broken").faults();
    assert_eq!(faults.len(), FAULTS_MAX);
    assert_eq!(faults[FAULTS_MAX - 1].message_vi, "và 93 lỗi khác");
}

#[test]
fn personal_values_never_stand_in_a_message() {
    let catalogue = shipped();
    for dataset in catalogue.iter().filter(|dataset| dataset.sensitivity >= 2) {
        let schema: Value = serde_json::from_str(&dataset.schema).expect("JSON");
        let secret = "Nguyễn Bí Ẩn 079012345678";
        for value in [json!(secret), json!({"x": secret}), json!([secret])] {
            let fields = schema["properties"].as_object().expect("properties");
            let record: Value = fields
                .keys()
                .map(|name| (name.clone(), value.clone()))
                .collect();
            let refusal = dataset
                .admit(record.to_string().as_bytes())
                .expect_err("broken");
            let said = format!("{refusal} {:?}", refusal.faults());
            assert!(
                !said.contains("Ẩn") && !said.contains("079012345678"),
                "{}: {said}",
                dataset.id
            );
        }
    }
}

#[test]
fn state_secrets_are_refused_with_an_alarm_whatever_else_is_wrong() {
    let catalogue = shipped();
    let spellings = [
        "mat",
        "Mật",
        "MẬT",
        "ma\u{323}\u{302}t",
        "Tối mật",
        "TỐI-MẬT",
        "toi_mat",
        "Tuyệt  mật",
        "tuyetmat",
    ];
    for (id, pointer) in [
        ("van_ban_dien_tu", "/do_mat"),
        ("van_ban_dien_tu", "/dinh_kem/0/do_mat"),
        ("ho_so_tthc", "/dinh_kem/0/do_mat"),
        ("nhiem_vu_cuoc_hop", "/do_mat"),
        ("don_thu_phan_anh", "/do_mat"),
        ("bien_dong_dat_dai", "/muc_do_mat"),
    ] {
        for spelling in spellings {
            let record = broken(id, 0, pointer, Change::Set(json!(spelling)));
            match dataset(&catalogue, id).admit(record.to_string().as_bytes()) {
                Err(refusal @ Refusal::Rule { .. }) => {
                    assert!(refusal.alarm());
                    assert_eq!(refusal.faults()[0].pointer, pointer);
                }
                other => panic!("{id} {pointer} {spelling}: {other:?}"),
            }
        }
    }
    let dataset = dataset(&catalogue, "van_ban_dien_tu");
    let bare = dataset
        .admit(br#"{"do_mat":"T\u1ed1i m\u1eadt"}"#)
        .expect_err("secret");
    assert!(bare.alarm(), "the rule speaks before the schema");
    let deleted = dataset.admit_delete(br#"{"ma_van_ban":"H53,2026/11/20,1/A","do_mat":"mat"}"#);
    assert!(deleted.expect_err("secret").alarm());
    let hidden = dataset
        .admit(br#"{"do_mat":"mat","do_mat":"thuong"}"#)
        .expect_err("twice");
    assert!(
        matches!(hidden, Refusal::NotJson { line: 1, .. }),
        "{hidden:?}"
    );
}

#[test]
fn what_is_not_json_is_told_with_its_place() {
    let catalogue = shipped();
    let dataset = dataset(&catalogue, "ho_so_tthc");
    for (text, line, column, words) in [
        (
            &b"{\"ma_ho_so\": \"H53\",\n  oops}"[..],
            2,
            3,
            "không phải là JSON",
        ),
        (b"{\"a\": 1", 1, 7, "cắt cụt"),
        (b"", 1, 0, "cắt cụt"),
        (b"{\"a\": \"\xff\"}", 1, 8, "không phải là JSON"),
        (b"{} {}", 1, 4, "không phải là JSON"),
    ] {
        match dataset.admit(text).expect_err("not JSON") {
            Refusal::NotJson {
                line: l,
                column: c,
                message_vi,
                ..
            } => {
                assert_eq!((l, c), (line, column), "{text:?}");
                assert!(message_vi.contains(words), "{message_vi}");
            }
            other => panic!("{other:?}"),
        }
    }
    let list = dataset.admit(b"[]").expect_err("a list");
    assert_eq!(
        list.faults()[0].message_vi,
        "“bản ghi” phải là nhóm trường { }"
    );
    let deep = "[".repeat(5000);
    assert!(matches!(
        dataset.admit(deep.as_bytes()),
        Err(Refusal::NotJson { .. })
    ));
}

#[test]
fn subjects_are_in_nfc_and_deletes_need_only_the_key() {
    let catalogue = shipped();
    let documents = dataset(&catalogue, "van_ban_dien_tu");
    let decomposed = "H53.12,2026/11/20,142/UBND-VPĐU\u{31b}".to_owned();
    let record = json!({"loai_ban_ghi": "van_ban", "ma_van_ban": decomposed});
    let admitted = documents
        .admit_delete(record.to_string().as_bytes())
        .expect("a delete");
    assert!(is_nfc(admitted.subject.as_str()) && !is_nfc(&decomposed));
    assert!(
        documents.admit(record.to_string().as_bytes()).is_err(),
        "an upsert needs more"
    );
    let missing = documents
        .admit_delete(b"{\"ly_do\":\"nham\"}")
        .expect_err("no key");
    assert!(
        matches!(&missing, Refusal::Key(faults) if faults[0].pointer == "/ma_van_ban"),
        "{missing:?}"
    );
    assert!(
        missing.faults()[0]
            .message_vi
            .contains("“Mã định danh văn bản” còn thiếu")
    );
    let long = json!({"ma_van_ban": "x".repeat(201)}).to_string();
    assert!(matches!(
        documents.admit_delete(long.as_bytes()),
        Err(Refusal::Key(_))
    ));
}

#[test]
fn records_carry_the_codes_of_their_own_fields() {
    let catalogue = shipped();
    let record = good_records().remove(0).record;
    let admitted_by = dataset(&catalogue, "van_ban_dien_tu");
    let admitted = admitted_by
        .admit(record.to_string().as_bytes())
        .expect("good");
    let codes: Vec<(&str, &str)> = admitted
        .classification
        .iter()
        .map(|c| (c.scheme.as_str(), c.code.as_str()))
        .collect();
    assert_eq!(codes, [("che_do_tiep_can", "02"), ("loai_van_ban", "22")]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        CATALOGUE.with(|catalogue| for dataset in catalogue {
            if let Err(refusal) = dataset.admit(&bytes) {
                assert!(!refusal.faults().is_empty());
            }
        });
    }

    #[test]
    fn no_damaged_record_makes_it_panic(which in 0..24usize, at in 0..1000usize, with in ".{0,8}") {
        let good = good_records().remove(which);
        let mut text = good.record.to_string();
        let mut place = at % text.len();
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        text.insert_str(place, &with);
        CATALOGUE.with(|catalogue| for dataset in catalogue {
            if let Err(refusal) = dataset.admit(text.as_bytes()) {
                assert!(!refusal.faults().is_empty());
            }
            let _ = dataset.admit_delete(text.as_bytes());
        });
    }
}

/// A catalogue file as small as can be, with a line to add or change.
fn small(change: impl Fn(&str) -> String) -> Result<Catalogue, Vec<CatalogueFault>> {
    let text = r#"
id = "thu"
version = 1
code = "T01"
title_vi = "Thử"
title_en = "Test"
owner = "Sở"
owner_en = "Department"
key = "/ma"
sensitivity = 1
retention_days = 30
schema = '{"type": "object", "required": ["ma"], "properties": {"ma": {"title": "Mã", "type": "string"}, "x": {"type": "array", "items": {"properties": {"s": {}}}}}}'
[lane]
default = "P2"
"#;
    Catalogue::from_files([("thu.toml".to_owned(), change(text))])
}

#[test]
fn faults_of_a_file_name_the_place() {
    small(str::to_owned).expect("the small file is good");
    for (from, to, place, message) in [
        (
            "id = \"thu\"",
            "id = \"khac\"",
            "id",
            "differs from the file's name",
        ),
        ("id = \"thu\"", "id = \"Thử\"", "id", "is not a dataset id"),
        ("version = 1", "version = 0", "version", "at least 1"),
        (
            "version = 1",
            "version = 1\nversoin = 1",
            "4:1",
            "unknown field `versoin`",
        ),
        ("version = 1", "version = \"1\"", "3:11", "invalid type"),
        ("code = \"T01\"\n", "", "1:1", "missing field `code`"),
        ("\"Thử\"", "\" \"", "title_vi", "is empty"),
        ("\"Thử\"", "\"Thu\u{309}\"", "title_vi", "NFC"),
        ("\"/ma\"", "[]", "key", "names no field"),
        ("\"/ma\"", "\"ma\"", "key", "is not a JSON pointer"),
        ("\"/ma\"", "\"/mã\"", "key", "is not in the schema"),
        (
            "sensitivity = 1",
            "sensitivity = 4",
            "sensitivity",
            "0 to 3",
        ),
        (
            "retention_days = 30",
            "retention_days = 0",
            "retention_days",
            "at least 1 day",
        ),
        (
            "default = \"P2\"",
            "default = \"P9\"",
            "lane.default",
            "is not a lane",
        ),
        (
            "[lane]",
            "time = \"/luc\"\n[lane]",
            "time",
            "/luc is not in the schema",
        ),
        (
            "\"P2\"\n",
            "\"P2\"\n[[lane.rule]]\npointer = \"/x/*/t\"\nin = [1]\nlane = \"P1\"\n",
            "lane.rule[1].pointer",
            "/x/*/t is not in",
        ),
        (
            "\"P2\"\n",
            "\"P2\"\n[[lane.rule]]\npointer = \"/x/*/s\"\nin = []\nlane = \"P1\"\n",
            "lane.rule[1].in",
            "must list",
        ),
        (
            "\"P2\"\n",
            "\"P2\"\n[[classification]]\nscheme = \"a\"\n",
            "classification[1]",
            "either code or pointer",
        ),
        (
            "\"type\": \"object\"",
            "\"type\": \"array\"",
            "schema.type",
            "describe an object",
        ),
        (
            "\"type\": \"object\"",
            "\"type\": \"object\", \"$schema\": \"http://json-schema.org/draft-07/schema#\"",
            "schema.$schema",
            "2020-12",
        ),
        (
            "\"type\": \"string\"",
            "\"type\": \"text\"",
            "schema",
            "not usable",
        ),
        (
            "\"type\": \"string\"",
            "\"pattern\": \"(\"",
            "schema",
            "not usable",
        ),
        (
            "\"type\": \"string\"",
            "\"pattern\": \"a(?=b)\"",
            "schema",
            "not usable",
        ),
        (
            "\"type\": \"string\"",
            "\"format\": \"dat\"",
            "schema",
            "not usable",
        ),
        (
            "\"type\": \"string\"",
            "\"$ref\": \"https://example.vn/x.json\"",
            "schema",
            "not usable",
        ),
        ("{\"type\": \"object\"", "{type", "schema, 1:2", "not JSON"),
    ] {
        let faults = small(|text| text.replacen(from, to, 1)).expect_err(to);
        let fault = &faults[0];
        assert_eq!(fault.place, place, "{to}: {faults:#?}");
        assert!(
            fault.message_en.contains(message),
            "{to}: {}",
            fault.message_en
        );
        assert!(
            is_nfc(&fault.message_vi) && !fault.hint_vi.is_empty() && !fault.hint_en.is_empty()
        );
        assert_eq!(fault.file, "thu.toml");
    }
}

#[test]
fn faults_of_all_files_are_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let write =
        |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let empty = Catalogue::load(folder.path()).expect_err("empty");
    assert!(empty[0].message_en.contains("no dataset"), "{empty:?}");
    write("a.toml", "id = ");
    write("b.toml", "\n\nid = 1");
    write("c.toml.bak", "not read");
    std::fs::write(folder.path().join("d.toml"), b"\xff").expect("written");
    let faults = Catalogue::load(folder.path()).expect_err("three faults");
    let mut files: Vec<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    files.sort();
    assert_eq!(files, ["a.toml", "b.toml", "d.toml"]);
    let missing = Catalogue::load(&folder.path().join("none")).expect_err("no folder");
    assert!(missing[0].message_en.contains("cannot read"), "{missing:?}");

    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("catalogue/cu_tru.toml"),
    )
    .expect("shipped");
    let copy = text.replacen("\"cu_tru\"", "\"cu_tru_moi\"", 1);
    let files = [
        ("cu_tru.toml".to_owned(), text),
        ("cu_tru_moi.toml".to_owned(), copy),
    ];
    let doubled = Catalogue::from_files(files).expect_err("one code twice");
    assert_eq!((doubled.len(), doubled[0].place.as_str()), (1, "code"));
}

#[test]
fn branches_are_explained_by_the_nearest() {
    let catalogue = shipped();
    let record = broken("an_toan_thiet_bi", 0, "/nguon_ip", Change::Set(json!(7)));
    let refusal = dataset(&catalogue, "an_toan_thiet_bi").admit(record.to_string().as_bytes());
    let faults = refusal.expect_err("a number").faults();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert_eq!(faults[0].pointer, "/nguon_ip");
}

thread_local! {
    static CATALOGUE: Catalogue = shipped();
}
