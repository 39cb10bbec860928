//! Words for the guest kernel's command line, from whoever asks for a sandbox. They come after Theca's own and would win, so
//! those that take away what a sandbox stands on (its console, its agent, its devices, the way it tells how it ended) are
//! refused.

use crate::node::error::{Error, Result};

/// Parameters that are Theca's to say.
const OWN: [&str; 15] = [
    "console",
    "earlyprintk",
    "init",
    "initcall_blacklist",
    "initrd",
    "noinitrd",
    "panic",
    "random.trust_cpu",
    "rdinit",
    "reboot",
    "root",
    "sysctl.kernel.panic",
    "tsc",
    "virtio_mmio.device",
    // What follows is for init, not for the kernel.
    "__",
];

/// Checks every word.
pub fn check(words: &[String]) -> Result<()> {
    for word in words {
        if word.is_empty() || word.contains(|c: char| !c.is_ascii_graphic()) {
            return Err(Error::Invalid(format!("{word:?} is not one word of a kernel's command line")));
        }
        if OWN.contains(&parameter(word).as_str()) {
            return Err(Error::Invalid(format!(
                "the kernel argument {word:?} is refused: that parameter is Theca's to say, so leave it out"
            )));
        }
    }
    Ok(())
}

/// The parameter that a word sets, as the kernel compares names: a quote may come before it, dashes are underscores, and a
/// sysctl's slashes are dots.
fn parameter(word: &str) -> String {
    let word = word.strip_prefix('"').unwrap_or(word);
    let name = word.split_once('=').map_or(word, |(name, _)| name).trim_end_matches('"');
    let name = name.replace('-', "_");
    if name.starts_with("sysctl") { name.replace('/', ".") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(word: &str) -> String {
        check(&["debug".into(), word.into()]).unwrap_err().to_string()
    }

    #[test]
    fn words_that_undo_what_a_sandbox_stands_on_are_refused_by_name() {
        for word in [
            "console=ttyS0",
            "init=/bin/sh",
            "rdinit=/none",
            "panic=10",
            "virtio_mmio.device=4K@0xd0000000:5",
            "virtio-mmio.device=4K@0xd0000000:5",
            "\"root=/dev/vda\"",
            "noinitrd",
            "sysctl.kernel/panic=0",
            "--",
        ] {
            let told = refusal(word);
            assert!(told.contains(&format!("{word:?}")) && told.contains("Theca's"), "{told}");
        }
    }

    #[test]
    fn other_words_are_taken_and_what_is_no_word_is_not() {
        let words = ["quiet", "loglevel=7", "panic_on_warn=1", "Console=x", "sysctl.vm.panic_on_oom=1"];
        check(&words.map(str::to_owned)).unwrap();
        for word in ["", "a b", "a\nb", "é"] {
            assert!(refusal(word).contains("not one word"), "{word:?}");
        }
    }
}
