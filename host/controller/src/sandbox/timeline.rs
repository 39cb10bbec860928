//! Points in a sandbox's start, for whoever asks where the time went.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Named points since the keeper began; clones share them.
#[derive(Clone, Debug)]
pub struct Timeline {
    began: Instant,
    points: Arc<Mutex<Vec<(String, Duration)>>>,
}

impl Timeline {
    /// Begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now(), points: Arc::default() }
    }

    /// Notes that `name` was reached, the first time it is.
    pub fn mark(&self, name: &str) {
        self.note(name.to_owned(), self.began.elapsed());
    }

    /// Adds the guest's own points, on its own clock.
    pub fn add_guest(&self, phases: &[(String, Duration)]) {
        for (name, at) in phases {
            self.note(format!("guest:{name}"), *at);
        }
    }

    /// All points in the order in which they were noted.
    pub fn points(&self) -> Vec<(String, Duration)> {
        self.points.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, name: String, at: Duration) {
        let mut points = self.points.lock().unwrap_or_else(PoisonError::into_inner);
        if !points.iter().any(|(noted, _)| *noted == name) {
            points.push((name, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_time_counts() {
        let timeline = Timeline::begin();
        timeline.mark("task_created");
        let first = timeline.points();
        timeline.mark("task_created");
        assert_eq!(timeline.points(), first);
    }
}
