use std::io::Write;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::*;

fn disk(sectors: u64, read_only: bool) -> Disk {
    let file = tempfile::tempfile().unwrap();
    file.set_len(sectors * SECTOR).unwrap();
    Disk::open(file, read_only, "test").unwrap()
}

fn header(kind: u32, sector: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..4].copy_from_slice(&kind.to_le_bytes());
    header[8..].copy_from_slice(&sector.to_le_bytes());
    header
}

fn buffers(bytes: &mut [u8]) -> Buffers<'_> {
    let mut buffers = Buffers::default();
    buffers.push(VolatileSlice::from(bytes));
    buffers
}

fn read(sector: u64, length: usize, disk: &Disk) -> Result<u64, RequestError> {
    let mut data = vec![0; length];
    match Request::parse(header(0, sector), Buffers::default(), buffers(&mut data), Some(disk))? {
        Request::Read { offset, .. } => Ok(offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_may_take_long_is_announced_before() {
    let slot = Slot::with(disk(8, false));
    let disk = slot.disk();
    let announced = |request: Request<'_>| {
        let mut calls = 0;
        request.perform(disk.as_deref(), &slot, &mut || calls += 1).unwrap();
        calls
    };
    let mut data = [0; 512];
    assert_eq!(announced(Request::GetId { data: buffers(&mut data) }), 0);
    assert_eq!(announced(Request::Write { offset: 0, data: buffers(&mut data) }), 1);
    assert_eq!(announced(Request::Flush), 1);
    assert_eq!(announced(Request::Discard(Vec::new())), 1);
    assert_eq!(announced(Request::WriteZeroes(Vec::new())), 1);
    // Of what is in the page cache only where the file system cannot tell.
    assert!(announced(Request::Read { offset: 0, data: buffers(&mut data) }) <= 1);
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn a_request_within_the_disk_is_accepted() {
    let disk = disk(8, false);
    assert_eq!(read(0, 4096, &disk).unwrap(), 0);
    assert_eq!(read(7, 512, &disk).unwrap(), 7 * 512);
}

#[test]
fn a_request_that_leaves_the_disk_is_refused() {
    let disk = disk(8, false);
    for (sector, length) in [(8, 512), (7, 1024), (0, 4096 + 512), (u64::MAX, 512), (u64::MAX / 512 + 1, 512)]
    {
        let refused = read(sector, length, &disk);
        assert!(matches!(refused, Err(RequestError::OutsideDisk)), "{length} bytes at sector {sector}");
    }
}

#[test]
fn parts_of_sectors_are_malformed() {
    let disk = disk(8, false);
    for length in [0, 1, 511, 513] {
        assert!(matches!(read(0, length, &disk), Err(RequestError::Malformed)));
    }
}

#[test]
fn an_empty_slot_has_no_sectors() {
    let mut data = [0; 512];
    let parsed = Request::parse(header(0, 0), Buffers::default(), buffers(&mut data), None);
    assert!(matches!(parsed, Err(RequestError::OutsideDisk)));
}

#[test]
fn a_read_only_disk_refuses_every_kind_of_change() {
    let disk = disk(8, true);
    for kind in [1, 11, 13] {
        let mut data = range(0, 1, 0);
        let parsed = Request::parse(header(kind, 0), buffers(&mut data), Buffers::default(), Some(&disk));
        assert!(matches!(parsed, Err(RequestError::ReadOnly)), "type {kind}");
    }
    assert!(read(0, 512, &disk).is_ok());
}

#[test]
fn types_that_are_not_there_are_unsupported() {
    let disk = disk(8, false);
    for kind in [2, 3, 5, 14, 15, u32::MAX] {
        let parsed = Request::parse(header(kind, 0), Buffers::default(), Buffers::default(), Some(&disk));
        assert!(matches!(parsed, Err(RequestError::Unsupported(_))), "type {kind}");
    }
}

#[test]
fn ranges_to_clear_are_checked_one_by_one() {
    let disk = disk(1 << 22, false);
    let parse = |kind, mut data: Vec<u8>| match Request::parse(
        header(kind, 0),
        buffers(&mut data),
        Buffers::default(),
        Some(&disk),
    ) {
        Ok(Request::Discard(ranges) | Request::WriteZeroes(ranges)) => Ok(ranges),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error),
    };
    let two = [range(0, 8, 0), range(16, 8, 1)].concat();
    let expected = [
        Range { offset: 0, length: 4096, unmap: false },
        Range { offset: 16 * 512, length: 4096, unmap: true },
    ];
    assert_eq!(parse(13, two).unwrap(), expected);
    assert!(matches!(
        parse(13, [range(0, 8, 0), range(1 << 22, 1, 0)].concat()),
        Err(RequestError::OutsideDisk)
    ));
    assert!(matches!(parse(13, range(0, 8, 2)), Err(RequestError::Unsupported(_))));
    assert!(matches!(parse(11, range(0, 8, 1)), Err(RequestError::Unsupported(_))));
    assert!(matches!(parse(11, range(0, MAX_CLEARED_SECTORS + 1, 0)), Err(RequestError::Malformed)));
    assert!(matches!(
        parse(11, range(0, 8, 0).repeat(MAX_RANGES as usize + 1)),
        Err(RequestError::Malformed)
    ));
    assert!(matches!(parse(11, vec![0; 15]), Err(RequestError::Malformed)));
    assert!(matches!(parse(11, Vec::new()), Err(RequestError::Malformed)));
}

#[test]
fn a_file_system_without_holes_gets_zeroes_written() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[7; 8 * 512]).unwrap();
    let disk = Disk::open(file.try_clone().unwrap(), false, "").unwrap();
    overwrite(&disk, Range { offset: 512, length: 1024, unmap: false }).unwrap();
    let mut bytes = [0; 4 * 512];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes[..512].iter().chain(&bytes[1536..]).all(|byte| *byte == 7));
    assert!(bytes[512..1536].iter().all(|byte| *byte == 0));
}

