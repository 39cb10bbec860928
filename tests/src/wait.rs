//! Waiting for what happens elsewhere, bounded, instead of sleeping.

use std::time::{Duration, Instant};

/// Long, because the test host is a machine in software that shares its processor.
pub const PATIENCE: Duration = Duration::from_secs(120);
const PACE: Duration = Duration::from_millis(20);

/// Asks again until there is an answer; panics naming `what` when there is none in time.
pub fn wait_for<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    ask_until(PATIENCE, ask).unwrap_or_else(|| panic!("waited {PATIENCE:?} in vain for {what}"))
}

/// Waits until the condition holds; panics naming it otherwise.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// Asks again until there is an answer or the time is over.
pub fn ask_until<T>(patience: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        match ask() {
            Some(answer) => return Some(answer),
            None if Instant::now() >= deadline => return None,
            None => std::thread::sleep(PACE),
        }
    }
}
