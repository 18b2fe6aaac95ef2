//! What offices' software sends: dossiers, documents, registers, vouchers, lists.

use lienthong::model::UnixMs;
use serde_json::{Value, json};

use super::dice::Dice;
use super::people::Person;
use super::{Generator, date, instant, words};

/// Most dossiers and documents that are on their way at once.
const OPEN_MAX: usize = 40;

/// A dossier on its way through the office.
pub struct Dossier {
    record: Value,
    /// Place in [`STEPS`].
    step: usize,
}

/// What the office's software calls a state, and the common word for it.
static STEPS: [(&str, &str); 6] = [
    ("Mới nộp", "MOI_NOP"),
    ("Đã tiếp nhận", "DA_TIEP_NHAN"),
    ("Đang thụ lý", "DANG_XU_LY"),
    ("Trình lãnh đạo ký duyệt", "DANG_XU_LY"),
    ("Đã có kết quả", "CO_KET_QUA"),
    ("Đã trả kết quả", "DA_TRA_KET_QUA"),
];

/// A document that came in, with the states that this office still has to report.
pub struct Document {
    id: String,
    next: usize,
}

static DOCUMENT_STATES: [(&str, &str); 5] = [
    ("01", "Văn bản đã đến hệ thống quản lý văn bản"),
    ("03", "Văn thư đã tiếp nhận, vào sổ văn bản đến"),
    ("04", "Lãnh đạo đã phân công xử lý"),
    ("05", "Chuyên viên đang xử lý"),
    ("06", "Đã hoàn thành xử lý văn bản"),
];

impl Generator {
    pub(super) fn dossier_event(&mut self, now: UnixMs) -> Value {
        let begin = self.dossiers.is_empty()
            || (self.dossiers.len() < OPEN_MAX && self.dice.chance(1000 / 6));
        if begin {
            let record = self.dossier(now);
            self.dossiers.push(Dossier {
                record: record.clone(),
                step: 0,
            });
            return record;
        }
        let open = u32::try_from(self.dossiers.len()).expect("at most OPEN_MAX");
        let place = self.dice.below(open) as usize;
        let officer = Person::any(&mut self.dice).name;
        let dossier = &mut self.dossiers[place];
        dossier.step += 1;
        let (raw, common) = STEPS[dossier.step];
        let record = &mut dossier.record;
        record["trang_thai_goc"] = json!(raw);
        record["trang_thai_chuan"] = json!(common);
        record["buoc"] = json!(dossier.step);
        record["thoi_diem"] = json!(instant(now, 0));
        record["can_bo"] = json!(officer);
        record["da_thu"] = json!(true);
        if dossier.step + 1 < STEPS.len() {
            return record.clone();
        }
        record["ngay_tra"] = json!(instant(now, 0));
        self.dossiers.swap_remove(place).record
    }

    fn dossier(&mut self, now: UnixMs) -> Value {
        let number = self.dossier_code(now);
        let applicant = Person::any(&mut self.dice);
        let address = self.address();
        let dice = &mut self.dice;
        let (code, name, field, fee) = dice.pick(&words::PROCEDURES);
        let online = dice.chance(597);
        let scans: Vec<Value> = [
            "to_khai.pdf",
            "giay_to_tuy_than.pdf",
            "giay_to_kem_theo.pdf",
        ]
        .iter()
        .take(dice.between(1, 3) as usize)
        .map(|name| attachment(dice, name, 700_000))
        .collect();
        json!({
            "ma_ho_so": number, "ma_tthc": code, "ten_tthc": name, "linh_vuc": field,
            "co_quan_tiep_nhan": self.agency, "co_quan_giai_quyet": self.agency,
            "kenh": if online { "truc_tuyen" } else { "truc_tiep" },
            "muc_dvc": if online { "toan_trinh" } else { "mot_phan" },
            "xac_thuc": if online { "dinh_danh_dien_tu_2" } else { "giay_to" },
            "nguoi_nop": {
                "loai": "ca_nhan", "ho_ten": applicant.name, "so_dinh_danh": applicant.number,
                "dien_thoai": applicant.phone, "dia_chi": address,
            },
            "ngay_tiep_nhan": instant(now, 0), "ngay_hen_tra": instant(now, 3 * 24 * 60),
            "thoi_diem": instant(now, 0), "trang_thai_goc": STEPS[0].0, "trang_thai_chuan": STEPS[0].1,
            "buoc": 0, "phi": 0, "le_phi": fee, "da_thu": *fee == 0, "dinh_kem": scans,
        })
    }

