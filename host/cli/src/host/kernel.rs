//! What a guest kernel's file says of itself.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// How every Linux begins its banner, which `/proc/version` shows.
const BANNER: &[u8] = b"Linux version ";
/// A kernel with all its debugging symbols is larger; its banner comes long before them.
const MOST_READ: u64 = 64 << 20;
const CHUNK: usize = 256 << 10;
/// `UTS_RELEASE` has at most 64 bytes.
const LONGEST: usize = 64;

/// The release, as `uname -r` in the guest will have it; `None` if the file has no banner.
pub fn release(path: &Path) -> io::Result<Option<String>> {
    release_in(File::open(path)?.take(MOST_READ))
}

fn release_in(mut kernel: impl Read) -> io::Result<Option<String>> {
    let mut window = Vec::with_capacity(CHUNK + BANNER.len() + LONGEST);
    loop {
        let added = kernel.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        let found = window.windows(BANNER.len()).enumerate().filter(|(_, bytes)| *bytes == BANNER);
        let rests = found.map(|(at, _)| &window[at + BANNER.len()..]);
        // At the end of a window a release may be cut short; it is whole in the next.
        if let Some(release) = rests.filter(|rest| added == 0 || rest.len() > LONGEST).find_map(word) {
            return Ok(Some(release));
        }
        if added == 0 {
            return Ok(None);
        }
        window.drain(..window.len().saturating_sub(BANNER.len() + LONGEST));
    }
}

/// The first word, if it begins as a release does. The formats of messages have their `%s` there.
fn word(rest: &[u8]) -> Option<String> {
    let end = rest.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(rest.len());
    let word = std::str::from_utf8(&rest[..end.min(LONGEST)]).ok()?;
    word.starts_with(|first: char| first.is_ascii_digit()).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<String> {
        release_in(bytes).unwrap()
    }

    #[test]
    fn the_banner_tells_the_release_wherever_it_is() {
        for before in [0, 1, CHUNK - 20, CHUNK - 7, CHUNK, 3 * CHUNK - 3] {
            let mut kernel = vec![b'.'; before];
            kernel.extend(b"Linux version %s (%s)\0Linux version 6.12.117-theca (theca@theca) #1\n\0");
            assert_eq!(of(&kernel).as_deref(), Some("6.12.117-theca"), "after {before} bytes");
            kernel.extend(vec![0; CHUNK]);
            assert_eq!(of(&kernel).as_deref(), Some("6.12.117-theca"), "after {before} bytes");
        }
    }

    #[test]
    fn a_file_without_a_banner_has_no_release() {
        for bytes in [&b""[..], b"Linux version ", b"Linux version \x1b[2J", b"Linux versio", &[0; CHUNK + 9]]
        {
            assert_eq!(of(bytes), None);
        }
        assert_eq!(of(&[b"Linux version 1".as_slice(), &[b'1'; 500]].concat()).unwrap().len(), LONGEST);
    }
}
