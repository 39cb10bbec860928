//! Signals by name or number: `KILL`, `SIGKILL`, `9`, `SIGRTMIN+3`.

use nix::sys::signal::Signal;

/// The first real-time signal for programs; the C library keeps two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// A text that names no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown signal {0:?}: use a name such as TERM or a number from 1 to {RTMAX}")]
pub struct UnknownSignal(String);

/// The number of a signal.
pub fn parse(text: &str) -> Result<i32, UnknownSignal> {
    let upper = text.to_ascii_uppercase();
    let unknown = || UnknownSignal(text.to_owned());
    let number = if let Ok(number) = upper.parse::<i32>() {
        number
    } else {
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
            (Some(""), _) => RTMIN,
            (_, Some("")) => RTMAX,
            (Some(plus), _) => RTMIN + offset(plus, '+').ok_or_else(unknown)?,
            (_, Some(minus)) => RTMAX - offset(minus, '-').ok_or_else(unknown)?,
            _ => format!("SIG{short}").parse::<Signal>().map_err(|_| unknown())? as i32,
        }
    };
    if (1..=RTMAX).contains(&number) { Ok(number) } else { Err(unknown()) }
}

fn offset(text: &str, sign: char) -> Option<i32> {
    text.strip_prefix(sign)?.parse().ok().filter(|offset| (0..=RTMAX - RTMIN).contains(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("usr1", 10),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
        ] {
            assert_eq!(parse(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-9", "SIG", "FOO", "RTMIN-1", "RTMAX+1", "RTMIN+99"] {
            assert_eq!(parse(text), Err(UnknownSignal(text.into())), "{text}");
        }
    }
}
