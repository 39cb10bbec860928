//! Finds out by their first bytes how layers are compressed. Media types cannot be relied on: docker-archives have
//! none, and tools got them wrong.

use std::io::{self, BufReader, Cursor, Read};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BUFFER: usize = 128 << 10;

/// The uncompressed stream of a gzip, zstd or plain one. Several gzip members or zstd frames in a row are one stream.
pub fn decompress<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::with_capacity(ZSTD.len());
    stream.by_ref().take(ZSTD.len() as u64).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&GZIP);
    let zstd = magic == ZSTD;
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic).chain(stream));
    Ok(if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn plain(stream: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(stream).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn all_three_forms_are_recognised() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"hello").unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(plain(&gzip), b"hello");
        assert_eq!(plain(&[gzip.clone(), gzip].concat()), b"hellohello");
        let zstd = zstd::encode_all(&b"hello"[..], 1).unwrap();
        assert_eq!(plain(&[zstd.clone(), zstd].concat()), b"hellohello");
        assert_eq!(plain(b"hello"), b"hello");
        assert_eq!(plain(b""), b"");
        assert_eq!(plain(b"h"), b"h");
    }
}
