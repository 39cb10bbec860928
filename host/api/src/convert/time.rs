//! Points in time.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// `at` as a timestamp; a time before 1970 is 1970.
pub fn wire(at: SystemTime) -> Timestamp {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 }
}
