//! PAX records (`<length> <key>=<value>\n`): what they change of the entry that follows.

use crate::limits::XATTRS_MAX;
use crate::tree::{Time, Xattrs};

use super::TarError;

const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// What extension entries said about the next entry. Absent means: as in its header.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Extension {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Xattrs,
}

impl Extension {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes the records of one `x` entry. Keys that change nothing here (names of owners, access times) are ignored,
    /// and so is an empty value, which takes back what an archive's global header said.
    pub(super) fn merge_pax(&mut self, body: &[u8]) -> Result<(), TarError> {
        let mut rest = body;
        while !rest.is_empty() {
            let Record { key, value, after } = record(rest)?;
            rest = after;
            if value.is_empty() {
                continue;
            }
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(signed(value)? as u64),
                b"uid" => self.uid = Some(signed(value)?),
                b"gid" => self.gid = Some(signed(value)?),
                b"mtime" => self.mtime = Some(time(value)?),
                _ if key.starts_with(SPARSE_PREFIX) => {
                    return Err(TarError::Unsupported("sparse files (PAX)"));
                }
                _ => self.xattr(key, value)?,
            }
        }
        Ok(())
    }

    fn xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
            self.xattrs.insert(name.into(), value.into());
            let held: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            if held > XATTRS_MAX {
                return Err(TarError::Pax("extended attributes of more than 64 KiB"));
            }
        }
        Ok(())
    }
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    after: &'a [u8],
}

/// The first record and what follows it. The length counts itself, the blank and the newline.
fn record(body: &[u8]) -> Result<Record<'_>, TarError> {
    const BAD: TarError = TarError::Pax("malformed record");
    let blank = body.iter().take(20).position(|byte| *byte == b' ').ok_or(BAD)?;
    let length = usize::try_from(decimal(&body[..blank])?).map_err(|_| BAD)?;
    if length > body.len() || length <= blank + 1 {
        return Err(BAD);
    }
    let (record, after) = body.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n").ok_or(BAD)?;
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
    Ok(Record { key: &record[..equals], value: &record[equals + 1..], after })
}

fn decimal(digits: &[u8]) -> Result<u64, TarError> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(TarError::Pax("malformed number"))
}

/// A number that also fits the header's fields.
fn signed(digits: &[u8]) -> Result<i64, TarError> {
    decimal(digits)?.try_into().map_err(|_| TarError::Pax("number out of range"))
}

/// Seconds with an optional sign and fraction; digits below nanoseconds are dropped toward the past.
fn time(value: &[u8]) -> Result<Time, TarError> {
    const BILLION: u32 = 1_000_000_000;
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |rest| (true, rest));
    let mut parts = value.splitn(2, |byte| *byte == b'.');
    let seconds = signed(parts.next().unwrap_or_default())?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(TarError::Pax("malformed time"));
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, nanoseconds) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds: 0 },
        (true, nanoseconds) => Time { seconds: -seconds - 1, nanoseconds: BILLION - nanoseconds },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<Extension, TarError> {
        let mut extension = Extension::default();
        extension.merge_pax(body.as_bytes())?;
        Ok(extension)
    }

    #[test]
    fn records_are_counted_and_keyed() {
        let extension =
            parse("12 path=a/b\n30 mtime=1350244992.023960108\n22 SCHILY.xattr.u=\0=\n\n").unwrap();
        assert_eq!(extension.path.as_deref(), Some(&b"a/b"[..]));
        assert_eq!(extension.mtime, Some(Time { seconds: 1_350_244_992, nanoseconds: 23_960_108 }));
        assert_eq!(extension.xattrs.get(&b"u"[..]).map(|value| &**value), Some(&b"\0=\n"[..]));
    }

    #[test]
    fn times_before_1970_count_nanoseconds_forward() {
        assert_eq!(time(b"-1.5").unwrap(), Time { seconds: -2, nanoseconds: 500_000_000 });
        assert_eq!(time(b"-3").unwrap(), Time { seconds: -3, nanoseconds: 0 });
        assert_eq!(time(b"7.1234567899").unwrap(), Time { seconds: 7, nanoseconds: 123_456_789 });
        for bad in [&b"1e5"[..], b"", b"1.x", b"--1", b"99999999999999999999"] {
            assert!(time(bad).is_err());
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in
            ["x", "5 a=b", "3 a", "0 a=b\n", "99 a=b\n", "6 ab\n\n", "-6 a=b\n", "18446744073709551616 a=b\n"]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn sparse_files_are_refused_by_name() {
        assert!(matches!(parse("22 GNU.sparse.major=1\n"), Err(TarError::Unsupported(_))));
    }
}
