//! Records as offices and stations of two provinces would hand them in, for demonstrations and
//! tests: seeded, without a clock, in the mix of the load model. All people are invented.

// The paths are written out because tests include this file from another place.
#[path = "generator/dice.rs"]
mod dice;
#[path = "generator/machine.rs"]
mod machine;
#[path = "generator/office.rs"]
mod office;
#[path = "generator/people.rs"]
mod people;
#[path = "generator/words.rs"]
mod words;

use std::time::Duration;

use lienthong::model::{AgencyCode, DatasetId, UnixMs};

use dice::Dice;
use machine::Station;
use office::{Document, Dossier};
use words::Commune;

/// Offices of the load model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Upland commune.
    S,
    /// Average commune.
    M,
    /// Busy ward.
    L,
    /// Average commune with an industrial zone of twelve stations.
    K,
    /// Regional office.
    R,
}

/// What arises in an office on ten days.
struct TenDays {
    dossier_events: u32,
    document_states: u32,
    documents_out: u32,
    /// Civil status, land, finance, merit, vaccination, residence and the rest.
    other: u32,
    security_events: u32,
    heartbeats: u32,
    station_results: u32,
}

impl TenDays {
    fn all(&self) -> u32 {
        self.dossier_events
            + self.document_states
            + self.documents_out
            + self.other
            + self.security_events
            + self.heartbeats
            + self.station_results
    }
}

impl Profile {
    fn ten_days(self) -> TenDays {
        let (dossiers, documents_in, documents_out, other, security, station_tenths) = match self {
            Profile::S => (3, 15, 4, 33, 15, 2),
            Profile::M => (40, 30, 10, 92, 50, 10),
            Profile::L => (250, 60, 25, 285, 150, 50),
            Profile::K => (40, 30, 10, 92, 50, 120),
            Profile::R => (120, 120, 60, 394, 300, 40),
        };
        TenDays {
            dossier_events: dossiers * 6 * 10,
            document_states: documents_in * 5 * 10,
            documents_out: documents_out * 10,
            other: other * 10,
            security_events: security * 10,
            heartbeats: 288 * 10,
            station_results: station_tenths * 288,
        }
    }

    pub fn messages_per_day(self) -> u32 {
        (self.ten_days().all() + 5) / 10
    }

    /// Mean time between two records when a day is played `speed_up` times as fast.
    pub fn mean_interval(self, speed_up: u32) -> Duration {
        Duration::from_secs(864_000) / self.ten_days().all() / speed_up.max(1)
    }

    fn stations(self) -> usize {
        match self {
            Profile::S | Profile::M => 1,
            Profile::L => 5,
            Profile::K => 12,
            Profile::R => 4,
        }
    }
}

/// One record, ready to be handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub dataset: DatasetId,
    pub json: String,
}

/// An office's software and stations. Equal seeds, profiles, agencies and times give equal records.
pub struct Generator {
    dice: Dice,
    profile: Profile,
    agency: AgencyCode,
    /// The agency code of the province, `H53` or `H60`.
    province: String,
    commune: &'static Commune,
    /// Name of the box that watches this office, as its heartbeats call it.
    device: String,
    dossiers: Vec<Dossier>,
    documents: Vec<Document>,
    stations: Vec<Station>,
    next_station: usize,
    /// Counts what the office numbers: dossiers, documents, registrations, vouchers.
    counted: u32,
    last_heartbeat: UnixMs,
}

/// Share of each dataset in the other records of an office, in thousandths.
const OTHER_SHARES: [(&str, u32); 10] = [
    ("ho_tich", 109),
    ("bien_dong_dat_dai", 87),
    ("ngan_sach_xa", 196),
    ("nguoi_co_cong", 152),
    ("tiem_chung_dich_benh", 217),
    ("cu_tru", 163),
    ("don_thu_phan_anh", 11),
    ("thong_ke_giao_duc", 11),
    ("can_bo_giay_phep", 11),
    ("nhiem_vu_cuoc_hop", 43),
];

