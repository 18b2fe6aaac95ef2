//! What the offices of the benchmarks hand in: dossiers of 500 bytes. People, times, procedures and
//! numbers differ as they do in an office, and a digest of the files fills them up, so that they
//! compress no better than real ones: to about a fifth.

#[path = "../../src/bin/demo/generator/dice.rs"]
#[allow(dead_code)]
mod dice;
#[path = "../../src/bin/demo/generator/people.rs"]
#[allow(dead_code)]
mod people;
#[path = "../../src/bin/demo/generator/words.rs"]
#[allow(dead_code)]
mod words;

use dice::Dice;
use people::Person;

pub const AGENCY: &str = "H53.12";

const BYTES: usize = 500;

/// What an office's software calls a state, the common word for it, and its step.
static STATES: [(&str, &str, u32); 4] = [
    ("Đã tiếp nhận", "DA_TIEP_NHAN", 1),
    ("Đang thụ lý", "DANG_XU_LY", 2),
    ("Trình ký", "DANG_XU_LY", 3),
    ("Có kết quả", "CO_KET_QUA", 4),
];

/// Dossier number `n`, the same at each call.
pub fn record(n: u32) -> String {
    let mut dice = Dice::new(u64::from(n));
    let dice = &mut dice;
    let applicant = Person::any(dice);
    let (procedure, _, _, fee) = dice.pick(&words::PROCEDURES);
    let (state, common, step) = dice.pick(&STATES);
    let mut text = format!(
        r#"{{"ma_ho_so":"{AGENCY}-2611{:02}-{:06}","ma_tthc":"{procedure}","co_quan_tiep_nhan":"{AGENCY}","co_quan_giai_quyet":"{AGENCY}","nguoi_nop":{{"loai":"ca_nhan","ho_ten":"{}","so_dinh_danh":"{}","dien_thoai":"{}"}},"ngay_tiep_nhan":"2026-11-20T{:02}:{:02}:{:02}+07:00","trang_thai_goc":"{state}","trang_thai_chuan":"{common}","buoc":{step},"phi":{fee},"ma_bam":""#,
        n / 900_000 + 1,
        n % 900_000 + 1,
        applicant.name,
        applicant.number,
        applicant.phone,
        dice.between(7, 17),
        dice.below(60),
        dice.below(60),
    );
    let room = BYTES.saturating_sub(text.len() + 2);
    text.push_str(&dice.hex(room));
    text.push_str("\"}");
    text
}
