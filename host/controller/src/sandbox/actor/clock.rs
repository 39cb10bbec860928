//! The guest's wall clock. Nothing in the guest sets it, so what the host's clock is told, and the time in which a VM stood still,
//! would never reach it: it is looked at each minute and after a pause, and set where it is wrong.

use std::time::{Duration, SystemTime};

use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::{Actor, Event};
use crate::agent::Agent;

/// Between two looks. The clock of a guest that has just booted is right.
const EVERY: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(60) };
/// A clock that is no further off is left alone: programs do not like steps.
const TOLERANCE: Duration = Duration::from_millis(200);
/// A guest that does not answer for so long has other problems.
const PATIENCE: Duration = Duration::from_secs(5);

impl Actor {
    /// Looks at the clock in a while.
    pub(super) fn clock_later(&mut self) {
        self.events.spawn(async {
            sleep(EVERY).await;
            Event::ClockDue
        });
    }

    /// Looks at the clock, if the guest can be asked.
    pub(super) fn look_at_clock(&mut self) {
        if let Some(agent) = self.agent() {
            self.events.spawn(async move {
                set_right(&*agent).await;
                Event::Answered
            });
        }
        self.clock_later();
    }
}

/// Sets the guest's clock if it is wrong. A guest that is not to be reached keeps its own.
pub(super) async fn set_right(agent: &dyn Agent) {
    let look = async {
        let before = SystemTime::now();
        let guest = agent.info().await?.clock;
        if guest.is_some_and(|guest| is_wrong(guest, before, SystemTime::now())) {
            agent.set_clock(SystemTime::now()).await?;
            info!("the guest's clock was wrong and is set");
        }
        Ok(())
    };
    match timeout(PATIENCE, look).await {
        Ok(Ok(())) => {}
        Ok(Err::<(), crate::agent::AgentError>(error)) => debug!(%error, "the guest's clock is not known"),
        Err(_) => debug!("the guest does not tell its clock"),
    }
}

/// Whether a clock is wrong that was read some time between two moments.
fn is_wrong(guest: SystemTime, before: SystemTime, after: SystemTime) -> bool {
    let behind = before.duration_since(guest).unwrap_or_default();
    let ahead = guest.duration_since(after).unwrap_or_default();
    behind > TOLERANCE || ahead > TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_wrong_if_no_moment_of_the_look_explains_it() {
        let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let after = before + Duration::from_secs(3);
        let wrong = |guest| is_wrong(guest, before, after);
        assert!(!wrong(before) && !wrong(after) && !wrong(before - TOLERANCE) && !wrong(after + TOLERANCE));
        let more = TOLERANCE + Duration::from_millis(1);
        assert!(wrong(before - more) && wrong(after + more) && wrong(SystemTime::UNIX_EPOCH));
    }
}
