//! thecad's own figures.

use std::fs;

use super::text::Text;

/// Bytes in a page on x86_64.
const PAGE: u64 = 4096;

/// Writes what thecad is and what it takes.
pub fn write(text: &mut Text) {
    let name = "theca_build_info";
    text.heading(name, "gauge", "The version that runs.");
    text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    if let Some(bytes) = resident_bytes() {
        let name = "process_resident_memory_bytes";
        text.heading(name, "gauge", "Resident memory of thecad.");
        text.sample(name, &[], bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let name = "process_open_fds";
        text.heading(name, "gauge", "Open descriptors of thecad.");
        // Looking takes one.
        text.sample(name, &[], open.count().saturating_sub(1));
    }
}

/// The second figure of `/proc/self/statm`, proc(5).
fn resident_bytes() -> Option<u64> {
    let pages = fs::read_to_string("/proc/self/statm").ok()?;
    let resident: u64 = pages.split_whitespace().nth(1)?.parse().ok()?;
    Some(resident * PAGE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_takes_some_memory() {
        assert!(super::resident_bytes().unwrap() > 100_000);
    }
}
