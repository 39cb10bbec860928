//! A program on a terminal, as a person at a keyboard sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::unistd::ttyname;

use crate::invocation;
use crate::wait::{PATIENCE, ask_until};

const SIZE: Winsize = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };

/// A running program and the terminal it runs on. Dropped, the program is killed.
pub struct Pty {
    keyboard: File,
    screen: Arc<Screen>,
    terminal: PathBuf,
    child: Child,
}

/// Everything that was shown, and whether more can come.
#[derive(Default)]
struct Screen {
    shown: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Pty {
    /// Starts a program in a session of its own with a terminal of 80 columns and 24 rows.
    pub fn start(program: &Command) -> Self {
        let pair = openpty(Some(&SIZE), None).expect("failed to open a terminal");
        let terminal = ttyname(&pair.slave).expect("a terminal has a name");
        // setsid makes the terminal that is its stdin the controlling one.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        for (name, value) in program.get_envs() {
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        let clone = || pair.slave.try_clone().expect("failed to clone a descriptor");
        command.stdin(clone()).stdout(clone()).stderr(clone());
        let child = command.spawn().expect("failed to start setsid");
        drop((command, pair.slave));

        let keyboard = File::from(pair.master);
        let screen = Arc::new(Screen::default());
        let watched = keyboard.try_clone().expect("failed to clone a descriptor");
        std::thread::spawn({
            let screen = Arc::clone(&screen);
            move || watch(watched, &screen)
        });
        Self { keyboard, screen, terminal, child }
    }

    /// Types this.
    pub fn send(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("failed to type");
    }

    /// Waits until the screen has shown this, and forgets what came up to its end. Gives what came before it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (shown, ended) = &mut *state;
            if let Some(at) = shown.windows(text.len()).position(|window| window == text.as_bytes()) {
                let before = shown.drain(..at + text.len()).take(at).collect::<Vec<_>>();
                return String::from_utf8_lossy(&before).into_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if *ended || left.is_zero() {
                let why = if *ended { "it ended" } else { "time is over" };
                panic!(
                    "the terminal never showed {text:?} ({why}); it showed {:?}",
                    String::from_utf8_lossy(shown)
                );
            }
            state = self.screen.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives the terminal another size, which its foreground processes are told by SIGWINCH.
    pub fn resize(&self, columns: u16, rows: u16) {
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.terminal);
        stty.args(["cols", &columns.to_string(), "rows", &rows.to_string()]);
        assert!(stty.status().expect("failed to start stty").success(), "failed to resize the terminal");
    }

    /// The terminal's settings as `stty -g` writes them: to compare before and after.
    pub fn settings(&self) -> String {
        let settings = Command::new("stty").arg("-g").arg("-F").arg(&self.terminal).output();
        String::from_utf8_lossy(&settings.expect("failed to start stty").stdout).into_owned()
    }

    /// Waits for the program's end and gives its exit code.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let status = ask_until(PATIENCE, || self.child.try_wait().expect("failed to wait for a child"));
        match status {
            Some(status) => invocation::code(status),
            None => panic!("the program on the terminal did not end in {PATIENCE:?}"),
        }
    }

    /// What was shown and not yet expected, once nothing more has come for a moment.
    pub fn rest(&self) -> String {
        let mut state = self.screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let moment = Duration::from_millis(300);
            let (next, timeout) =
                self.screen.changed.wait_timeout(state, moment).unwrap_or_else(PoisonError::into_inner);
            state = next;
            if state.1 || timeout.timed_out() {
                return String::from_utf8_lossy(&state.0).into_owned();
            }
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn watch(mut terminal: File, screen: &Screen) {
    let mut chunk = [0; 4096];
    loop {
        let read = terminal.read(&mut chunk);
        let mut state = screen.shown.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(count) if count > 0 => state.0.extend_from_slice(&chunk[..count]),
            // The other side was closed by its last user: EIO on Linux.
            _ => state.1 = true,
        }
        let ended = state.1;
        drop(state);
        screen.changed.notify_all();
        if ended {
            return;
        }
    }
}
