//! A disk whose power can be cut: a real file system in a file, shut down by the kernel's own call so
//! that what was not synced is gone, and then mounted again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::rig::{Process, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    Xfs,
}

pub struct Disk {
    image: PathBuf,
    pub folder: PathBuf,
    is_mounted: bool,
}

/// The smallest that both file systems can be made on; it has holes.
const IMAGE_BYTES: u64 = 320 << 20;

impl Disk {
    /// Makes a file system in a file of `folder` and mounts it there.
    pub fn make(kind: FileSystem, folder: &Path) -> Disk {
        assert!(
            nix::unistd::geteuid().is_root(),
            "only root can mount a file system whose power is cut"
        );
        let image = folder.join("disk.img");
        let file = fs::File::create(&image).unwrap();
        file.set_len(IMAGE_BYTES).unwrap();
        let mut make = match kind {
            FileSystem::Ext4 => Command::new("/sbin/mkfs.ext4"),
            FileSystem::Xfs => Command::new("/sbin/mkfs.xfs"),
        };
        run(make.arg("-q").arg(&image), 0);
        let place = folder.join("disk");
        fs::create_dir(&place).unwrap();
        let mut disk = Disk {
            image,
            folder: place,
            is_mounted: false,
        };
        disk.mount();
        disk
    }

    fn mount(&mut self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(&self.image);
        run(mount.arg(&self.folder), 0);
        self.is_mounted = true;
    }

    fn unmount(&mut self) {
        run(Command::new("umount").arg(&self.folder), 0);
        self.is_mounted = false;
        // Its loop device goes a moment later; another mount would find the old blocks in its cache.
        while is_in_loop(&self.image) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Cuts the power under a process: it stops in its tracks, what it had not synced is lost, and it
    /// is gone.
    pub fn cut(&mut self, process: Process) {
        process.signal(Signal::SIGSTOP);
        wait_until_frozen(process.pid());
        self.shut_down();
        process.kill();
        self.unmount();
        self.mount();
    }

    /// Cuts the power after a process that has just been killed.
    pub fn lose_unsynced(&mut self) {
        self.shut_down();
        self.unmount();
        self.mount();
    }

    fn shut_down(&self) {
        let mut shutdown = Command::new("xfs_io");
        shutdown.args(["-x", "-c", "shutdown"]).arg(&self.folder);
        run(&mut shutdown, 0);
    }

    /// Keeps what is on the disk for [`Disk::set_back`].
    pub fn remember(&mut self) {
        self.unmount();
        copy(&self.image, &self.remembered());
        self.mount();
    }

    pub fn set_back(&mut self) {
        self.unmount();
        copy(&self.remembered(), &self.image);
        self.mount();
    }

    fn remembered(&self) -> PathBuf {
        self.image.with_extension("remembered")
    }
}

/// Leaves holes where there are holes.
fn copy(from: &Path, to: &Path) {
    run(
        Command::new("cp").arg("--sparse=always").arg(from).arg(to),
        0,
    );
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}

fn is_in_loop(image: &Path) -> bool {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let mut files = devices
        .filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.any(|file| Path::new(file.trim_end()) == image)
}

/// A thread within a write stops when the write has ended.
fn wait_until_frozen(pid: u32) {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let is_frozen = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit(')').next().unwrap_or_default().trim_start();
        state.starts_with(['T', 't', 'X', 'Z']) || stat.is_empty()
    };
    while !fs::read_dir(&tasks).unwrap().flatten().all(is_frozen) {
        std::thread::sleep(Duration::from_millis(1));
    }
}
