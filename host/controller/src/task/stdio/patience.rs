//! How long the output of a process that has ended is waited for.
//!
//! Whoever waits for the exit finds all output written, so as little as possible is ever given up: a reader that is there may
//! take its time, and so may a guest that gets no processor. What nobody can be sure of has a bound: that a reader which comes
//! and goes comes again, and that something which outlives the process and has inherited its output ever closes it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Readers;

/// How far the end of a process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// It has ended.
    pub ended: bool,
    /// The guest has said so of its output too: what still comes is somebody else's, or in the last few buffers.
    pub written: bool,
    /// It was killed: whoever did that does not want to wait for a reader.
    pub unwanted: bool,
}

/// Bounds, each of which counts from the last byte.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With a guest that is silent, once it has told that everything is written.
    pub lingering: Duration,
    /// With a guest that is silent and does not tell that.
    pub untold: Duration,
    /// With a reader who comes and goes.
    pub absent: Duration,
    /// With a reader who is there and does not read, once the process was killed.
    pub unwanted: Duration,
}

/// What output is given.
pub const PATIENCE: Patience = Patience {
    lingering: Duration::from_secs(2),
    untold: Duration::from_secs(60),
    absent: Duration::from_secs(30),
    unwanted: Duration::from_secs(10),
};

impl Patience {
    /// How long the guest may be silent. While the process lives: for ever.
    pub fn with_guest(&self, progress: Progress) -> Option<Duration> {
        match progress {
            Progress { ended: false, .. } => None,
            Progress { written: true, .. } => Some(self.lingering),
            Progress { written: false, .. } => Some(self.untold),
        }
    }

    /// How long a reader may take no byte. While the process lives, it waits with it. One that is there and leaves is noticed.
    pub fn with_reader(&self, readers: Readers, progress: Progress) -> Option<Duration> {
        match (readers, progress) {
            (_, Progress { ended: false, .. }) => None,
            (Readers::ComeAndGo, _) => Some(self.absent),
            (Readers::AreThere, Progress { unwanted: true, .. }) => Some(self.unwanted),
            (Readers::AreThere, _) => None,
        }
    }
}

/// A process's end as its output sees it come.
pub struct Progressing {
    /// The bounds.
    pub patience: Patience,
    /// How far it is.
    pub progress: watch::Receiver<Progress>,
}

impl Progressing {
    /// Answers when the guest has been silent for too long.
    pub async fn lost_guest(&mut self) {
        let patience = self.patience;
        self.over(|progress| patience.with_guest(progress)).await
    }

    /// Answers when a reader has not read for too long.
    pub async fn lost_reader(&mut self, readers: Readers) {
        let patience = self.patience;
        self.over(|progress| patience.with_reader(readers, progress)).await
    }

    /// Answers when the limit of the present progress is over, counted from now or from the last progress.
    async fn over(&mut self, limit: impl Fn(Progress) -> Option<Duration>) {
        loop {
            let limit = limit(*self.progress.borrow_and_update());
            let passed = async {
                match limit {
                    Some(limit) => sleep(limit).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = passed => return,
                changed = self.progress.changed() => if changed.is_err() {
                    // Nobody is left to tell: nobody waits for the output either, and its pump is stopped.
                    std::future::pending().await
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const ALIVE: Progress = Progress { ended: false, written: false, unwanted: false };
    const ENDED: Progress = Progress { ended: true, ..ALIVE };

    #[test]
    fn nothing_is_given_up_while_the_process_lives() {
        for progress in [ALIVE, Progress { unwanted: true, ..ALIVE }] {
            assert_eq!(PATIENCE.with_guest(progress), None);
            assert_eq!(PATIENCE.with_reader(Readers::ComeAndGo, progress), None);
            assert_eq!(PATIENCE.with_reader(Readers::AreThere, progress), None);
        }
    }

    #[test]
    fn a_reader_that_is_there_is_given_up_only_with_a_process_that_was_killed() {
        assert_eq!(PATIENCE.with_reader(Readers::AreThere, ENDED), None);
        let killed = Progress { unwanted: true, ..ENDED };
        assert_eq!(PATIENCE.with_reader(Readers::AreThere, killed), Some(PATIENCE.unwanted));
        for progress in [ENDED, killed] {
            assert_eq!(PATIENCE.with_reader(Readers::ComeAndGo, progress), Some(PATIENCE.absent));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_counts_anew_with_each_progress() {
        let (progress, seen) = watch::channel(ALIVE);
        let mut end = Progressing { patience: PATIENCE, progress: seen };
        let begun = Instant::now();
        let happens = async {
            tokio::time::sleep(Duration::from_secs(1000)).await;
            progress.send_replace(ENDED);
            tokio::time::sleep(Duration::from_secs(50)).await;
            progress.send_replace(Progress { written: true, ..ENDED });
        };
        tokio::join!(end.lost_guest(), happens);
        assert_eq!(begun.elapsed(), Duration::from_secs(1050) + PATIENCE.lingering);
    }
}
