//! Jobs for test hosts, run two at a time, for a test host uses one of this machine's CPUs.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::tally::{Counter, Tally};
use crate::testbed::{self, Job};

/// Runs each job in a test host of its own and counts what their runners say. Two lanes take the next job when they have ended
/// one; what the second lane's jobs print is shown when the first has nothing more to do.
pub fn run(jobs: Vec<Job>) -> Result<Tally> {
    testbed::prepare()?;
    let queue = Mutex::new(VecDeque::from(jobs));
    let later = Spool::default();
    let mut tally = thread::scope(|scope| {
        let second = scope.spawn(|| lane(&queue, || later.clone()));
        let mut tally = lane(&queue, io::stdout);
        tally += second.join().unwrap_or_else(|_| Tally::failure());
        tally
    });
    io::stdout().write_all(&later.take()).unwrap_or_else(|_| tally += Tally::failure());
    Ok(tally)
}

fn lane<W: Write + Send + 'static>(queue: &Mutex<VecDeque<Job>>, onward: impl Fn() -> W) -> Tally {
    let mut tally = Tally::default();
    loop {
        let Some(job) = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front() else {
            return tally;
        };
        let counter = Counter::new(onward());
        tally += match testbed::execute_into(&job, counter.clone()) {
            Ok(code) => counter.tally().ended(code == 0),
            Err(error) => {
                eprintln!("xtask: {error:#}");
                Tally::failure()
            }
        };
    }
}

/// Keeps what is written until it is taken. Clones share it.
#[derive(Clone, Default)]
struct Spool(Arc<Mutex<Vec<u8>>>);

impl Spool {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
