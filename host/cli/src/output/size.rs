//! Sizes as people type and read them.

/// A text that is no size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a size: use a number with an optional unit b, k, m, g or t, such as 512m")]
pub struct NotASize(String);

/// Reads `512m`, `1.5g`, `65536`: powers of 1024, docker's way. The unit may be followed by `b` or `ib`.
pub fn parse(text: &str) -> Result<u64, NotASize> {
    let wrong = || NotASize(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = lower[digits.len()..].trim_end_matches('b').trim_end_matches('i');
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(wrong()),
    };
    let scale = 1_u64 << shift;
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(wrong);
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * scale as f64;
    if number.is_finite() && number >= 0.0 && bytes < u64::MAX as f64 {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// `4.2MB`: powers of 1000 with three digits, docker's way of listing.
pub fn human(bytes: u64) -> String {
    let (mut value, mut unit) = (bytes as f64, 0);
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = match value {
        value if unit == 0 || value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    let number = format!("{value:.digits$}");
    let number =
        if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_reads_them() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65536),
            ("1k", 1024),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("512mb", 512 << 20),
            ("1.5g", 3 << 29),
            ("2t", 2 << 40),
            ("10b", 10),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1", "1x", "1e400", "nan", "inf", "17179869184g", "1 m"] {
            assert_eq!(parse(text), Err(NotASize(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        for (bytes, text) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1536, "1.54kB"),
            (77_800_000, "77.8MB"),
            (999_600, "1MB"),
            (4_200_000_000, "4.2GB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
