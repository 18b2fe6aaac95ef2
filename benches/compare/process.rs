//! What a running process has used, as the kernel counts it.

#[derive(Clone, Copy)]
pub struct Usage {
    /// Bytes that the process caused to be written to the disk.
    pub written: u64,
    pub processor_us: u64,
}

pub fn usage(pid: u32) -> Usage {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives")
    };
    let written = read("io")
        .lines()
        .find_map(|line| {
            line.strip_prefix("write_bytes: ")
                .and_then(|value| value.parse().ok())
        })
        .expect("the kernel counts bytes");
    let stat = read("stat");
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .expect("the name ends")
        .1
        .split(' ')
        .collect();
    let ticks: u64 = [11, 12]
        .iter()
        .map(|&field| fields[field].parse::<u64>().expect("ticks"))
        .sum();
    Usage {
        written,
        processor_us: ticks * 10_000,
    }
}

/// Proportional memory, MB.
pub fn memory_mb(pid: u32) -> f64 {
    std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))
        .expect("the process lives")
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .map_or(0.0, |kib| kib * 1024.0 / 1e6)
}
