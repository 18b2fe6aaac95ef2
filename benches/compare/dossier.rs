//! What the offices of the benchmarks hand in.

use std::fmt::Write as _;

use crate::rig::code;

pub const AGENCY: &str = "H53.12";

/// A dossier of 500 bytes with the entropy of the real thing.
pub fn record(n: u32) -> String {
    let mut dice = u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = |below: u64| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        dice % below
    };
    let mut text = format!(
        r#"{{"ma_ho_so":"{}","ma_tthc":"{}.{:06}","ten_tthc":"Đăng ký khai sinh","co_quan_tiep_nhan":"{AGENCY}","co_quan_giai_quyet":"{AGENCY}","kenh":"truc_tuyen","muc_dvc":"toan_trinh","nguoi_nop":{{"loai":"ca_nhan","ho_ten":"Trần Thị Bích {}"}},"ngay_tiep_nhan":"2026-11-20T08:{:02}:{:02}+07:00","trang_thai_goc":"Đang thụ lý","trang_thai_chuan":"DANG_XU_LY","buoc":{},"phi":{},"da_thu":true,"ghi_chu":""#,
        code(AGENCY, n),
        next(2) + 1,
        next(1_000_000),
        next(1_000),
        next(60),
        next(60),
        next(6),
        next(100) * 1_000,
    );
    while text.len() < 498 {
        let _ = write!(text, "{:x}", next(16));
    }
    text.push_str("\"}");
    text
}
