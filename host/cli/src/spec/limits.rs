//! `--ulimit`, `--cpus` and `--tmpfs`: the small grammars of limits.

use std::str::FromStr;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

/// The length of a scheduler period in microseconds, the kernel's default.
pub const CPU_PERIOD_US: u64 = 100_000;
/// As many as the VMM can have.
pub const MOST_CPUS: u32 = 32;

/// A limit that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// Not `name=soft[:hard]`.
    #[error("{0:?} is no limit: write name=soft[:hard], such as nofile=1024:4096, with -1 for unlimited")]
    Ulimit(String),
    /// No such limit.
    #[error(
        "unknown limit {0:?}: use as, core, cpu, data, fsize, locks, memlock, msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending or stack"
    )]
    UlimitName(String),
    /// The soft limit is above the hard one.
    #[error("{0:?}: the soft limit is above the hard one")]
    SoftAboveHard(String),
    /// Not a number of processors.
    #[error("{0:?} is no number of processors: use a number between 0.01 and {MOST_CPUS}, such as 2 or 0.5")]
    Cpus(String),
    /// Not a folder with options.
    #[error(
        "{0:?} is no tmpfs: write an absolute folder, then options if wanted, such as /tmp:size=64m,mode=1777"
    )]
    Tmpfs(String),
}

/// Reads `nofile=1024:4096`.
pub fn ulimit(text: &str) -> Result<PosixRlimit, LimitError> {
    let wrong = || LimitError::Ulimit(text.to_owned());
    let (name, values) = text.split_once('=').ok_or_else(wrong)?;
    let typ = PosixRlimitType::from_str(&format!("RLIMIT_{}", name.to_ascii_uppercase()))
        .map_err(|_| LimitError::UlimitName(name.to_owned()))?;
    let value = |value: &str| match value {
        "-1" | "unlimited" => Ok(u64::MAX),
        number => number.parse().map_err(|_| wrong()),
    };
    let (soft, hard) = match values.split_once(':') {
        Some((soft, hard)) => (value(soft)?, value(hard)?),
        None => (value(values)?, value(values)?),
    };
    if soft > hard {
        return Err(LimitError::SoftAboveHard(text.to_owned()));
    }
    PosixRlimitBuilder::default().typ(typ).soft(soft).hard(hard).build().map_err(|_| wrong())
}

/// What `--cpus` asks for: whole virtual processors, and a quota when a part of them is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpus {
    /// Virtual processors of the VM.
    pub vcpus: u32,
    /// Microseconds of processor time in each period; `None` for all of them.
    pub quota_us: Option<i64>,
}

impl FromStr for Cpus {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let wrong = || LimitError::Cpus(text.to_owned());
        let number: f64 = text.parse().map_err(|_| wrong())?;
        if !(0.01..=f64::from(MOST_CPUS)).contains(&number) {
            return Err(wrong());
        }
        let vcpus = number.ceil();
        let quota_us = (number < vcpus).then_some((number * CPU_PERIOD_US as f64).round() as i64);
        Ok(Self { vcpus: vcpus as u32, quota_us })
    }
}

/// A tmpfs wanted in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Where.
    pub path: String,
    /// Mount options.
    pub options: Vec<String>,
}

impl FromStr for Tmpfs {
    type Err = LimitError;

    fn from_str(text: &str) -> Result<Self, LimitError> {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        if !path.starts_with('/') || path == "/" || path.split('/').any(|part| part == "..") {
            return Err(LimitError::Tmpfs(text.to_owned()));
        }
        let given: Vec<String> =
            options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let says = |name: &str| given.iter().any(|option| option == name);
        let mut all: Vec<String> = [("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")]
            .iter()
            .filter(|(safe, unsafe_one)| !says(safe) && !says(unsafe_one))
            .map(|(safe, _)| (*safe).to_owned())
            .collect();
        all.extend(given);
        Ok(Self { path: path.to_owned(), options: all })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_have_a_soft_and_a_hard_value() {
        let of = |text| ulimit(text).map(|limit| (limit.typ(), limit.soft(), limit.hard()));
        assert_eq!(of("nofile=1024:4096"), Ok((PosixRlimitType::RlimitNofile, 1024, 4096)));
        assert_eq!(of("core=0"), Ok((PosixRlimitType::RlimitCore, 0, 0)));
        assert_eq!(of("memlock=-1"), Ok((PosixRlimitType::RlimitMemlock, u64::MAX, u64::MAX)));
        assert_eq!(of("nofile"), Err(LimitError::Ulimit("nofile".into())));
        assert_eq!(of("nofile=x"), Err(LimitError::Ulimit("nofile=x".into())));
        assert_eq!(of("wings=2"), Err(LimitError::UlimitName("wings".into())));
        assert_eq!(of("nofile=2:1"), Err(LimitError::SoftAboveHard("nofile=2:1".into())));
    }

    #[test]
    fn a_part_of_a_processor_is_a_quota_on_whole_ones() {
        for (text, vcpus, quota_us) in [
            ("1", 1, None),
            ("2.0", 2, None),
            ("0.5", 1, Some(50_000)),
            ("1.25", 2, Some(125_000)),
            ("32", 32, None),
        ] {
            assert_eq!(text.parse(), Ok(Cpus { vcpus, quota_us }), "{text}");
        }
        for text in ["0", "-1", "33", "many", "nan", "1e9", ""] {
            assert_eq!(text.parse::<Cpus>(), Err(LimitError::Cpus(text.into())), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_is_restrictive_unless_told_otherwise() {
        let of = |text: &str| text.parse::<Tmpfs>().map(|tmpfs| (tmpfs.path, tmpfs.options.join(",")));
        assert_eq!(of("/tmp"), Ok(("/tmp".into(), "nosuid,nodev,noexec".into())));
        assert_eq!(of("/a:exec,size=64m"), Ok(("/a".into(), "nosuid,nodev,exec,size=64m".into())));
        for text in ["tmp", "/", "", "/a/../b", ":size=1m"] {
            assert_eq!(of(text), Err(LimitError::Tmpfs(text.into())), "{text}");
        }
    }
}
