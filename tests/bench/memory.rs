//! Resident memory of a process from its mappings (`/proc/PID/smaps`, proc(5)).

use anyhow::{Context, Result};

/// Resident MiB of process `pid`. With `guest_mib`, mappings that make up the guest's RAM are left out: those of kernel
/// and initrd, which are parts of it, and anonymous ones so large that nothing else in a VMM could be.
pub fn resident_mib(pid: u64, guest_mib: Option<u64>) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps");
    let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let kib: u64 =
        mappings(&text).filter(|m| guest_mib.is_none_or(|guest| !m.is_ram(guest))).map(|m| m.rss_kib).sum();
    Ok((kib as f64 / 1024.0 * 100.0).round() / 100.0)
}

struct Mapping {
    file: Option<String>,
    size_kib: u64,
    rss_kib: u64,
}

impl Mapping {
    /// RAM may be split by the hole below 4 GiB and by the files laid into it: a quarter is telling.
    fn is_ram(&self, guest_mib: u64) -> bool {
        match &self.file {
            Some(file) => file.ends_with("/vmlinux") || file.ends_with("/initrd.cpio"),
            None => self.size_kib >= guest_mib * 1024 / 4,
        }
    }
}

fn mappings(smaps: &str) -> impl Iterator<Item = Mapping> {
    let mut lines = smaps.lines().peekable();
    std::iter::from_fn(move || {
        let head = lines.next()?;
        let file = head.split_whitespace().nth(5).map(str::to_owned);
        let mut mapping = Mapping { file, size_kib: 0, rss_kib: 0 };
        while let Some((name, value)) = lines.peek().and_then(|line| line.split_once(':')) {
            // The next mapping's head has its first colon inside a device number, behind white space.
            if name.contains(' ') {
                break;
            }
            let kib = value.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            match name {
                "Size" => mapping.size_kib = kib,
                "Rss" => mapping.rss_kib = kib,
                _ => {}
            }
            lines.next();
        }
        Some(mapping)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_ram_is_told_from_the_rest() {
        let smaps = "55d0-55d1 r-xp 00000000 fe:01 42 /usr/bin/theca-vmm\n\
                     Size: 400 kB\nRss: 300 kB\nVmFlags: rd ex\n\
                     7f00-7f01 rw-p 00000000 00:00 0 \n\
                     Size: 131072 kB\nRss: 20000 kB\nVmFlags: rd wr\n\
                     7f01-7f02 rw-p 00200000 fe:01 43 /usr/lib/theca/vmlinux\n\
                     Size: 14336 kB\nRss: 14000 kB\n\
                     7f05-7f06 rw-p 00000000 fe:01 44 /usr/lib/theca/initrd.cpio\n\
                     Size: 3072 kB\nRss: 3072 kB\n\
                     7f02-7f03 rw-p 00000000 00:00 0 [stack]\n\
                     Size: 132 kB\nRss: 24 kB\n";
        let all: Vec<_> = mappings(smaps).collect();
        assert_eq!(all.iter().map(|m| m.rss_kib).collect::<Vec<_>>(), [300, 20000, 14000, 3072, 24]);
        assert_eq!(all.iter().map(|m| m.is_ram(128)).collect::<Vec<_>>(), [false, true, true, true, false]);
    }
}
