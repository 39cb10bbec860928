//! Timing: the median of a few runs after one that warms the page cache.

use std::process::{Command, Output};
use std::time::Instant;

use anyhow::{Context, Result, bail};

const RUNS: usize = 3;

/// Median seconds of `run`, after one run that is not counted.
pub fn median(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    run()?;
    let mut seconds = (0..RUNS).map(|_| run()).collect::<Result<Vec<_>>>()?;
    seconds.sort_by(f64::total_cmp);
    Ok(round(seconds[RUNS / 2]))
}

/// Seconds from starting `command` to its end; anything but success is an error that shows what it printed.
pub fn time(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    output(command)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// Runs `command` to its end; anything but success is an error that shows what it printed.
pub fn output(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("failed to start {command:?}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}: {}", output.status, text.trim());
    }
    Ok(output)
}

/// To a tenth of a millisecond: finer digits mean nothing.
pub fn round(seconds: f64) -> f64 {
    (seconds * 1e4).round() / 1e4
}
