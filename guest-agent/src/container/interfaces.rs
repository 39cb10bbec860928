//! The network interfaces that a container sees, with their counters.
//!
//! `/proc/PID/net` is gone as soon as the process has ended, zombie or not. A file below it that was opened before keeps the
//! namespace, and with it the counters, as long as it is open.

use std::fs::File;
use std::io::{self, Read, Seek};

/// What these counters are called among those of a cgroup, whose files have no slash in their names.
pub const FILE: &str = "net/dev";

/// More is cut off, after a whole line: a container may make interfaces as it likes.
const LARGEST: u64 = 64 << 10;

/// The interfaces of one network namespace.
#[derive(Debug)]
pub struct Interfaces(File);

impl Interfaces {
    /// Those of a process, by its folder in /proc: a pid or `self`.
    pub fn of(process: impl std::fmt::Display) -> io::Result<Self> {
        File::open(format!("/proc/{process}/net/dev")).map(Self)
    }

    /// As they are now, a line for each below two lines of titles.
    pub fn read(&self) -> io::Result<String> {
        let mut file = &self.0;
        file.rewind()?;
        whole_lines(file)
    }
}

fn whole_lines(file: impl Read) -> io::Result<String> {
    let mut text = Vec::new();
    file.take(LARGEST).read_to_end(&mut text)?;
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    // A name is any bytes that the container likes.
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// Of loopback: bytes received.
    fn received(text: &str) -> u64 {
        let loopback = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:")).unwrap();
        loopback.split_ascii_whitespace().next().unwrap().parse().unwrap()
    }

    #[test]
    fn an_open_file_tells_the_counters_of_the_moment() {
        let interfaces = Interfaces::of("self").unwrap();
        let before = received(&interfaces.read().unwrap());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
        assert!(received(&interfaces.read().unwrap()) >= before + 1000);
    }

    #[test]
    fn what_is_too_much_ends_with_a_whole_line() {
        let line = b"   lo: 1 2 \xff\n";
        let text = whole_lines(line.repeat(10_000).as_slice()).unwrap();
        assert_eq!(text.lines().count(), LARGEST as usize / line.len());
        assert!(text.ends_with("\u{fffd}\n"));
        assert_eq!(whole_lines(&b"no end"[..]).unwrap(), "");
    }
}
