//! What all containers of a sandbox together may use of its VM: limits of the cgroup in the guest that they are all in. They can
//! change while the VM runs, which itself stays as large as it booted.

use serde::{Deserialize, Serialize};
use serde_json::json;

/// The period of a quota that names none.
pub const DEFAULT_PERIOD_US: u64 = 100_000;
/// Periods that the kernel takes.
const PERIODS_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The least processor time in a period that the kernel takes.
const LEAST_QUOTA_US: u64 = 1_000;

/// What containers may use; `None`: all that the VM has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowance {
    /// Processor time.
    pub cpu: Option<CpuQuota>,
    /// Memory.
    pub memory_bytes: Option<u64>,
}

/// Processor time in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuQuota {
    /// Of all processors together, in microseconds.
    pub quota_us: u64,
    /// In microseconds.
    pub period_us: u64,
}

/// A quota that the kernel does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a quota of {quota_us} µs in a period of {period_us} µs is not possible: a period has {} to {} µs and a quota at least \
     {LEAST_QUOTA_US}",
    PERIODS_US.start(),
    PERIODS_US.end()
)]
pub struct ImpossibleQuota {
    quota_us: u64,
    period_us: u64,
}

impl CpuQuota {
    /// A quota that the kernel takes.
    pub fn new(quota_us: u64, period_us: u64) -> Result<Self, ImpossibleQuota> {
        match PERIODS_US.contains(&period_us) && quota_us >= LEAST_QUOTA_US {
            true => Ok(Self { quota_us, period_us }),
            false => Err(ImpossibleQuota { quota_us, period_us }),
        }
    }

    /// So many whole processors.
    pub fn of_processors(count: u32) -> Self {
        Self { quota_us: u64::from(count).saturating_mul(DEFAULT_PERIOD_US), period_us: DEFAULT_PERIOD_US }
    }

    /// Thousandths of a processor, rounded up.
    pub fn millis(self) -> u64 {
        self.quota_us.saturating_mul(1000).div_ceil(self.period_us.max(1))
    }

    /// `None` where it is no less than so many processors have.
    pub fn within(self, processors: u32) -> Option<Self> {
        (self.millis() < u64::from(processors) * 1000).then_some(self)
    }
}

impl Allowance {
    /// Whether it leaves everything to the containers.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// An OCI `LinuxResources` as JSON that sets all of it, the absence of a limit too.
    pub fn to_oci(&self) -> Vec<u8> {
        let cpu = match self.cpu {
            Some(CpuQuota { quota_us, period_us }) => json!({ "quota": quota_us, "period": period_us }),
            None => json!({ "quota": -1 }),
        };
        let memory = self.memory_bytes.map_or_else(|| json!(-1), |bytes| json!(bytes));
        json!({ "cpu": cpu, "memory": { "limit": memory } }).to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_goes_is_said_as_one_that_comes() {
        let said = |allowance: Allowance| String::from_utf8(allowance.to_oci()).unwrap();
        assert_eq!(said(Allowance::default()), r#"{"cpu":{"quota":-1},"memory":{"limit":-1}}"#);
        let cpu = Some(CpuQuota::new(150_000, 100_000).unwrap());
        let some = Allowance { cpu, memory_bytes: Some(1 << 20) };
        assert_eq!(said(some), r#"{"cpu":{"period":100000,"quota":150000},"memory":{"limit":1048576}}"#);
    }

    #[test]
    fn a_quota_counts_while_it_is_less_than_the_processors() {
        let quota = CpuQuota::new(150_000, 100_000).unwrap();
        assert_eq!((quota.millis(), quota.within(2), quota.within(1)), (1500, Some(quota), None));
        assert_eq!(CpuQuota::of_processors(2).within(2), None);
        assert_eq!(CpuQuota { quota_us: u64::MAX, period_us: 1 }.within(u32::MAX), None);
    }

    #[test]
    fn what_the_kernel_does_not_take_is_told_with_its_bounds() {
        for (quota, period) in [(1, 100_000), (50_000, 999), (50_000, 1_000_001), (0, 0)] {
            let error = CpuQuota::new(quota, period).unwrap_err().to_string();
            assert!(error.contains("1000 to 1000000 µs and a quota at least 1000"), "{error}");
        }
    }
}
