//! Long work on images: on a thread of its own, with progress on standard error, and stopped by signals without a trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, anyhow};
use theca_image::{Progress, Step};

use crate::error::StartError;
use crate::output::progress::Bars;
use crate::stdio::Signals;

/// Passes what the image crate tells to the bars, and a signal to the image crate.
struct Watched {
    bars: Bars,
    cancelled: Arc<AtomicBool>,
}

impl Progress for Watched {
    fn advanced(&self, step: Step, done: u64, total: Option<u64>) {
        let (what, digest) = match step {
            Step::Fetch(digest) => ("fetch", digest),
            Step::Unpack(digest) => ("unpack", digest),
            Step::Write(digest) => ("write", digest),
        };
        self.bars.set(&format!("{} {what}", &digest.hex()[..12]), done, total);
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// Does `job`, which asks its progress now and then whether to stop.
pub async fn watched<T: Send + 'static>(
    quiet: bool,
    job: impl FnOnce(&dyn Progress) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let mut signals = Signals::catch()?;
    let cancelled = Arc::new(AtomicBool::new(false));
    let progress = Watched { bars: Bars::new(quiet), cancelled: Arc::clone(&cancelled) };
    let mut work = tokio::task::spawn_blocking(move || job(&progress));
    let signal = tokio::select! {
        done = &mut work => return done.context("the work on the image broke off")?,
        signal = signals.next_end() => signal,
    };
    cancelled.store(true, Ordering::Relaxed);
    match work.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(StartError::Interrupted(signal).into()),
        Err(error) => Err(anyhow!(error).context("the work on the image broke off")),
    }
}
