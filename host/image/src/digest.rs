//! Content digests: parsing them, and reading a stream while computing one.
//!
//! Only sha256 is known. Every registry and tool writes it, and an id of one fixed form makes a safe file name.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A sha256 digest, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

/// Why a text is no digest that this store can verify.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// Another algorithm than sha256.
    #[error("digest algorithm of {0:?} is not supported, only sha256 is")]
    Algorithm(String),
    /// Not 64 lower-case hex digits.
    #[error("{0:?} is not a sha256 digest of 64 lower-case hex digits")]
    Form(String),
}

impl Digest {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hex digits alone: a file name without separators.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let shown = || text.chars().take(100).collect::<String>();
        let digits = text.strip_prefix("sha256:").ok_or_else(|| DigestError::Algorithm(shown()))?;
        let mut bytes = [0; 32];
        if digits.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(digits, &mut bytes).is_err()
        {
            return Err(DigestError::Form(shown()));
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The chain id of layers: names what the layers give together, in their order (OCI image-spec, "Layer ChainID").
/// No layers at all have the digest of nothing.
pub fn chain_id(diff_ids: &[Digest]) -> Digest {
    let Some((first, rest)) = diff_ids.split_first() else { return Digest::of(b"") };
    rest.iter().fold(*first, |chain, diff_id| Digest::of(format!("{chain} {diff_id}").as_bytes()))
}

/// A digest of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Passes a stream on while hashing and counting what was read.
pub struct HashingReader<R> {
    inner: R,
    hasher: Hasher,
    count: u64,
}

impl<R: Read> HashingReader<R> {
    /// Starts hashing at the stream's current position.
    pub fn new(inner: R) -> Self {
        Self { inner, hasher: Hasher::default(), count: 0 }
    }

    /// Bytes read so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads what is left and gives the digest of the whole.
    pub fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((self.hasher.finish(), self.count))
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.count += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_as_written() {
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
    }

    #[test]
    fn what_could_be_a_path_or_another_algorithm_is_no_digest() {
        let sha512 = format!("sha512:{}", "0".repeat(128));
        assert!(matches!(sha512.parse::<Digest>(), Err(DigestError::Algorithm(_))));
        for text in [
            "sha256:../../../etc/passwd",
            "sha256:",
            &EMPTY[..70],
            &format!("{EMPTY}0"),
            &EMPTY.replace('e', "E"),
        ] {
            assert!(matches!(text.parse::<Digest>(), Err(DigestError::Form(_))), "{text}");
        }
    }

    #[test]
    fn the_chain_of_one_layer_is_the_layer() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(chain_id(&[a]), a);
        assert_eq!(chain_id(&[a, b]), Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_id(&[a, b]), chain_id(&[b, a]));
    }
}
