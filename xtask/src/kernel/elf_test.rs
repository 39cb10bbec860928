use super::*;

/// Guest-physical address of the text, and of the data behind it.
const TEXT: u64 = 0x20_0000;
const DATA: u64 = 0x80_0000;
const NOTES_AT: usize = 2 * PAGE;

fn put(image: &mut Vec<u8>, at: usize, what: &[u8]) {
    image.resize(image.len().max(at + what.len()), 0);
    image[at..at + what.len()].copy_from_slice(what);
}

fn notes(pvh_name: &[u8; 4]) -> Vec<u8> {
    let mut notes = Vec::new();
    for (name, kind, content) in [(b"GNU\0", 3, 7u32), (pvh_name, PVH_NOTE, 0x20_0123)] {
        notes.extend([4u32, 4, kind].iter().flat_map(|n| n.to_le_bytes()));
        notes.extend(name);
        notes.extend(content.to_le_bytes());
    }
    notes
}

/// A text of code, notes, 2 MiB of `int3` and more code; a page of data with a zeroed tail; a note segment inside the text.
fn image(pvh_name: &[u8; 4]) -> Vec<u8> {
    let mut text = vec![0x90; 3 * PAGE];
    let notes = notes(pvh_name);
    put(&mut text, NOTES_AT, &notes);
    text.resize(text.len() + (2 << 20), 0xcc);
    text.extend([0x90; PAGE]);

    let segment = |kind, offset: usize, address, file_size: usize, memory_size: usize| Segment {
        kind,
        flags: 5,
        offset: offset as u64,
        virtual_address: 0xffff_ffff_8000_0000 + address,
        address,
        file_size: file_size as u64,
        memory_size: memory_size as u64,
    };
    let mut headers = b"\x7fELF\x02\x01\x01".to_vec();
    put(&mut headers, 32, &(HEADER as u64).to_le_bytes());
    put(&mut headers, 54, &(PROGRAM_HEADER as u16).to_le_bytes());
    put(&mut headers, 56, &3u16.to_le_bytes());
    headers.resize(HEADER, 0);
    let data_at = PAGE + text.len();
    segment(PT_LOAD, PAGE, TEXT, text.len(), text.len()).write(&mut headers);
    segment(PT_LOAD, data_at, DATA, PAGE, 5 * PAGE).write(&mut headers);
    segment(PT_NOTE, PAGE + NOTES_AT, TEXT + NOTES_AT as u64, notes.len(), notes.len()).write(&mut headers);
    put(&mut headers, PAGE, &text);
    put(&mut headers, data_at, &[7; PAGE]);
    headers
}

/// Guest memory after loading, as runs of (address, bytes) would fill it.
fn loaded(file: &[u8]) -> Vec<u8> {
    let image = Image::parse(file).unwrap();
    let mut memory = Vec::new();
    for load in image.loads() {
        let at = (load.address - TEXT) as usize;
        put(&mut memory, at, image.data(load).unwrap());
        let end = at + load.memory_size as usize;
        memory.resize(memory.len().max(end), 0);
    }
    memory
}

#[test]
fn measures_from_the_first_byte_to_the_last_and_finds_the_entry() {
    let file = image(b"Xen\0");
    let shape = Image::parse(&file).unwrap().shape().unwrap();
    let text = 4 * PAGE as u64 + (2 << 20);
    let expected = Shape {
        loaded: DATA + 5 * PAGE as u64 - TEXT,
        copied: text + PAGE as u64,
        start: TEXT,
        entry: 0x20_0123,
    };
    assert_eq!(shape, expected);
}

#[test]
fn packing_leaves_out_the_filler_and_nothing_else() {
    let file = image(b"Xen\0");
    let before = Image::parse(&file).unwrap().shape().unwrap();
    let packed = Image::parse(&file).unwrap().packed().unwrap();
    let after = Image::parse(&packed).unwrap().shape().unwrap();
    assert_eq!(after, Shape { copied: 5 * PAGE as u64, ..before });
    assert!(packed.len() < 10 * PAGE, "{} bytes", packed.len());

    let mut expected = loaded(&file);
    expected.iter_mut().filter(|byte| **byte == 0xcc).for_each(|byte| *byte = 0);
    assert_eq!(loaded(&packed), expected);
}

#[test]
fn packing_twice_changes_nothing() {
    let packed = Image::parse(&image(b"Xen\0")).unwrap().packed().unwrap();
    assert_eq!(Image::parse(&packed).unwrap().packed().unwrap(), packed);
}

#[test]
fn a_kernel_without_the_pvh_note_is_refused() {
    let file = image(b"GNU\0");
    let error = Image::parse(&file).unwrap().shape().unwrap_err();
    assert!(error.to_string().contains("PVH"), "{error}");
}

#[test]
fn what_is_cut_short_is_refused() {
    let whole = image(b"Xen\0");
    for length in (0..whole.len()).step_by(61) {
        let shape = Image::parse(&whole[..length]).and_then(|image| image.shape());
        assert!(shape.is_err(), "{length} bytes were taken for a kernel");
    }
}