    fn dossier_code(&mut self, now: UnixMs) -> String {
        let day = date(now, 0).replace('-', "");
        let number = self.number() % 10_000;
        format!("{}-{}-{number:04}", self.agency, &day[2..])
    }

    pub(super) fn document_state(&mut self, now: UnixMs) -> Value {
        if self.documents.is_empty() || (self.documents.len() < OPEN_MAX && self.dice.chance(200)) {
            let sender = format!("{}.{:02}", self.province, self.dice.between(1, 18));
            let id = document_id(&mut self.dice, &sender, now);
            self.documents.push(Document { id, next: 0 });
        }
        let open = u32::try_from(self.documents.len()).expect("at most OPEN_MAX");
        let place = self.dice.below(open) as usize;
        let document = &mut self.documents[place];
        let (state, text) = DOCUMENT_STATES[document.next];
        document.next += 1;
        let id = document.id.clone();
        if document.next == DOCUMENT_STATES.len() {
            self.documents.swap_remove(place);
        }
        let officer = Person::any(&mut self.dice);
        json!({
            "loai_ban_ghi": "trang_thai", "ma_van_ban": id, "trang_thai": state, "mo_ta": text,
            "thoi_diem": instant(now, 0),
            "tu": {"ma": self.agency, "ten": format!("Ủy ban nhân dân {}", self.commune.name)},
            "can_bo": {
                "ho_ten": officer.name, "don_vi": "Văn phòng Hội đồng nhân dân và Ủy ban nhân dân",
                "dien_thoai": officer.phone,
                "thu_dien_tu": format!("{}@mail.example.vn", self.dice.hex(12)),
            },
            "ma_tra_cuu": self.dice.hex(32),
        })
    }

    pub(super) fn document_out(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let signer = Person::of_years(&mut self.dice, 1966, 1990).name;
        let dice = &mut self.dice;
        let agency = &self.agency;
        let day = date(now, 0);
        let notation = *dice.pick(&["UBND-VP", "UBND-KT", "UBND-VHXH", "BC-UBND", "KH-UBND"]);
        let to: Vec<Value> = (0..dice.between(1, 4))
            .map(|n| json!({"ma": format!("{}.{:02}", self.province, n * 4 + dice.between(1, 4))}))
            .collect();
        let urgency = match dice.below(20) {
            0 => "hoa_toc",
            1 | 2 => "khan",
            _ => "thuong",
        };
        json!({
            "loai_ban_ghi": "van_ban",
            "ma_van_ban": format!("{agency},{},{number}/{notation}", day.replace('-', "/")),
            "so": number, "ky_hieu": notation, "ngay_ban_hanh": day,
            "loai": dice.pick(&["22", "22", "14", "10", "02", "07"]), "trich_yeu": dice.pick(&words::SUBJECTS),
            "do_khan": urgency, "do_mat": "thuong",
            "tu": {"ma": agency, "ten": format!("Ủy ban nhân dân {}", self.commune.name)}, "den": to,
            "nguoi_ky": {"tham_quyen": "TM.", "chuc_vu": "Chủ tịch", "ho_ten": signer},
            "han_xu_ly": date(now, 7), "loai_nghiep_vu": 0, "ban_giay": 0,
            "chung_thu": {"so": dice.hex(32), "han": date(now, 500)}, "thoi_diem": instant(now, 0),
            "dinh_kem": [attachment(dice, &format!("{number}_{notation}.pdf"), 900_000)],
        })
    }

