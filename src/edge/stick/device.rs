//! `tramd stick DEVICE`: what happens when a stick is plugged in. It is mounted where nobody else sees
//! it (the unit gives a mount namespace of its own), first for reading only: one that was not prepared
//! for this box is left as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{getegid, geteuid};

use super::fault::Fault;
use super::{Errand, Teller, at_the_console};
use crate::edge::commands::Failure;
use crate::edge::config::load::{Loaded, load};
use crate::shell::stick::{FOLDER, Stick, StickError};

/// What sticks are formatted with, and whether that knows owners; the kernel's other readers are not
/// shown what a stranger made.
const KINDS: [(&str, bool); 3] = [("vfat", false), ("exfat", false), ("ext4", true)];
/// Where the unit wants it mounted (`RuntimeDirectory=`).
const PLACE: &str = "RUNTIME_DIRECTORY";
const FLAGS: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME);
const UNMOUNT_PAUSE: Duration = Duration::from_millis(200);
const UNMOUNT_TRIES: u32 = 25;

/// Imports the receipts of a stick that was prepared for this box, and writes what waits.
pub fn serve(path: &Path, device: &Path) -> Result<String, Failure> {
    let Loaded { config, .. } = load(path).map_err(Failure::Configuration)?;
    let place = std::env::var_os(PLACE).map(PathBuf::from).ok_or_else(|| {
        Failure::Usage(
            "lệnh này do systemd chạy khi cắm USB (tramd-stick@.service); tự làm thì dùng tramd export / systemd runs \
             this when a stick is plugged in (tramd-stick@.service); by hand use tramd export"
                .to_owned(),
        )
    })?;
    let mounted = Mounted::read_only(device, &place)
        .map_err(|errno| Fault::of_stick(&place, io::Error::from(errno).into()))?;
    match Stick::open(&place, &config.box_id) {
        Ok(_) => {}
        Err(StickError::NotPrepared) if has_other_box(&place) => {
            drop(mounted);
            let said = at_the_console(path, &config, "stick_plugged_in", |_, _| {
                Err(Fault::of_stick(&place, StickError::NotPrepared))
            });
            return said.map(|_| String::new());
        }
        Err(StickError::NotPrepared) => {
            return Ok("USB không chuẩn bị cho trạm này, để nguyên. / The stick is not prepared for this box and left alone.\n".to_owned());
        }
        Err(error) => return Err(Fault::of_stick(&place, error).into()),
    }
    let status = at_the_console(path, &config, "stick_plugged_in", |errand, teller| {
        let done = serve_mounted(errand, teller, &mounted);
        // It may be pulled only now.
        let unmounted = mounted.unmount();
        done?;
        unmounted.map_err(|errno| Fault::of_stick(&place, io::Error::from(errno).into()))
    })?;
    let (exported, imported) = (
        status.exported.unwrap_or_default(),
        status.imported.unwrap_or_default(),
    );
    Ok(format!(
        "Có thể rút USB: đã ghi {0} bản ghi, đã nhận biên nhận của {1} bản ghi. / The stick may be pulled: {0} entries \
         written, receipts for {1} entries taken.\n",
        exported.entries, imported.entries
    ))
}

fn serve_mounted(
    errand: &Errand<'_>,
    teller: &mut Teller<'_>,
    mounted: &Mounted,
) -> Result<(), Fault> {
    mounted
        .make_writable()
        .map_err(|errno| Fault::of_stick(&mounted.place, io::Error::from(errno).into()))?;
    // Receipts that are of no use hinder nothing from being carried off.
    let imported = errand.import(&mounted.place, teller);
    errand.export(&mounted.place, teller)?;
    imported
}

/// Whether it was prepared for another box.
fn has_other_box(place: &Path) -> bool {
    let inside = fs::read_dir(place.join(FOLDER));
    inside.is_ok_and(|mut inside| inside.next().is_some())
}

/// A stick that is mounted; dropped, it is unmounted.
struct Mounted {
    place: PathBuf,
    options: Option<String>,
    is_mounted: bool,
}

impl Mounted {
    fn read_only(device: &Path, place: &Path) -> Result<Mounted, Errno> {
        // What lies on it belongs to the service's user and is nobody else's business.
        let ours = format!("uid={},gid={},fmask=0177,dmask=0077", geteuid(), getegid());
        let mut failed = Errno::ENODEV;
        for (kind, knows_owners) in KINDS {
            let options = (!knows_owners).then(|| ours.clone());
            let flags = FLAGS | MsFlags::MS_RDONLY;
            match mount(Some(device), place, Some(kind), flags, options.as_deref()) {
                Ok(()) => {
                    return Ok(Mounted {
                        place: place.to_owned(),
                        options,
                        is_mounted: true,
                    });
                }
                // Not of this kind, or the kernel does not know it.
                Err(errno @ (Errno::EINVAL | Errno::ENODEV)) => failed = errno,
                Err(errno) => return Err(errno),
            }
        }
        Err(failed)
    }

    fn make_writable(&self) -> Result<(), Errno> {
        mount(
            None::<&str>,
            &self.place,
            None::<&str>,
            FLAGS | MsFlags::MS_REMOUNT,
            self.options.as_deref(),
        )
    }

    fn unmount(mut self) -> Result<(), Errno> {
        self.is_mounted = false;
        let mut tries = 1;
        loop {
            match umount2(&self.place, MntFlags::UMOUNT_NOFOLLOW) {
                Err(Errno::EBUSY) if tries < UNMOUNT_TRIES => {
                    tries += 1;
                    thread::sleep(UNMOUNT_PAUSE);
                }
                ended => return ended,
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            // The unit's namespace ends with this process, and with it what is mounted in it.
            let _ = umount2(&self.place, MntFlags::MNT_DETACH);
        }
    }
}
