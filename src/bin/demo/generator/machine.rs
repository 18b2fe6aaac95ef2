//! What machines send: monitoring stations, heartbeats, security events.

use lienthong::model::UnixMs;
use serde_json::{Value, json};

use super::dice::Dice;
use super::{Generator, instant, words};

/// Stations measure on the five-minute marks of the clock.
const INTERVAL_MS: i64 = 300_000;

/// Symbol, unit, usual value, limit, decimals.
type Parameter = (&'static str, &'static str, f64, f64, usize);

static WASTE_WATER: [Parameter; 7] = [
    ("Flow", "m3/h", 42.0, 120.0, 1),
    ("Temp", "oC", 29.0, 40.0, 1),
    ("pH", "-", 7.2, 9.0, 2),
    ("TSS", "mg/L", 31.0, 50.0, 1),
    ("COD", "mg/L", 48.0, 75.0, 1),
    ("NH4", "mg/L", 3.1, 5.0, 2),
    ("Color", "Pt-Co", 28.0, 50.0, 0),
];

static GAS: [Parameter; 7] = [
    ("Flow", "m3/h", 18_400.0, 30_000.0, 0),
    ("Temp", "oC", 138.0, 200.0, 1),
    ("PM", "mg/Nm3", 61.0, 100.0, 1),
    ("SO2", "mg/Nm3", 140.0, 250.0, 1),
    ("NO", "mg/Nm3", 210.0, 425.0, 1),
    ("CO", "mg/Nm3", 330.0, 500.0, 1),
    ("O2", "%V", 7.4, 21.0, 2),
];

/// A monitoring station of an enterprise.
pub struct Station {
    province: &'static str,
    facility: &'static str,
    name: String,
    kind: &'static str,
    parameters: &'static [Parameter],
    /// Value of each parameter relative to its usual one; it wanders slowly.
    drift: Vec<f64>,
    last: UnixMs,
}

/// One result of a station.
struct Measurement {
    time: UnixMs,
    values: Vec<Measured>,
}

struct Measured {
    parameter: Parameter,
    /// As written in the file; none while the device is at fault.
    value: Option<f64>,
    status: &'static str,
}

impl Station {
    pub fn new(number: usize, tuyen_quang: bool, dice: &mut Dice) -> Station {
        let gas = number % 4 == 3;
        let facilities = if tuyen_quang {
            ["KCNLB", "XMTQ", "GIAYAH", "DUONGSD"]
        } else {
            ["KCNTB", "KCNPD", "KCNCT", "MTNTN"]
        };
        let parameters = if gas { &GAS } else { &WASTE_WATER };
        Station {
            province: if tuyen_quang { "TQU" } else { "TNI" },
            facility: facilities[number % facilities.len()],
            name: format!("{}{:03}", if gas { "KHI" } else { "NUO" }, number + 1),
            kind: if gas { "khi_thai" } else { "nuoc_thai" },
            parameters,
            drift: parameters.iter().map(|_| 0.8 + 0.3 * dice.unit()).collect(),
            last: UnixMs(0),
        }
    }

    /// The result of the newest five-minute mark, or of the one after the last result where that
    /// is later, so that no two results of a station have the same time.
    fn measure(&mut self, now: UnixMs, dice: &mut Dice) -> Measurement {
        let newest = now.0 - now.0.rem_euclid(INTERVAL_MS);
        self.last = UnixMs(newest.max(self.last.0 + INTERVAL_MS));
        let whole_device = match dice.below(1000) {
            0..=19 => "01",
            20..=24 => "02",
            _ => "00",
        };
        let values = self
            .parameters
            .iter()
            .zip(&mut self.drift)
            .map(|(&parameter, drift)| {
                *drift += (1.0 - *drift) * 0.05 + (dice.unit() - 0.5) * 0.16;
                let status = if dice.chance(4) { "02" } else { whole_device };
                let (_, _, usual, _, decimals) = parameter;
                let scale = [1.0, 10.0, 100.0][decimals];
                let value = (usual * *drift * scale).round() / scale;
                Measured {
                    parameter,
                    value: (status != "02").then_some(value),
                    status,
                }
            });
        Measurement {
            time: self.last,
            values: values.collect(),
        }
    }