    pub(super) fn civil_status(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let dossier = self.dossier_code(now);
        let address = self.address();
        let dice = &mut self.dice;
        let kind = *dice.pick(&["KS", "KS", "KH", "KT", "HN"]);
        let (mother, father) = (
            Person::of(dice, true, 1976, 2004),
            Person::of(dice, false, 1976, 2004),
        );
        let (asking, official) = (Person::any(dice), Person::any(dice).name);
        let mut record = json!({
            "loai": kind, "loai_dang_ky": "Đăng ký mới", "so": number,
            "quyen_so": format!("{kind}-01/{}", &date(now, 0)[..4]), "trang_so": number,
            "ngay_dang_ky": day_first(now, 0), "noi_dang_ky": self.agency,
            "ten_noi_dang_ky": format!("Ủy ban nhân dân {}", self.commune.name),
            "nguoi_ky": official, "chuc_vu": "Phó Chủ tịch", "nguoi_thuc_hien": Person::any(dice).name,
            "nyc": {"ho_ten": asking.name, "so_dinh_danh": asking.number, "quan_he": "người thân"},
            "ma_ho_so": dossier, "ghi_chu": null,
        });
        let mut citizen = |person: &Person| {
            json!({
                "ho_ten": person.name, "gioi_tinh": person.sex(), "ngay_sinh": person.born,
                "dan_toc": dice.pick(&words::ETHNIC_GROUPS), "quoc_tich": "Việt Nam",
                "noi_cu_tru": address, "loai_giay_to": "Căn cước", "so_giay_to": person.number,
            })
        };
        match kind {
            "KS" => {
                record["nks"] = citizen(&mother);
                record["nks"]["ho_ten"] = json!(Person::any(&mut self.dice).name);
                record["nks"]["ngay_sinh"] = json!(day_first(now, -9));
                record["me"] = json!({"ho_ten": mother.name, "ngay_sinh": mother.born, "so_giay_to": mother.number});
                record["cha"] = json!({"ho_ten": father.name, "ngay_sinh": father.born, "so_giay_to": father.number});
            }
            "KH" => {
                record["vo"] = citizen(&mother);
                record["chong"] = citizen(&father);
            }
            "KT" => record["nkt"] = citizen(&father),
            _ => record["nxn"] = citizen(&mother),
        }
        record
    }

    pub(super) fn land_change(&mut self, now: UnixMs) -> Value {
        let dossier = self.dossier_code(now);
        let address = self.address();
        let dice = &mut self.dice;
        let (old, new) = (Person::any(dice), Person::any(dice));
        let owner = |person: &Person| json!([{"loai": "ca_nhan", "ho_ten": person.name, "so_dinh_danh": person.number, "dia_chi": address}]);
        let (owner_old, owner_new) = (owner(&old), owner(&new));
        json!({
            "loai_bien_dong": dice.pick(&["chuyen_nhuong", "tang_cho", "thua_ke", "the_chap", "cap_doi"]),
            "ma_xa": self.commune.code, "so_to": dice.between(1, 90), "so_thua": dice.between(1, 1200),
            "dien_tich": f64::from(dice.between(400, 90_000)) / 10.0,
            "muc_dich": dice.pick(&["ODT", "ONT", "ONT+CLN", "CLN", "LUC", "BHK", "RSX"]),
            "so_phat_hanh_gcn": format!("{} {}", dice.pick(&["DA", "DB", "CX", "CT", "AA"]), dice.digits(6)),
            "so_vao_so": format!("CS{}", dice.digits(5)), "ngay_cap": date(now, 0),
            "chu_cu": owner_old, "chu_moi": owner_new,
            "gia_tri": u64::from(dice.between(50, 4000)) * 1_000_000, "ma_ho_so": dossier,
            "ngay_bien_dong": date(now, 0), "can_bo": Person::any(dice).name, "ma_giao_dich": dice.hex(24),
        })
    }

    pub(super) fn voucher(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let day = date(now, 0);
        let (year, month): (u32, u32) = (
            day[..4].parse().expect("a date begins with the year"),
            day[5..7].parse().expect("a date holds the month"),
        );
        let dice = &mut self.dice;
        let text = *dice.pick(&words::EXPENSES);
        let item = dice.between(6000, 7700) / 50 * 50;
        json!({
            "don_vi_qhns": format!("10{}", self.commune.code), "nien_do": year, "ky": month,
            "ten_don_vi": format!("Ủy ban nhân dân {}", self.commune.name),
            "so_ct": format!("UNC-{number:05}"), "dong": dice.between(1, 4), "ngay": day,
            "loai": if text.starts_with("Thu") { "thu" } else { "chi" }, "chuong": "805",
            "loai_khoan": dice.pick(&["341", "361", "161", "292", "398"]), "muc": item.to_string(),
            "tieu_muc": (item + dice.between(1, 12)).to_string(), "nguon": dice.pick(&["12", "13", "14"]),
            "so_tien": u64::from(dice.between(15, 90_000)) * 1000, "dien_giai": format!("{text}, kỳ {month}/{year}"),
            "kho_bac": dice.pick(&["2161", "2162", "2411", "2415"]), "nguoi_lap": Person::any(dice).name,
            "trang_thai": dice.pick(&["de_nghi", "da_duyet", "da_hach_toan"]), "ma_giao_dich": dice.hex(32),
        })
    }

