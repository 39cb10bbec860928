//! Powering off, so that the VMM can tell it from a reboot and from a panic.
//!
//! A guest without ACPI has no power button; the VMM learns of the end by the way in which the guest resets. The kernel
//! command line says `reboot=k` (the keyboard controller) for panics and for whoever else reboots. An orderly end goes
//! through port 0xCF9 instead, which `pci` in `/sys/kernel/reboot/type` selects.

use std::fs;

use nix::sys::reboot::{RebootMode, reboot};

const RESET_TYPE: &str = "/sys/kernel/reboot/type";

/// Ends the guest.
pub fn off() -> ! {
    if let Err(error) = fs::write(RESET_TYPE, "pci") {
        eprintln!("theca-agent: failed to write {RESET_TYPE}: {error}");
    }
    nix::unistd::sync();
    let Err(error) = reboot(RebootMode::RB_AUTOBOOT);
    eprintln!("theca-agent: failed to power off: {error}");
    std::process::exit(1)
}
