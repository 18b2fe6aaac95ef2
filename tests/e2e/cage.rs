//! A memory limit that the kernel enforces.

use std::fs;
use std::path::PathBuf;

/// A control group with a memory limit; a process that needs more is killed by the kernel.
pub struct Cage(PathBuf);

impl Cage {
    /// None where control groups cannot be made, such as without root.
    pub fn new(pid: u32, limit_bytes: u64) -> Option<Cage> {
        let name = format!("lienthong-budget-{pid}");
        let trees = [
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            ("/sys/fs/cgroup", "memory.max"),
        ];
        for (tree, limit) in trees {
            let folder = PathBuf::from(tree).join(&name);
            if fs::create_dir(&folder).is_err() {
                continue;
            }
            let cage = Cage(folder);
            let is_set = fs::write(cage.0.join(limit), limit_bytes.to_string()).is_ok()
                && fs::write(cage.0.join("cgroup.procs"), pid.to_string()).is_ok();
            if is_set {
                return Some(cage);
            }
        }
        None
    }

    /// The most that was used under the limit, page cache included.
    pub fn peak_bytes(&self) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(self.0.join(file)).ok();
        let peak = read("memory.max_usage_in_bytes").or_else(|| read("memory.peak"))?;
        peak.trim().parse().ok()
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