    pub(super) fn allowance(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let person = Person::of_years(&mut self.dice, 1931, 1975);
        let dice = &mut self.dice;
        let kind = *dice.pick(&[
            "thuong_binh",
            "benh_binh",
            "than_nhan_liet_si",
            "chat_doc_hoa_hoc",
            "bao_tro_xa_hoi",
        ]);
        let paid = dice.chance(700);
        let by_account = dice.chance(550);
        let share = matches!(kind, "thuong_binh" | "benh_binh" | "chat_doc_hoa_hoc")
            .then(|| dice.between(21, 90));
        json!({
            "ma_doi_tuong": format!("NCC-{}-{number:05}", self.commune.code), "ho_ten": person.name,
            "so_dinh_danh": person.number, "ngay_sinh": person.born, "loai": kind, "ty_le": share,
            "muc_tro_cap": u64::from(dice.between(500, 9000)) * 1000, "ky": &date(now, 0)[..7],
            "hinh_thuc": if by_account { "tai_khoan" } else { "tien_mat" },
            "tai_khoan_mask": by_account.then(|| format!("********{}", dice.digits(4))),
            "trang_thai": if paid { "da_chi" } else { "cho_chi" }, "ngay_chi": paid.then(|| date(now, 0)),
            "ma_xa": self.commune.code, "can_bo": Person::any(dice).name, "ly_do": null, "nguoi_nhan_thay": null,
            "ghi_chu": format!("Danh sách chi trả số {}", dice.hex(10)),
        })
    }

    pub(super) fn health(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let dice = &mut self.dice;
        let station = format!("TYT-{}", self.commune.code);
        if dice.chance(40) {
            let (code, name) = dice.pick(&words::DISEASES);
            return json!({
                "loai_ban_ghi": "ca_benh", "co_so": station, "ma_xa": self.commune.code, "ma_benh": code,
                "ten_benh": name, "ngay_khoi_phat": date(now, -i64::from(dice.below(6))),
                "thoi_diem": instant(now, 0), "so_ca": dice.between(1, 12), "so_tu_vong": 0,
                "muc_do": dice.pick(&["don_le", "don_le", "chum_ca", "o_dich"]),
                "bien_phap": "Điều tra dịch tễ, phun hóa chất, vận động người dân vệ sinh môi trường, theo dõi người tiếp xúc gần",
                "ghi_chu": format!("Báo cáo số {}", dice.hex(10)),
            });
        }
        let child = Person::of_years(dice, 2024, 2026);
        json!({
            "loai_ban_ghi": "mui_tiem", "co_so": station, "ma_xa": self.commune.code,
            "ma_doi_tuong": format!("{}{}{number:07}", self.commune.code, &child.born_iso[..4]),
            "ngay_sinh": child.born_iso, "gioi": child.sex(), "vac_xin": dice.pick(&words::VACCINES),
            "mui": dice.between(1, 4), "lo": format!("VX{}", dice.digits(7)), "han": date(now, 400),
            "ngay_tiem": instant(now, 0), "duong_tiem": "tiem_bap", "nguoi_tiem": Person::any(dice).name,
            "phan_ung": {"co": dice.chance(30), "muc_do": null, "mo_ta": null},
            "ghi_chu": format!("Buổi tiêm {}, đã tư vấn theo dõi sau tiêm 30 phút tại trạm", dice.hex(12)),
        })
    }

    pub(super) fn residence(&mut self, now: UnixMs) -> Value {
        let address = self.address();
        let dice = &mut self.dice;
        let person = Person::any(dice);
        let kind = *dice.pick(&["tam_tru", "tam_tru", "luu_tru", "tam_vang", "thuong_tru"]);
        json!({
            "loai": kind, "so_dinh_danh": person.number, "ho_ten": person.name, "ngay_sinh": person.born,
            "gioi": person.sex(), "quoc_tich": "Việt Nam", "dia_chi": address, "ma_xa": self.commune.code,
            "to_dan_pho": dice.pick(&words::HAMLETS), "chu_ho": Person::any(dice).name,
            "quan_he": dice.pick(&["vợ", "con", "người ở nhờ", "người thuê nhà"]), "tu_ngay": date(now, 0),
            "den_ngay": date(now, i64::from(dice.between(2, 360))), "ly_do": dice.pick(&["đi làm", "đi học", "thăm thân"]),
            "can_cu": format!("Quy chế phối hợp số {}/QCPH-CA-UBND", dice.between(1, 40)),
            "thoi_diem": instant(now, 0), "can_bo": Person::any(dice).name,
        })
    }

