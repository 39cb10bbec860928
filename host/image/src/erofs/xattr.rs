//! Extended attributes as stored right behind their inode: a header of 12 bytes, then entries aligned to 4 whose name
//! prefix is a number. Shared attributes are not written: images have few, and inline ones need no second read.

use crate::tree::{Xattrs, lossy};

use super::WriteError;

const HEADER_LEN: usize = 12;
const ENTRY_LEN: usize = 4;

/// The prefixes that EROFS can express. The two access control lists are complete names.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// Orders to an overlay file system, not data: in a lower layer they could redirect or hide what the image shows.
const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Whether an attribute belongs in an image: Linux could hold it, and it does not speak to overlayfs. Others (macOS'
/// own, say) are what no Linux runtime can set; they are left out, as those runtimes do.
pub fn is_storable(name: &[u8]) -> bool {
    split(name).is_some() && !OVERLAY.iter().any(|prefix| name.starts_with(prefix))
}

fn split(name: &[u8]) -> Option<(u8, &[u8])> {
    PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        let whole = !prefix.ends_with(b".");
        (rest.is_empty() == whole && rest.len() <= usize::from(u8::MAX)).then_some((*index, rest))
    })
}

/// The stored form; empty if there are none.
pub fn encode(xattrs: &Xattrs) -> Result<Vec<u8>, WriteError> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = vec![0; HEADER_LEN];
    for (name, value) in xattrs {
        let refused = || WriteError::Xattr { name: lossy(name) };
        let (index, rest) = split(name).ok_or_else(refused)?;
        let length = u16::try_from(value.len()).map_err(|_| refused())?;
        out.extend([rest.len() as u8, index]);
        out.extend(length.to_le_bytes());
        out.extend(rest);
        out.extend(&**value);
        out.resize(out.len().next_multiple_of(ENTRY_LEN), 0);
    }
    if out.len() > HEADER_LEN + ENTRY_LEN * usize::from(u16::MAX - 1) {
        return Err(WriteError::Xattr { name: "all together".into() });
    }
    Ok(out)
}

/// The inode's count field for a stored form of that length: units of 4, the header counting as one.
pub fn count(stored_len: usize) -> u16 {
    if stored_len == 0 { 0 } else { ((stored_len - HEADER_LEN) / ENTRY_LEN + 1) as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_prefix_numbers() {
        assert_eq!(split(b"security.capability"), Some((6, &b"capability"[..])));
        assert_eq!(split(b"system.posix_acl_access"), Some((2, &b""[..])));
        assert_eq!(split(b"system.posix_acl_access2"), None);
        assert_eq!(split(b"user."), None);
        assert_eq!(split(b"com.apple.provenance"), None);
    }

    #[test]
    fn attributes_for_overlayfs_are_not_data() {
        assert!(is_storable(b"trusted.anything"));
        assert!(!is_storable(b"trusted.overlay.redirect"));
        assert!(!is_storable(b"user.overlay.whiteout"));
    }

    #[test]
    fn the_count_covers_header_and_entries() {
        let xattrs = Xattrs::from([(b"user.a".as_slice().into(), b"bc".as_slice().into())]);
        let stored = encode(&xattrs).unwrap();
        assert_eq!(stored, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, b'a', b'b', b'c', 0]);
        assert_eq!(count(stored.len()), 3);
        assert_eq!(count(0), 0);
    }
}