#[test]
fn serial_numbers_must_fit() {
    let open = |serial| Disk::open(tempfile::tempfile().unwrap(), false, serial);
    assert_eq!(open("theca-rootfs").unwrap().serial(), b"theca-rootfs\0\0\0\0\0\0\0\0");
    assert!(matches!(open("123456789012345678901"), Err(DiskError::Serial(_))));
    assert!(matches!(open("tab\t"), Err(DiskError::Serial(_))));
}

use super::super::DiskError;

proptest! {
    /// Whatever a header and ranges say, what is accepted lies within the disk.
    #[test]
    fn no_accepted_request_leaves_the_disk(
        kind in prop_oneof![0u32..16, any::<u32>()],
        sector in prop_oneof![0u64..20, any::<u64>()],
        mut readable in prop::collection::vec(any::<u8>(), 0..2048),
        mut writable in prop::collection::vec(any::<u8>(), 0..2048),
        whole in any::<bool>(),
    ) {
        if whole {
            readable.truncate(readable.len() / 512 * 512);
            writable.truncate(writable.len() / 512 * 512);
        }
        let disk = disk(16, false);
        let end = 16 * SECTOR;
        let within = |offset: u64, length: u64| offset.checked_add(length).is_some_and(|last| last <= end);
        match Request::parse(header(kind, sector), buffers(&mut readable), buffers(&mut writable), Some(&disk)) {
            Ok(Request::Read { offset, data } | Request::Write { offset, data }) => {
                prop_assert!(within(offset, data.len() as u64));
            }
            Ok(Request::Discard(ranges) | Request::WriteZeroes(ranges)) => {
                for range in ranges {
                    prop_assert!(within(range.offset, range.length));
                }
            }
            Ok(Request::Flush | Request::GetId { .. }) | Err(_) => {}
        }
    }
}