    pub(super) fn complaint(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let dice = &mut self.dice;
        let text = *dice.pick(&words::COMPLAINTS);
        let kind = match text.split(' ').next() {
            Some("Tố") => "to_cao",
            Some("Khiếu") => "khieu_nai",
            Some("Kiến") => "kien_nghi",
            _ => "phan_anh",
        };
        let hidden = kind == "to_cao" || dice.chance(300);
        let sender = Person::any(dice);
        let from = if hidden {
            json!({"an_danh": true, "bi_danh": format!("NG-{}", dice.hex(8)), "so_nguoi": 1})
        } else {
            json!({"an_danh": false, "ho_ten": sender.name, "dien_thoai": sender.phone, "so_nguoi": 1})
        };
        json!({
            "ma_don": format!("{}-DT-{}-{number:05}", self.agency, &date(now, 0)[..4]), "loai": kind,
            "ngay_nhan": date(now, 0), "thoi_diem": instant(now, 0), "kenh": "cong_thong_tin",
            "noi_dung_tom_tat": format!("{text}. Đề nghị cơ quan có thẩm quyền kiểm tra thực tế tại {} và trả lời bằng văn bản.", self.commune.name),
            "linh_vuc": "Quản lý đô thị, môi trường", "ma_xa": self.commune.code, "nguoi_gui": from,
            "co_quan_xu_ly": self.agency, "han": date(now, 30), "trang_thai": "moi_nhan", "ket_qua": null,
            "can_bo": Person::any(dice).name,
        })
    }

    pub(super) fn school(&mut self, now: UnixMs) -> Value {
        let dice = &mut self.dice;
        let mut grades = Vec::new();
        let (mut classes, mut pupils, mut girls) = (0, 0, 0);
        for grade in 1..=5 {
            let count = dice.between(2, 5);
            let size = count * dice.between(24, 38);
            let female = size * dice.between(44, 53) / 100;
            (classes, pupils, girls) = (classes + count, pupils + size, girls + female);
            grades.push(json!({"khoi": grade.to_string(), "so_lop": count, "so_hoc_sinh": size, "nu": female}));
        }
        let teachers = classes * 3 / 2;
        let year: u32 = date(now, 0)[..4]
            .parse()
            .expect("a date begins with the year");
        json!({
            "ma_truong": format!("{}{}", self.commune.code, dice.between(501, 509)),
            "ten_truong": format!("Trường Tiểu học {}", self.commune.name), "cap_hoc": "tieu_hoc",
            "ma_xa": self.commune.code, "nam_hoc": format!("{year}-{}", year + 1),
            "ky": format!("thang_{}", &date(now, 0)[5..7]), "ngay_lap": date(now, 0), "so_lop": classes,
            "so_hoc_sinh": pupils, "nu": girls, "dan_toc_thieu_so": pupils * dice.below(70) / 100,
            "khuyet_tat": dice.below(6), "bo_hoc": dice.below(3), "luu_ban": dice.below(5), "theo_khoi": grades,
            "pho_cap": [
                {"do_tuoi": "5", "phai_pho_cap": dice.between(60, 180), "ty_le": 99.5},
                {"do_tuoi": "6", "phai_pho_cap": dice.between(60, 180), "ty_le": 99.8},
            ],
            "giao_vien": {"tong": teachers, "nu": teachers * 3 / 4, "dat_chuan": teachers - dice.below(3), "hop_dong": dice.below(4)},
            "phong_hoc": {"tong": classes, "kien_co": classes - dice.below(3), "tam": dice.below(2)},
        })
    }

