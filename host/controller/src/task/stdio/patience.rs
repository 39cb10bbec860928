//! How long the output of a process that has ended is waited for.
//!
//! Whoever waits for the exit finds all output written, so as little as possible is ever given up: a reader that is there may
//! take its time, and so may a guest that gets no processor. What nobody can be sure of has a bound: that a reader which comes
//! and goes comes again, and that something which outlives the process and has inherited its output ever closes it, or is
//! silent: what it writes gains it no time.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

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

/// Bounds. Those of readers count from the last byte.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// With a guest that has told that everything is written, from then on. What readers take does not count.
    pub lingering: Duration,
    /// With a guest that is silent and does not tell that, from the last byte.
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

/// More than a process can have under way when it ends: in its pipe, in the agent, in the VM's connection and in its socket. What
/// comes beyond that is somebody else's.
const UNDER_WAY: usize = 4 << 20;

impl Patience {
    /// How long the guest is waited for. While the process lives: for ever.
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
    patience: Patience,
    progress: watch::Receiver<Progress>,
    /// Since when it has been known to have ended.
    ended: Option<Instant>,
    /// Since when all has been known to be written; later by what readers have taken since.
    written: Option<Instant>,
    /// Bytes that have come since it ended.
    late: usize,
}

impl Progressing {
    /// Of a process that `progress` tells of.
    pub fn new(patience: Patience, progress: watch::Receiver<Progress>) -> Self {
        Self { patience, progress, ended: None, written: None, late: 0 }
    }

    /// Answers when the guest has been waited for long enough.
    pub async fn lost_guest(&mut self) {
        loop {
            let progress = self.look();
            let limit = self.patience.with_guest(progress);
            // While nobody knows whether there is more, each byte says that there may be.
            let from = self.written.unwrap_or_else(Instant::now);
            if self.over(limit.map(|limit| from + limit)).await {
                return;
            }
        }
    }

    /// Answers when a reader has not read for too long, counted from now or from the last progress.
    pub async fn lost_reader(&mut self, readers: Readers) {
        loop {
            let limit = self.patience.with_reader(readers, *self.progress.borrow_and_update());
            if self.over(limit.map(|limit| Instant::now() + limit)).await {
                return;
            }
        }
    }

    /// `bytes` have come, and it took so long to hand them out. Whether the process's own may be among what comes next: something
    /// else need not ever be silent.
    pub fn handed_out(&mut self, bytes: usize, took: Duration) -> bool {
        if let Some(written) = &mut self.written {
            *written += took;
        }
        let progress = self.look();
        let limit = self.patience.with_guest(progress);
        let (Some(limit), Some(ended)) = (limit, self.ended) else { return true };
        self.late = self.late.saturating_add(bytes);
        self.late <= UNDER_WAY || ended.elapsed() < limit
    }

    /// How far it is, and since when.
    fn look(&mut self) -> Progress {
        let progress = *self.progress.borrow_and_update();
        if progress.ended {
            self.ended.get_or_insert_with(Instant::now);
        }
        if progress.ended && progress.written {
            self.written.get_or_insert_with(Instant::now);
        }
        progress
    }

    /// Whether `end` comes before the next progress.
    async fn over(&mut self, end: Option<Instant>) -> bool {
        let passed = async {
            match end {
                Some(end) => sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = passed => true,
            changed = self.progress.changed() => match changed {
                Ok(()) => false,
                // Nobody is left to tell: nobody waits for the output either, and its pump is stopped.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

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
        let mut end = Progressing::new(PATIENCE, seen);
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
    #[tokio::test(start_paused = true)]
    async fn what_still_comes_when_all_is_written_gains_no_time_but_what_readers_take_does() {
        let (_progress, seen) = watch::channel(Progress { written: true, ..ENDED });
        let mut end = Progressing::new(PATIENCE, seen);
        let begun = Instant::now();
        let (silence, reading) = (Duration::from_millis(500), Duration::from_secs(3600));
        for turn in 0..3 {
            assert!(timeout(silence, end.lost_guest()).await.is_err(), "after {turn} turns");
            tokio::time::sleep(reading).await;
            assert!(end.handed_out(1, reading));
        }
        end.lost_guest().await;
        assert_eq!(begun.elapsed(), 3 * reading + PATIENCE.lingering);
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_can_be_under_way_is_not_the_process_s_own() {
        for (progress, limit) in
            [(ENDED, PATIENCE.untold), (Progress { written: true, ..ENDED }, PATIENCE.lingering)]
        {
            let (_progress, seen) = watch::channel(progress);
            let mut end = Progressing::new(PATIENCE, seen);
            assert!(end.handed_out(UNDER_WAY, Duration::ZERO));
            tokio::time::sleep(limit).await;
            assert!(end.handed_out(0, Duration::ZERO), "a guest may be slow with what is its own");
            assert!(!end.handed_out(1, Duration::ZERO));
        }
        let (_progress, seen) = watch::channel(ALIVE);
        let mut end = Progressing::new(PATIENCE, seen);
        assert!(end.handed_out(2 * UNDER_WAY, Duration::ZERO));
        tokio::time::sleep(2 * PATIENCE.untold).await;
        assert!(end.handed_out(1, Duration::ZERO), "it lives");
    }
}
