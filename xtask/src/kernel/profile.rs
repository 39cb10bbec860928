//! Where a boot's instructions go: the kernel run on QEMU's software CPU, its execution log counted by function.
//!
//! The figures are blocks of straight-line code executed between `start_kernel` and the start of init. They repeat exactly
//! and do not depend on the machine, which makes them good for comparing two configurations; what they leave out is the cost of exits and of
//! memory touched for the first time.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::{apt, progress};

const FIRST: &str = "start_kernel";
/// Whichever comes: with an initrd that has an init, or without.
const LAST: [&str; 2] = ["run_init_process", "prepare_namespace"];
/// Waits for clocks and timers that a guest of KVM does not have.
const WAITS: [&str; 5] =
    ["delay_tsc", "quick_pit_calibrate", "mc146818_avoid_UIP", "rtc_cmos_read", "timer_irq_works"];
/// Functions shown.
const SHOWN: usize = 40;

/// Boots `kernel` and prints its most executed functions, named by the `System.map` beside it.
pub fn run(kernel: &Path) -> Result<()> {
    apt::install(&["qemu-system-x86"])?;
    let path = kernel.with_file_name("System.map");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let mut profile = Profile::new(Symbols::parse(&text))?;
    progress::step("counting what the kernel executes", || {
        let mut machine = Machine::start(kernel)?;
        let log = machine.0.stderr.take().context("QEMU has no log")?;
        for line in BufReader::new(log).split(b'\n') {
            if let Some(address) = executed(&line?)
                && profile.count(address)
            {
                return Ok(());
            }
        }
        anyhow::bail!("QEMU ended before the kernel started init")
    })?;
    let ranking = profile.ranking();
    let total: u64 = ranking.iter().map(|(_, count)| count).sum();
    println!("{total:>10}        blocks in all");
    for (name, count) in ranking.iter().take(SHOWN) {
        println!("{count:>10} {:>5.1} % {name}", *count as f64 * 100.0 / total as f64);
    }
    Ok(())
}

/// The running QEMU; dropping it ends it.
struct Machine(Child);

impl Machine {
    fn start(kernel: &Path) -> Result<Machine> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args([
            "-M",
            "microvm,acpi=off,rtc=off,isa-serial=off",
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "128",
        ]);
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        // Says beforehand what the kernel would otherwise wait to find out.
        qemu.args(["-append", "quiet panic=-1 nolapic no_timer_check tsc_early_khz=1000000 lpj=4000000"]);
        qemu.args(["-d", "exec,nochain", "-kernel"]).arg(kernel);
        qemu.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Machine(qemu.spawn().context("failed to start qemu-system-x86_64")?))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself, and nobody asks how.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address in a line of QEMU's log: `Trace 0: 0x7f… [CS base/address/flags/…]`.
fn executed(line: &[u8]) -> Option<u64> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("Trace ")?;
    let address = line.split_once('[')?.1.split('/').nth(1)?;
    u64::from_str_radix(address, 16).ok()
}

/// Functions by address.
struct Symbols(Vec<(u64, String)>);

impl Symbols {
    /// Reads the lines `address kind name` of a `System.map`; the order is by address.
    fn parse(text: &str) -> Symbols {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let code = matches!(words.next()?, "t" | "T" | "w" | "W");
            code.then_some((address, words.next()?.to_owned()))
        };
        let mut symbols: Vec<_> = text.lines().filter_map(line).collect();
        symbols.sort();
        Symbols(symbols)
    }

    fn address(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(_, known)| known == name).map(|(address, _)| *address)
    }

    /// The position of the function that holds `address`.
    fn holding(&self, address: u64) -> Option<usize> {
        self.0.partition_point(|(start, _)| *start <= address).checked_sub(1)
    }
}

struct Profile {
    symbols: Symbols,
    counts: Vec<u64>,
    first: u64,
    last: Vec<u64>,
    started: bool,
}

impl Profile {
    fn new(symbols: Symbols) -> Result<Profile> {
        let first = symbols.address(FIRST).with_context(|| format!("the kernel's map has no {FIRST}"))?;
        let last: Vec<u64> = LAST.iter().filter_map(|name| symbols.address(name)).collect();
        ensure!(!last.is_empty(), "the kernel's map has none of {LAST:?}");
        Ok(Profile { counts: vec![0; symbols.0.len()], symbols, first, last, started: false })
    }

    /// Counts one block, and tells whether it was the last.
    fn count(&mut self, address: u64) -> bool {
        self.started |= address == self.first;
        if self.started
            && let Some(count) = self.symbols.holding(address).and_then(|index| self.counts.get_mut(index))
        {
            *count += 1;
        }
        self.started && self.last.contains(&address)
    }

    /// Names and counts, the highest first, without those that only wait.
    fn ranking(&self) -> Vec<(&str, u64)> {
        let named = self.symbols.0.iter().map(|(_, name)| name.as_str()).zip(self.counts.iter().copied());
        let mut ranking: Vec<_> = named.filter(|(name, count)| *count > 0 && !WAITS.contains(name)).collect();
        ranking.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        ranking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "ffffffff80200000 T _text\n\
                       ffffffff80200100 T start_kernel\n\
                       ffffffff80200180 d not_code\n\
                       ffffffff80200200 t work\n\
                       ffffffff80200300 t delay_tsc\n\
                       ffffffff80200400 t run_init_process\n";

    #[test]
    fn counts_by_function_from_start_to_init() {
        let mut profile = Profile::new(Symbols::parse(MAP)).unwrap();
        let run =
            [0x200, 0x100, 0x190, 0x210, 0x220, 0x230, 0x300, 0x310].map(|low| 0xffff_ffff_8020_0000 + low);
        for address in run {
            assert!(!profile.count(address), "{address:x} was taken for the end");
        }
        assert!(profile.count(0xffff_ffff_8020_0400));
        assert_eq!(profile.ranking(), [("work", 3), ("start_kernel", 2), ("run_init_process", 1)]);
    }

    #[test]
    fn the_address_is_the_second_field_of_a_trace() {
        let line = b"Trace 0: 0x7f5a24000100 [0000000000000000/ffffffff80200100/00c0b233/ff000000] ";
        assert_eq!(executed(line), Some(0xffff_ffff_8020_0100));
        assert_eq!(executed(b"qemu-system-x86_64: terminating"), None);
    }

    #[test]
    fn a_map_without_the_start_is_refused() {
        let error = Profile::new(Symbols::parse("ffffffff80200000 T _text\n")).err().unwrap();
        assert!(error.to_string().contains(FIRST), "{error}");
    }
}
