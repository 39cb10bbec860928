use super::*;

/// An archive made by another implementation.
fn archive(fill: impl FnOnce(&mut ::tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    fill(&mut builder);
    builder.into_inner().unwrap()
}

fn header(kind: ::tar::EntryType, size: u64) -> ::tar::Header {
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(3_000_000);
    header.set_gid(7);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    header
}

fn entries(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut archive = Archive::new(bytes);
    let mut all = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let mut data = Vec::new();
        archive.read_to_end(&mut data)?;
        all.push((entry, data));
    }
    Ok(all)
}

#[test]
fn entries_and_bytes_come_out_as_put_in() {
    let bytes = archive(|tar| {
        tar.append_data(&mut header(::tar::EntryType::Regular, 5), "a/b", &b"hello"[..]).unwrap();
        tar.append_link(&mut header(::tar::EntryType::Symlink, 0), "s", "../x").unwrap();
    });
    let all = entries(&bytes).unwrap();
    let (file, data) = &all[0];
    assert_eq!((file.path.as_slice(), data.as_slice()), (&b"a/b"[..], &b"hello"[..]));
    assert_eq!((file.mode, file.uid, file.gid, file.mtime.seconds), (0o4755, 3_000_000, 7, 1_700_000_000));
    assert_eq!(all[1].0.kind, EntryKind::Symlink(b"../x".to_vec()));
}

#[test]
fn names_longer_than_a_header_come_through_gnu_and_pax() {
    let long = "d/".repeat(200) + "f";
    let gnu = archive(|tar| {
        tar.append_data(&mut header(::tar::EntryType::Regular, 1), &long, &b"x"[..]).unwrap();
        tar.append_link(&mut header(::tar::EntryType::Symlink, 0), "s", &long).unwrap();
    });
    let all = entries(&gnu).unwrap();
    assert_eq!(all[0].0.path, long.as_bytes());
    assert_eq!(all[1].0.kind, EntryKind::Symlink(long.clone().into_bytes()));
    let pax = archive(|tar| {
        tar.append_pax_extensions([("path", long.as_bytes()), ("size", b"3")]).unwrap();
        let mut short = header(::tar::EntryType::Regular, 3);
        short.set_path("short").unwrap();
        short.set_cksum();
        tar.append(&short, &b"abc"[..]).unwrap();
    });
    assert_eq!(entries(&pax).unwrap()[0].0.path, long.as_bytes());
}

#[test]
fn ustar_prefixes_join_the_name() {
    let mut ustar = ::tar::Header::new_ustar();
    let path = format!("{}/{}", "p".repeat(120), "n".repeat(90));
    ustar.set_path(&path).unwrap();
    ustar.set_size(0);
    ustar.set_cksum();
    let bytes = archive(|tar| tar.append(&ustar, &b""[..]).unwrap());
    assert_eq!(entries(&bytes).unwrap()[0].0.path, path.as_bytes());
}

#[test]
fn unread_bytes_are_passed_over() {
    let bytes = archive(|tar| {
        tar.append_data(&mut header(::tar::EntryType::Regular, 2000), "a", &[1; 2000][..]).unwrap();
        tar.append_data(&mut header(::tar::EntryType::Regular, 1), "b", &[2][..]).unwrap();
    });
    let mut archive = Archive::new(&bytes[..]);
    archive.next_entry().unwrap();
    archive.read_exact(&mut [0; 700]).unwrap();
    assert_eq!(archive.next_entry().unwrap().unwrap().path, b"b");
    assert_eq!(bytes[archive.data_offset() as usize], 2);
}

#[test]
fn an_archive_cut_anywhere_inside_an_entry_is_truncated() {
    let bytes = archive(|tar| {
        tar.append_data(&mut header(::tar::EntryType::Regular, 600), "a", &[1; 600][..]).unwrap();
    });
    for cut in [1, 511, 513, 1000, 1112, 1500] {
        let error = entries(&bytes[..cut]).unwrap_err();
        let truncated = matches!(&error, TarError::Truncated)
            || matches!(&error, TarError::Io(io) if io.kind() == io::ErrorKind::UnexpectedEof);
        assert!(truncated, "{cut}: {error:?}");
    }
    assert_eq!(entries(&bytes[..1536]).unwrap().len(), 1, "a missing end marker is what some tools write");
}

#[test]
fn data_after_the_end_is_refused() {
    let mut bytes = archive(|_| ());
    assert!(entries(&bytes).unwrap().is_empty());
    bytes.extend([0; 10240]);
    assert!(entries(&bytes).unwrap().is_empty());
    bytes.extend(b"PK");
    assert!(matches!(entries(&bytes), Err(TarError::TrailingData)));
}

#[test]
fn a_wrong_checksum_is_no_header() {
    let mut bytes =
        archive(|tar| tar.append_data(&mut header(::tar::EntryType::Regular, 0), "a", &b""[..]).unwrap());
    bytes[0] = b'b';
    assert!(matches!(entries(&bytes), Err(TarError::Header("wrong checksum"))));
}

#[test]
fn huge_extensions_are_refused_before_they_are_read() {
    let mut long = header(::tar::EntryType::GNULongName, 1 << 40);
    long.set_path("@LongLink").unwrap();
    long.set_cksum();
    let bytes = long.as_bytes().to_vec();
    assert!(matches!(entries(&bytes), Err(TarError::ExtensionTooLong(_))));
}

#[test]
fn sparse_and_unknown_entries_are_refused_by_name() {
    for (kind, word) in [(::tar::EntryType::GNUSparse, "sparse"), (::tar::EntryType::new(b'Q'), "'Q'")] {
        let mut odd = header(kind, 0);
        odd.set_path("x").unwrap();
        odd.set_cksum();
        let error = entries(odd.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn an_extension_of_nothing_is_truncated() {
    let bytes = archive(|tar| tar.append_pax_extensions([("path", &b"x"[..])]).unwrap());
    assert!(matches!(entries(&bytes), Err(TarError::Truncated)));
}
