//! What the kernel says of the machine: memory, temperature, where the power comes from. What a
//! machine does not have is left out.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Readings outside of this are a sensor that is not there, millidegrees.
const SANE_MILLIDEGREES: std::ops::RangeInclusive<i64> = -40_000..=150_000;
/// Directory entries that are looked at; a machine has a handful.
const ENTRIES_MAX: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MachineStatus {
    pub memory: Option<MemoryStatus>,
    /// The hottest sensor, degrees Celsius, with one decimal.
    pub temperature_c: Option<f64>,
    /// Mains, batteries and UPS that the kernel knows of.
    #[serde(default)]
    pub supplies: Vec<SupplyStatus>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    pub total_bytes: u64,
    /// What programs can still get without swapping.
    pub available_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupplyStatus {
    pub name: String,
    pub kind: SupplyKind,
    /// Whether the mains are there.
    pub online: Option<bool>,
    /// Whether the battery is being used up.
    pub discharging: Option<bool>,
    pub charge_percent: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SupplyKind {
    Mains,
    Ups,
    Battery,
}

impl MachineStatus {
    /// Reads what is below `root`, which is `/` but for tests.
    pub fn read(root: &Path) -> MachineStatus {
        MachineStatus {
            memory: memory(&root.join("proc/meminfo")),
            temperature_c: temperature_c(&root.join("sys/class")),
            supplies: supplies(&root.join("sys/class/power_supply")),
        }
    }

    /// Whether the machine lives on a battery now; none where it has none.
    pub fn is_on_battery(&self) -> Option<bool> {
        let batteries = || {
            self.supplies
                .iter()
                .filter(|supply| supply.kind != SupplyKind::Mains)
        };
        batteries().next()?;
        let discharging = batteries().any(|supply| supply.discharging == Some(true));
        let mut mains = self
            .supplies
            .iter()
            .filter(|supply| supply.kind == SupplyKind::Mains);
        let is_cut = mains.clone().any(|supply| supply.online == Some(false))
            && !mains.any(|supply| supply.online == Some(true));
        Some(discharging || is_cut)
    }

    /// The least charge of all batteries, percent.
    pub fn charge_percent(&self) -> Option<u8> {
        let charges = self
            .supplies
            .iter()
            .filter_map(|supply| supply.charge_percent);
        charges.min()
    }
}

/// `MemTotal` and `MemAvailable` of proc_meminfo(5).
fn memory(path: &Path) -> Option<MemoryStatus> {
    let text = fs::read_to_string(path).ok()?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line
            .trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()?;
        kib.checked_mul(1024)
    };
    Some(MemoryStatus {
        total_bytes: field("MemTotal")?,
        available_bytes: field("MemAvailable")?,
    })
}

/// The hottest of the thermal zones and the sensors of `hwmon`, whose files hold millidegrees.
fn temperature_c(class: &Path) -> Option<f64> {
    let zones = entries(&class.join("thermal")).map(|zone| zone.join("temp"));
    let sensors = entries(&class.join("hwmon")).flat_map(|chip| {
        let inputs = entries(&chip).filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with("temp") && name.ends_with("_input")
        });
        inputs.collect::<Vec<_>>()
    });
    let readings = zones
        .chain(sensors)
        .filter_map(|path| word(&path)?.parse::<i64>().ok());
    let hottest = readings
        .filter(|reading| SANE_MILLIDEGREES.contains(reading))
        .max()?;
    Some((hottest as f64 / 100.0).round() / 10.0)
}

fn supplies(folder: &Path) -> Vec<SupplyStatus> {
    let mut supplies: Vec<SupplyStatus> =
        entries(folder).filter_map(|path| supply(&path)).collect();
    supplies.sort_by(|a, b| a.name.cmp(&b.name));
    supplies
}

/// One supply; none for that of a mouse, and for what is neither mains nor battery.
fn supply(path: &Path) -> Option<SupplyStatus> {
    let field = |name: &str| word(&path.join(name));
    if field("scope").as_deref() == Some("Device") {
        return None;
    }
    let kind = match field("type")?.as_str() {
        "Mains" | "USB" => SupplyKind::Mains,
        "UPS" => SupplyKind::Ups,
        "Battery" => SupplyKind::Battery,
        _ => return None,
    };
    if kind != SupplyKind::Mains && field("present").as_deref() == Some("0") {
        return None;
    }
    let charge = field("capacity").and_then(|text| text.parse::<u8>().ok());
    Some(SupplyStatus {
        name: path.file_name()?.to_str()?.to_owned(),
        kind,
        online: field("online").map(|text| text != "0"),
        discharging: field("status").map(|text| text == "Discharging"),
        charge_percent: charge.filter(|percent| *percent <= 100),
    })
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(folder).ok().into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .take(ENTRIES_MAX)
}

fn word(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Names this start of the machine, where the kernel says so (random(4)).
pub fn boot_id(root: &Path) -> Option<String> {
    word(&root.join("proc/sys/kernel/random/boot_id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn a_machine_without_anything_says_nothing() {
        let root = tempfile::tempdir().expect("a folder");
        let machine = MachineStatus::read(root.path());
        assert_eq!(machine, MachineStatus::default());
        assert_eq!(machine.is_on_battery(), None);
        assert_eq!(boot_id(root.path()), None);
    }

    #[test]
    fn memory_heat_and_power_are_read() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path();
        put(
            root,
            "proc/meminfo",
            "MemTotal:        1024000 kB\nMemFree:  1 kB\nMemAvailable:     512000 kB\n",
        );
        put(root, "sys/class/thermal/thermal_zone0/temp", "48312\n");
        put(root, "sys/class/thermal/thermal_zone1/temp", "-274000\n");
        put(root, "sys/class/hwmon/hwmon0/temp1_input", "61250\n");
        put(root, "sys/class/hwmon/hwmon0/fan1_input", "90000\n");
        let ups = "sys/class/power_supply/ups0";
        for (name, text) in [
            ("type", "UPS"),
            ("capacity", "87"),
            ("status", "Discharging"),
        ] {
            put(root, &format!("{ups}/{name}"), text);
        }
        put(root, "sys/class/power_supply/AC/type", "Mains\n");
        put(root, "sys/class/power_supply/AC/online", "0\n");
        put(root, "sys/class/power_supply/mouse/type", "Battery\n");
        put(root, "sys/class/power_supply/mouse/scope", "Device\n");
        let machine = MachineStatus::read(root);
        let memory = machine.memory.expect("there");
        assert_eq!(memory.total_bytes, 1_024_000 * 1024);
        assert_eq!(memory.available_bytes, 512_000 * 1024);
        assert_eq!(machine.temperature_c, Some(61.3));
        let names: Vec<&str> = machine
            .supplies
            .iter()
            .map(|supply| &*supply.name)
            .collect();
        assert_eq!(names, ["AC", "ups0"]);
        assert_eq!(machine.is_on_battery(), Some(true));
        assert_eq!(machine.charge_percent(), Some(87));

        put(root, "sys/class/power_supply/AC/online", "1\n");
        put(root, &format!("{ups}/status"), "Full\n");
        assert_eq!(MachineStatus::read(root).is_on_battery(), Some(false));
    }
}
