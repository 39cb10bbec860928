//! What must be true of the finished image: it is entered through PVH, and it takes little of a guest's memory.

use anyhow::{Context, Result, ensure};

/// The type of the ELF note that carries the 32-bit PVH entry point, under the name `Xen`.
const PVH_NOTE: u32 = 18;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// What the VMM will see in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of guest memory from the first loaded byte to the last, zeroed part included.
    pub loaded: u64,
    /// Guest-physical address of the first loaded byte.
    pub start: u64,
    /// Guest-physical address where PVH enters.
    pub entry: u64,
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

/// Reads the program headers of a 64-bit little-endian ELF image.
pub fn shape(image: &[u8]) -> Result<Shape> {
    ensure!(image.starts_with(b"\x7fELF\x02\x01"), "the kernel is no 64-bit little-endian ELF file");
    let table = number(image, 32, 8)?;
    let (size, count) = (number(image, 54, 2)?, number(image, 56, 2)?);
    let segments: Vec<Segment> =
        (0..count).map(|index| segment(image, table.saturating_add(index * size))).collect::<Result<_>>()?;
    let loads = || segments.iter().filter(|s| s.kind == PT_LOAD);
    let start = loads().map(|s| s.address).min().context("nothing in the kernel is loaded")?;
    let end = loads().map(|s| s.address.saturating_add(s.memory_size)).max().unwrap_or(start);
    let entry = segments
        .iter()
        .filter(|s| s.kind == PT_NOTE)
        .find_map(|s| pvh_entry(bytes(image, s.offset, s.file_size).ok()?))
        .context("the kernel has no PVH entry note")?;
    Ok(Shape { loaded: end - start, start, entry })
}

fn segment(image: &[u8], at: u64) -> Result<Segment> {
    Ok(Segment {
        kind: number(image, at, 4)? as u32,
        offset: number(image, at.saturating_add(8), 8)?,
        address: number(image, at.saturating_add(24), 8)?,
        file_size: number(image, at.saturating_add(32), 8)?,
        memory_size: number(image, at.saturating_add(40), 8)?,
    })
}

/// Walks a note segment: name size, content size, type, then name and content, each padded to four bytes.
fn pvh_entry(notes: &[u8]) -> Option<u64> {
    let mut at = 0;
    loop {
        let (name, content) = (number(notes, at, 4).ok()?, number(notes, at + 4, 4).ok()?);
        let kind = number(notes, at + 8, 4).ok()?;
        let content_at = at + 12 + name.next_multiple_of(4);
        if kind == u64::from(PVH_NOTE) && bytes(notes, at + 12, name).ok()? == b"Xen\0" {
            return number(notes, content_at, content.min(8)).ok();
        }
        at = content_at + content.next_multiple_of(4);
    }
}

fn bytes(image: &[u8], at: u64, count: u64) -> Result<&[u8]> {
    let start = usize::try_from(at).ok();
    let end = start.zip(usize::try_from(count).ok()).and_then(|(at, count)| at.checked_add(count));
    start
        .zip(end)
        .and_then(|(start, end)| image.get(start..end))
        .with_context(|| format!("the kernel ends before byte {}", at.saturating_add(count)))
}

fn number(image: &[u8], at: u64, width: u64) -> Result<u64> {
    let little_endian = bytes(image, at, width)?.iter().rev();
    Ok(little_endian.fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: u32, offset: u64, address: u64, file: u64, memory: u64) -> Vec<u8> {
        let mut out = kind.to_le_bytes().to_vec();
        out.extend([0; 4]);
        for field in [offset, !0, address, file, memory, 4096] {
            out.extend(field.to_le_bytes());
        }
        out
    }

    /// Two loaded segments with a gap, and one note segment of two notes.
    fn image(note_name: &[u8; 4]) -> Vec<u8> {
        let mut notes = Vec::new();
        for (name, kind, content) in [(b"GNU\0", 3, 7u32), (note_name, PVH_NOTE, 0x20_0123)] {
            notes.extend([4u32, 4, kind].iter().flat_map(|n| n.to_le_bytes()));
            notes.extend(name);
            notes.extend(content.to_le_bytes());
        }
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(64, 0);
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[54..56].copy_from_slice(&56u16.to_le_bytes());
        out[56..58].copy_from_slice(&3u16.to_le_bytes());
        out.extend(header(PT_LOAD, 0, 0x20_0000, 16, 0x1000));
        out.extend(header(PT_LOAD, 0, 0x30_0000, 16, 0x5000));
        out.extend(header(PT_NOTE, 64 + 3 * 56, 0x20_0000, notes.len() as u64, 0));
        out.extend(notes);
        out
    }

    #[test]
    fn measures_from_the_first_byte_to_the_last_and_finds_the_entry() {
        let expected = Shape { loaded: 0x10_5000, start: 0x20_0000, entry: 0x20_0123 };
        assert_eq!(shape(&image(b"Xen\0")).expect("a good image"), expected);
    }

    #[test]
    fn a_kernel_without_the_pvh_note_is_refused() {
        let error = shape(&image(b"GNU\0")).expect_err("no PVH note");
        assert!(error.to_string().contains("PVH"), "{error}");
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = image(b"Xen\0");
        for length in 0..whole.len() {
            assert!(shape(&whole[..length]).is_err(), "{length} bytes were taken for a kernel");
        }
    }
}