    fn file(&self, measurement: &Measurement) -> (String, String) {
        let time: String = measurement.time.to_string()[..19]
            .chars()
            .filter(char::is_ascii_digit)
            .collect();
        let name = format!(
            "{}_{}_{}_{time}.txt",
            self.province, self.facility, self.name
        );
        let mut content = String::new();
        for Measured {
            parameter: (symbol, unit, .., decimals),
            value,
            status,
        } in &measurement.values
        {
            let value = value.map_or("---".to_owned(), |value| format!("{value:.decimals$}"));
            content.push_str(&format!("{symbol}\t{value}\t{unit}\t{time}\t{status}\r\n"));
        }
        (name, content)
    }
}

impl Generator {
    /// Name and content of the next station's file, in the legal form of Circular 10/2021.
    pub fn station_file(&mut self, now: UnixMs) -> (String, String) {
        let (station, measurement) = self.measurement(now);
        self.stations[station].file(&measurement)
    }

    pub(super) fn station_result(&mut self, now: UnixMs) -> Value {
        let (station, measurement) = self.measurement(now);
        let station = &self.stations[station];
        let (file, content) = station.file(&measurement);
        let digest = ring::digest::digest(&ring::digest::SHA256, content.as_bytes());
        let sha256: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let values: Vec<Value> = measurement
            .values
            .iter()
            .map(|measured| {
                let (symbol, unit, ..) = measured.parameter;
                json!({"k": symbol, "v": measured.value, "u": unit, "s": measured.status})
            })
            .collect();
        let over: Vec<Value> = measurement
            .values
            .iter()
            .filter(|measured| measured.value.is_some_and(|value| value > measured.parameter.3))
            .map(|measured| json!({"k": measured.parameter.0, "max": measured.parameter.3, "vuot": true}))
            .collect();
        json!({
            "tinh": station.province, "co_so": station.facility, "tram": station.name,
            "loai": station.kind, "thoi_diem": instant(measurement.time, 0), "chu_ky_giay": 300,
            "gia_tri": values, "nguong": over, "tep": file, "sha256_tep": sha256, "lich_su": false,
        })
    }

    fn measurement(&mut self, now: UnixMs) -> (usize, Measurement) {
        let station = self.next_station;
        self.next_station = (station + 1) % self.stations.len();
        (station, self.stations[station].measure(now, &mut self.dice))
    }

    pub(super) fn heartbeat(&mut self, now: UnixMs) -> Value {
        self.last_heartbeat = UnixMs(now.0.max(self.last_heartbeat.0 + 1000));
        let dice = &mut self.dice;
        let percent = |dice: &mut Dice, least: u32, most: u32| {
            f64::from(dice.between(least * 10, most * 10)) / 10.0
        };
        json!({
            "loai_ban_ghi": "nhip_tim", "thiet_bi": self.device, "may": format!("tram-{}", dice.hex(12)),
            "mo_ta": "Thiết bị hoạt động bình thường trên đường truyền số liệu chuyên dùng",
            "thoi_diem": instant(self.last_heartbeat, 0),
            "hang_doi": {
                "P0": 0, "P1": dice.below(4), "P2": dice.below(30), "P3": dice.below(60),
                "P4": dice.below(12),
            },
            "cu_nhat_s": dice.below(90), "dia": percent(dice, 11, 14), "cpu": percent(dice, 1, 9),
            "ram": percent(dice, 18, 26), "nhiet": percent(dice, 41, 58),
            "ups": if dice.chance(985) { "dien_luoi" } else { "pin" }, "phien_ban": "0.1.0",
            "cau_hinh": format!("sha256:{}", dice.hex(16)), "cert_con_ngay": 211,
            "lech_gio_ms": dice.between(0, 80), "lien_ket": if dice.chance(960) { "tot" } else { "cham" },
            "chay_s": self.last_heartbeat.0.rem_euclid(2_592_000_000) / 1000,
        })
    }

    pub(super) fn security_event(&mut self, now: UnixMs) -> Value {
        let dice = &mut self.dice;
        let (event, level, text) = dice.pick(&words::SECURITY_EVENTS);
        let host = dice.between(10, 99);
        let address = format!(
            "10.{}.{}.{}",
            dice.below(60),
            dice.below(8),
            dice.between(2, 250)
        );
        json!({
            "loai_ban_ghi": "su_kien", "thiet_bi": self.device, "thoi_diem": instant(now, 0),
            "su_kien": event, "muc": level, "nguon_ip": address, "cong": dice.between(1025, 65_000),
            "may": format!("PC-MOTCUA-{host}"), "nguoi_dung": format!("canbo{:02}", dice.below(40)),
            "mo_ta": format!("{text}; phiên {}", dice.hex(24)), "dem": dice.between(1, 60),
            "bien_phap": "Đã ghi nhận, chờ cán bộ phụ trách an toàn thông tin xác minh",
        })
    }
}