impl Generator {
    pub fn new(seed: u64, profile: Profile, agency: AgencyCode) -> Generator {
        let mut dice = Dice::new(seed);
        let code = agency.as_str();
        let tuyen_quang = code.split('.').any(|group| group == "H60");
        let communes = if tuyen_quang {
            &words::TUYEN_QUANG
        } else {
            &words::TAY_NINH
        };
        let name_hash = code
            .bytes()
            .fold(0usize, |sum, byte| sum * 31 % 9973 + usize::from(byte));
        let stations = (0..profile.stations()).map(|n| Station::new(n, tuyen_quang, &mut dice));
        let stations = stations.collect();
        Generator {
            profile,
            province: if tuyen_quang { "H60" } else { "H53" }.to_owned(),
            commune: &communes[name_hash % communes.len()],
            device: code.to_lowercase().replace('.', "-"),
            agency,
            dossiers: Vec::new(),
            documents: Vec::new(),
            stations,
            next_station: 0,
            counted: dice.below(400),
            last_heartbeat: UnixMs(0),
            dice,
        }
    }

    /// The next record in the profile's mix.
    pub fn next_record(&mut self, now: UnixMs) -> Sample {
        let mix = self.profile.ten_days();
        let mut at = self.dice.below(mix.all());
        let mut falls_in = |share: u32| {
            let inside = at < share;
            at = at.wrapping_sub(if inside { 0 } else { share });
            inside
        };
        let (dataset, record) = if falls_in(mix.dossier_events) {
            ("ho_so_tthc", self.dossier_event(now))
        } else if falls_in(mix.document_states) {
            ("van_ban_dien_tu", self.document_state(now))
        } else if falls_in(mix.documents_out) {
            ("van_ban_dien_tu", self.document_out(now))
        } else if falls_in(mix.security_events) {
            ("an_toan_thiet_bi", self.security_event(now))
        } else if falls_in(mix.heartbeats) {
            ("an_toan_thiet_bi", self.heartbeat(now))
        } else if falls_in(mix.station_results) {
            ("quan_trac_moi_truong", self.station_result(now))
        } else {
            self.other(now)
        };
        let dataset = dataset.parse().expect("the names above are dataset ids");
        Sample {
            dataset,
            json: record.to_string(),
        }
    }

    fn other(&mut self, now: UnixMs) -> (&'static str, serde_json::Value) {
        let mut at = self.dice.below(1000);
        let dataset = OTHER_SHARES
            .iter()
            .find(|(_, share)| {
                let inside = at < *share;
                at = at.wrapping_sub(if inside { 0 } else { *share });
                inside
            })
            .map_or("ngan_sach_xa", |(dataset, _)| dataset);
        let record = match dataset {
            "ho_tich" => self.civil_status(now),
            "bien_dong_dat_dai" => self.land_change(now),
            "nguoi_co_cong" => self.allowance(now),
            "tiem_chung_dich_benh" => self.health(now),
            "cu_tru" => self.residence(now),
            "don_thu_phan_anh" => self.complaint(now),
            "thong_ke_giao_duc" => self.school(now),
            "can_bo_giay_phep" => self.personnel(now),
            "nhiem_vu_cuoc_hop" => self.task(now),
            _ => self.voucher(now),
        };
        (dataset, record)
    }

    /// The next number that the office gives.
    fn number(&mut self) -> u32 {
        self.counted += 1;
        self.counted
    }
}

/// `yyyy-MM-dd` in Vietnam, some days away.
fn date(now: UnixMs, days: i64) -> String {
    UnixMs(now.0 + days * 86_400_000).to_string()[..10].to_owned()
}

/// RFC 3339 to the second with Vietnam's offset, some minutes away.
fn instant(now: UnixMs, minutes: i64) -> String {
    format!(
        "{}+07:00",
        &UnixMs(now.0 + minutes * 60_000).to_string()[..19]
    )
}
