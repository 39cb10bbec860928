//! Progress of several things at once, on standard error: bars on a terminal, a line at each end elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::size::human;

/// How often the bars are drawn.
const INTERVAL: Duration = Duration::from_millis(100);
const WIDTH: u64 = 30;

/// The bars of one piece of work.
pub struct Bars {
    manner: Manner,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Quiet,
    Lines,
    Bars,
}

#[derive(Default)]
struct State {
    steps: Vec<Bar>,
    drawn_lines: usize,
    drawn_at: Option<Instant>,
}

struct Bar {
    name: String,
    done: u64,
    total: Option<u64>,
}

impl Bars {
    /// Bars where standard error is a terminal, and none at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let manner = match (quiet, io::stderr().is_terminal()) {
            (true, _) => Manner::Quiet,
            (false, true) => Manner::Bars,
            (false, false) => Manner::Lines,
        };
        Self { manner, state: Mutex::default() }
    }

    /// `done` of `total` bytes of `name` are behind us.
    pub fn set(&self, name: &str, done: u64, total: Option<u64>) {
        let Ok(mut state) = self.state.lock() else { return };
        let finished = total.is_some_and(|total| done >= total);
        let was_finished = match state.steps.iter_mut().find(|bar| bar.name == name) {
            Some(bar) => {
                let was = bar.total.is_some_and(|total| bar.done >= total);
                (bar.done, bar.total) = (done, total);
                was
            }
            None => {
                state.steps.push(Bar { name: name.to_owned(), done, total });
                false
            }
        };
        match self.manner {
            Manner::Quiet => {}
            Manner::Lines if finished && !was_finished => eprintln!("{name}: {}", human(done)),
            Manner::Lines => {}
            Manner::Bars => {
                let due = state.drawn_at.is_none_or(|at| at.elapsed() >= INTERVAL);
                if due || finished && !was_finished {
                    state.draw();
                }
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        if self.manner == Manner::Bars
            && let Ok(state) = self.state.get_mut()
        {
            state.draw();
        }
    }
}

impl State {
    fn draw(&mut self) {
        let up = if self.drawn_lines > 0 { format!("\x1b[{}A", self.drawn_lines) } else { String::new() };
        let lines: String = self.steps.iter().map(|bar| format!("{}\x1b[K\n", bar.line())).collect();
        // Nothing is lost if the terminal does not take it.
        let _ = io::stderr().write_all(format!("{up}{lines}").as_bytes());
        self.drawn_lines = self.steps.len();
        self.drawn_at = Some(Instant::now());
    }
}

impl Bar {
    fn line(&self) -> String {
        let Some(total) = self.total.filter(|total| *total > 0) else {
            return format!("{}: {}", self.name, human(self.done));
        };
        let filled = (self.done.min(total).saturating_mul(WIDTH) / total) as usize;
        let bar = format!("{:<width$}", "=".repeat(filled), width = WIDTH as usize);
        format!("{}: [{bar}] {}/{}", self.name, human(self.done), human(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills_as_bytes_arrive() {
        let line = |done, total| Bar { name: "x".into(), done, total }.line();
        assert_eq!(line(0, Some(1000)), format!("x: [{}] 0B/1kB", " ".repeat(30)));
        assert_eq!(line(500, Some(1000)), format!("x: [{}{}] 500B/1kB", "=".repeat(15), " ".repeat(15)));
        assert_eq!(line(2000, Some(1000)), format!("x: [{}] 2kB/1kB", "=".repeat(30)));
        assert_eq!(line(5, None), "x: 5B");
        assert_eq!(line(0, Some(0)), "x: 0B");
    }
}
