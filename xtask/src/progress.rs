//! Long steps say that they are alive.
//!
//! On a terminal: one line with the time that passed, rewritten every half second. Elsewhere (CI): a line at the start,
//! one every 20 seconds, one at the end. All of it on stderr, so that stdout stays the command's own.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;

const REDRAW: Duration = Duration::from_millis(500);
const HEARTBEAT: Duration = Duration::from_secs(20);
/// Steps shorter than this leave no closing line behind in a log.
const WORTH_SAYING: Duration = Duration::from_secs(2);

/// Runs `work` under the title `title` and reports how long it took.
pub fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let terminal = std::io::stderr().is_terminal();
    let started = Instant::now();
    let (finished, ticks) = mpsc::channel::<()>();
    let ticker = std::thread::spawn({
        let title = title.to_owned();
        move || tick(&title, terminal, started, &ticks)
    });
    let result = work();
    drop(finished);
    // The ticker only prints; if it died there is nothing to save.
    let _ = ticker.join();

    let elapsed = started.elapsed();
    let clear = if terminal { "\r\x1b[K" } else { "" };
    match &result {
        Ok(_) if terminal || elapsed > WORTH_SAYING => {
            eprintln!("{clear}  {title}: done in {:.1} s", elapsed.as_secs_f64());
        }
        Ok(_) => {}
        Err(_) => eprintln!("{clear}  {title}: failed after {:.1} s", elapsed.as_secs_f64()),
    }
    result
}

fn tick(title: &str, terminal: bool, started: Instant, ticks: &mpsc::Receiver<()>) {
    if !terminal {
        eprintln!("  {title} …");
    }
    let pace = if terminal { REDRAW } else { HEARTBEAT };
    loop {
        if terminal {
            eprint!("\r\x1b[K  {title} … {} s", started.elapsed().as_secs());
            let _ = std::io::stderr().flush();
        }
        match ticks.recv_timeout(pace) {
            Err(RecvTimeoutError::Timeout) if !terminal => {
                eprintln!("  {title} … {} s", started.elapsed().as_secs());
            }
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}