    pub(super) fn personnel(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let dice = &mut self.dice;
        let person = Person::of_years(dice, 1966, 2001);
        if dice.chance(400) {
            return json!({
                "loai_ban_ghi": "gplx", "so": dice.digits(12), "ho_ten": person.name,
                "hang": dice.pick(&["A1", "A", "B", "C1", "C", "D1"]), "ngay_cap": date(now, -1),
                "gia_tri_den": date(now, 3650), "noi_cap": "Phòng Cảnh sát giao thông, Công an tỉnh", "diem": 12,
                "trang_thai": "con_hieu_luc", "thoi_diem": instant(now, 0),
                "ghi_chu": format!("Cấp đổi theo hồ sơ {}, dữ liệu trích từ hệ thống quản lý giấy phép lái xe", dice.hex(20)),
            });
        }
        json!({
            "loai_ban_ghi": "can_bo", "ma_cbccvc": format!("{}-CB-{number:05}", self.agency),
            "ho_ten": person.name, "don_vi": self.agency,
            "chuc_vu": dice.pick(&["Chuyên viên", "Công chức tư pháp - hộ tịch", "Công chức địa chính", "Phó Trưởng phòng"]),
            "ngach": dice.pick(&["01.003", "01.004", "01.002"]), "bac": dice.between(1, 9),
            "he_so": f64::from(dice.between(234, 498)) / 100.0, "loai_quyet_dinh": "Nâng bậc lương thường xuyên",
            "so_quyet_dinh": format!("{}/QĐ-SNV", dice.between(10, 900)), "tu_ngay": date(now, -5),
            "den_ngay": null, "trang_thai": "dang_cong_tac", "thoi_diem": instant(now, 0),
            "ghi_chu": format!("Đồng bộ từ phần mềm quản lý cán bộ, lượt {}", dice.hex(16)),
        })
    }

    pub(super) fn task(&mut self, now: UnixMs) -> Value {
        let number = self.number();
        let dice = &mut self.dice;
        let office = format!("{}.{:02}", self.province, dice.between(1, 18));
        let subject = *dice.pick(&words::SUBJECTS);
        if dice.chance(250) {
            return json!({
                "loai_ban_ghi": "cuoc_hop", "ma_hop": format!("{}-H-{number:05}", self.agency),
                "ten_hop": format!("Họp {subject}"), "thoi_gian": instant(now, 2880), "ket_thuc": instant(now, 3000),
                "dia_diem": format!("Phòng họp số {}, trụ sở Ủy ban nhân dân {}", dice.between(1, 3), self.commune.name),
                "chu_tri": Person::any(dice).name, "thanh_phan": "Lãnh đạo Ủy ban nhân dân, trưởng các phòng chuyên môn, trưởng thôn",
                "thoi_diem": instant(now, 0), "do_mat": "thuong", "tai_lieu": [attachment(dice, "chuong_trinh_hop.pdf", 200_000)],
            });
        }
        let progress = dice.below(101);
        json!({
            "loai_ban_ghi": "nhiem_vu", "ma_nhiem_vu": format!("{}-NV-{number:05}", self.agency),
            "van_ban_goc": document_id(dice, &office, now), "noi_dung": subject, "co_quan_giao": office,
            "co_quan_chu_tri": self.agency, "phoi_hop": [format!("{}.{:02}", self.province, dice.between(1, 18))],
            "nguoi_theo_doi": Person::any(dice).name, "ngay_giao": date(now, -3), "han": date(now, 20),
            "tien_do": if progress == 100 { "hoan_thanh" } else { "dang_thuc_hien" }, "phan_tram": progress,
            "bao_cao": format!("Đã thực hiện {progress} % khối lượng, phần còn lại hoàn thành trước hạn"),
            "thoi_diem": instant(now, 0), "do_mat": "thuong", "tai_lieu": [attachment(dice, "bao_cao_tien_do.pdf", 300_000)],
        })
    }

    fn address(&mut self) -> String {
        let (house, commune) = (self.dice.between(1, 480), self.commune.name);
        let (street, hamlet) = (
            self.dice.pick(&words::STREETS),
            self.dice.pick(&words::HAMLETS),
        );
        format!("Số {house}, đường {street}, {hamlet}, {commune}")
    }
}

fn attachment(dice: &mut Dice, name: &str, usual_bytes: u32) -> Value {
    let bytes = dice.between(usual_bytes / 2, usual_bytes * 3 / 2);
    json!({"ten": name, "mime": "application/pdf", "bytes": bytes, "sha256": dice.hex(64)})
}

fn document_id(dice: &mut Dice, agency: &str, now: UnixMs) -> String {
    let day = date(now, -i64::from(dice.below(3))).replace('-', "/");
    format!(
        "{agency},{day},{}/{}",
        dice.between(1, 9000),
        dice.pick(&["UBND-KT", "SNV-VP", "VP-TH", "STC-NS"])
    )
}

/// `dd/MM/yyyy` in Vietnam, some days away.
fn day_first(now: UnixMs, days: i64) -> String {
    let day = date(now, days);
    format!("{}/{}/{}", &day[8..], &day[5..7], &day[..4])
}
