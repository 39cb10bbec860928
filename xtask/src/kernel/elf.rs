//! The image that guests boot: what must be true of it, and a form that holds nothing but what is loaded.
//!
//! The kernel's linker script aligns parts of the text to 2 MiB, so a third of it is filler. A VMM that copies the image into
//! each guest would copy that too. [`Image::packed`] leaves filler, symbols and debug sections out; the segments still cover the
//! same addresses, as memory that starts zeroed.

use anyhow::{Context, Result, ensure};

/// The type of the ELF note that carries the 32-bit PVH entry point, under the name `Xen`.
const PVH_NOTE: u32 = 18;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PAGE: usize = 4096;
/// What the linker fills with: nothing, or `int3` between functions.
const FILLERS: [u8; 2] = [0, 0xcc];
/// Shorter runs of filler are cheaper copied than described.
const SHORTEST_GAP: usize = 16 * PAGE;

/// An ELF image whose headers were read.
pub struct Image<'a> {
    bytes: &'a [u8],
    segments: Vec<Segment>,
}

/// What the VMM will see in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Bytes of guest memory from the first loaded byte to the last, zeroed part included.
    pub loaded: u64,
    /// Bytes that are copied there from the file.
    pub copied: u64,
    /// Guest-physical address of the first loaded byte.
    pub start: u64,
    /// Guest-physical address where PVH enters.
    pub entry: u64,
}

/// A program header.
#[derive(Debug, Clone, Copy)]
struct Segment {
    kind: u32,
    flags: u32,
    offset: u64,
    virtual_address: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

impl<'a> Image<'a> {
    /// Reads the program headers of a 64-bit little-endian ELF image.
    pub fn parse(bytes: &'a [u8]) -> Result<Image<'a>> {
        ensure!(bytes.starts_with(b"\x7fELF\x02\x01"), "the kernel is no 64-bit little-endian ELF file");
        let table = number(bytes, 32, 8)?;
        let (size, count) = (number(bytes, 54, 2)?, number(bytes, 56, 2)?);
        let read = |index| Segment::read(bytes, table.saturating_add(index * size));
        Ok(Image { bytes, segments: (0..count).map(read).collect::<Result<_>>()? })
    }

    /// What a VMM makes of the image; refused when it has no PVH entry or is cut short.
    pub fn shape(&self) -> Result<Shape> {
        let start = self.loads().map(|s| s.address).min().context("nothing in the kernel is loaded")?;
        let end = self.loads().map(|s| s.address.saturating_add(s.memory_size)).max().unwrap_or(start);
        for load in self.loads() {
            self.data(load)?;
        }
        let entry = self
            .of_kind(PT_NOTE)
            .find_map(|s| pvh_entry(self.data(s).ok()?))
            .context("the kernel has no PVH entry note")?;
        Ok(Shape { loaded: end - start, copied: self.loads().map(|s| s.file_size).sum(), start, entry })
    }

    /// The same kernel as a file of its loaded bytes only, without sections and without filler.
    pub fn packed(&self) -> Result<Vec<u8>> {
        let mut pieces = Vec::new();
        for load in self.loads() {
            pieces.extend(split(load, self.data(load)?));
        }
        let notes: Vec<&Segment> = self.of_kind(PT_NOTE).collect();
        let count = pieces.len() + notes.len();

        let mut headers = bytes(self.bytes, 0, HEADER as u64)?.to_vec();
        headers[32..40].copy_from_slice(&(HEADER as u64).to_le_bytes());
        headers[54..56].copy_from_slice(&(PROGRAM_HEADER as u16).to_le_bytes());
        headers[56..58].copy_from_slice(&u16::try_from(count)?.to_le_bytes());
        // No section headers: offset, count and index of their names.
        headers[40..48].fill(0);
        headers[60..64].fill(0);

        let mut body = Vec::new();
        let body_at = (HEADER + count * PROGRAM_HEADER).next_multiple_of(PAGE);
        for piece in &mut pieces {
            let data = self.data(piece)?;
            piece.offset = (body_at + body.len()) as u64;
            body.extend_from_slice(data);
            body.resize(body.len().next_multiple_of(PAGE), 0);
        }
        for piece in &pieces {
            piece.write(&mut headers);
        }
        for note in notes {
            let home =
                pieces.iter().find(|p| note.address >= p.address && note.address - p.address < p.file_size);
            let home = home.context("the kernel's notes are not in a loaded segment")?;
            Segment { offset: home.offset + (note.address - home.address), ..*note }.write(&mut headers);
        }
        headers.resize(body_at, 0);
        headers.append(&mut body);
        Ok(headers)
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |s| s.kind == kind)
    }

    fn loads(&self) -> impl Iterator<Item = &Segment> {
        self.of_kind(PT_LOAD)
    }

    fn data(&self, segment: &Segment) -> Result<&'a [u8]> {
        bytes(self.bytes, segment.offset, segment.file_size)
    }
}

impl Segment {
    fn read(image: &[u8], at: u64) -> Result<Segment> {
        let field = |offset, width| number(image, at.saturating_add(offset), width);
        Ok(Segment {
            kind: field(0, 4)? as u32,
            flags: field(4, 4)? as u32,
            offset: field(8, 8)?,
            virtual_address: field(16, 8)?,
            address: field(24, 8)?,
            file_size: field(32, 8)?,
            memory_size: field(40, 8)?,
        })
    }

    fn write(&self, headers: &mut Vec<u8>) {
        headers.extend(self.kind.to_le_bytes());
        headers.extend(self.flags.to_le_bytes());
        let alignment = if self.kind == PT_LOAD { PAGE as u64 } else { 4 };
        let addresses = [self.offset, self.virtual_address, self.address];
        let sizes = [self.file_size, self.memory_size, alignment];
        headers.extend(addresses.iter().chain(&sizes).flat_map(|field| field.to_le_bytes()));
    }
}

/// Cuts a segment where its data is filler for long. What is cut away stays covered, as the zeroed tail of the piece before it.
fn split(whole: &Segment, data: &[u8]) -> Vec<Segment> {
    let mut kept: Vec<std::ops::Range<usize>> = Vec::new();
    for (index, page) in data.chunks(PAGE).enumerate() {
        // The first page stays, so that there is a piece for what follows to be the tail of.
        if index > 0 && FILLERS.iter().any(|filler| page.iter().all(|byte| byte == filler)) {
            continue;
        }
        let range = index * PAGE..index * PAGE + page.len();
        match kept.last_mut() {
            Some(last) if range.start - last.end < SHORTEST_GAP => last.end = range.end,
            _ => kept.push(range),
        }
    }
    let ends = kept.iter().skip(1).map(|next| next.start as u64).chain([whole.memory_size]);
    let piece = |(range, end): (&std::ops::Range<usize>, u64)| {
        let start = range.start as u64;
        Segment {
            offset: whole.offset + start,
            virtual_address: whole.virtual_address + start,
            address: whole.address + start,
            file_size: range.len() as u64,
            memory_size: end - start,
            ..*whole
        }
    };
    kept.iter().zip(ends).map(piece).collect()
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
#[path = "elf_test.rs"]
mod tests;
