//! The kernel command line.

use super::BootError;
use crate::arch::x86_64::layout;

/// What every guest gets, each with its reason.
const BASE: &[&str] = &[
    // Serial output costs an exit per byte: warnings and worse only, and only until hvc0 takes over.
    "quiet",
    "earlyprintk=ttyS0",
    "console=hvc0",
    // How a guest ends must tell why: see `vcpu::exit`.
    "reboot=k,panic_warm",
    "panic=-1",
    // A panic prints the whole log, what `quiet` kept back too: it has the reason (bit 5, kernel-parameters.txt).
    "panic_print=0x20",
    // The host keeps the time-stamp counters of a VM in step, and timer interrupts need no trial.
    "tsc=reliable",
    "no_timer_check",
    // Rewriting every lock prefix of the kernel for one processor copies most of its pages.
    "noreplace-smp",
    // Giving the initrd back would overwrite it, and so copy every page of what is a shared view of the file.
    "retain_initrd",
    // The first container must not wait for entropy.
    "random.trust_cpu=on",
    "cryptomgr.notests",
];

/// Composes the command line for `devices` virtio-mmio slots; `extra` comes last and so wins.
pub fn compose(devices: usize, extra: &str) -> String {
    let mut line = BASE.join(" ");
    for slot in 0..devices {
        line.push_str(&format!(" virtio_mmio.device=4K@{:#x}:{}", layout::mmio(slot), layout::irq(slot)));
    }
    if !extra.is_empty() {
        line.push(' ');
        line.push_str(extra);
    }
    line
}

/// The bytes for guest memory.
pub fn terminated(line: &str) -> Result<Vec<u8>, BootError> {
    if line.len() >= layout::COMMAND_LINE_MAX {
        return Err(BootError::CommandLineTooLong(line.len()));
    }
    if line.chars().any(char::is_control) {
        return Err(BootError::CommandLineControl);
    }
    let mut bytes = line.as_bytes().to_vec();
    bytes.push(0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_announced_and_the_callers_words_come_last() {
        let line = compose(2, "loglevel=7");
        assert!(
            line.contains("virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6"),
            "{line}"
        );
        assert!(line.ends_with(" loglevel=7"));
    }

    #[test]
    fn a_line_that_the_kernel_would_cut_is_refused() {
        assert!(matches!(terminated(&"x".repeat(2048)), Err(BootError::CommandLineTooLong(2048))));
        assert!(matches!(terminated("a\nb"), Err(BootError::CommandLineControl)));
        assert_eq!(terminated("ro").unwrap(), b"ro\0");
    }
}
