//! Points in time: milliseconds since 1970 in records, RFC 3339 in JSON, "3 minutes ago" in lists.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Its first second: from then on texts of points in time are not ordered like the points.
const YEAR_10000: u64 = 253_402_300_800;

/// A text that is no point in time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no point in time: use 2026-01-31T12:00:00Z, seconds since 1970, or a span before now such as 10m"
)]
pub struct NotATime(String);

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `2026-01-31T12:00:00.250Z`.
pub fn rfc3339(ms: u64) -> String {
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = date(days);
    let (hours, minutes, seconds) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", in_day % 1000)
}

/// `2026-01-31T12:00:00.250000000Z`, as a container's log has it.
pub fn rfc3339_nanos(since_1970: Duration) -> String {
    let ms = rfc3339(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX));
    format!("{}{:06}Z", ms.trim_end_matches('Z'), since_1970.subsec_nanos() % 1_000_000)
}

/// The civil date of a day counted from 1970-01-01: years are counted from March, so that a leap day ends one.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year)
        .checked_sub(719_468)
}

/// Reads `--since` and its like, as time since 1970: RFC 3339 in UTC, a Unix time, or a span before `now`. To the nanosecond, so
/// that a time that was shown means what it was shown with.
pub fn parse(text: &str, now: Duration) -> Result<Duration, NotATime> {
    let before_now = || span_ms(text).map(|span| now.saturating_sub(Duration::from_millis(span)));
    let point = decimal(text).or_else(before_now).or_else(|| absolute(text));
    point.filter(|point| point.as_secs() < YEAR_10000).ok_or_else(|| NotATime(text.to_owned()))
}

/// `12` or `12.345`: seconds.
fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::new(whole.parse().ok()?, format!("{fraction:0<9.9}").parse().ok()?))
}

/// `1h30m`, `45s`, `250ms`.
fn span_ms(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        let unit: &str = &rest[digits..];
        let unit = &unit[..unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len()];
        let scale = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(scale)?)?;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

fn absolute(text: &str) -> Option<Duration> {
    let (date_text, time_text) = text.split_once('T').unwrap_or((text, "00:00:00"));
    let time_text = time_text.strip_suffix('Z').unwrap_or(time_text);
    let mut date_parts = date_text.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date_parts.next()??, date_parts.next()??, date_parts.next()??);
    let mut time_parts = time_text.splitn(3, ':');
    let (hours, minutes): (u64, u64) = (time_parts.next()?.parse().ok()?, time_parts.next()?.parse().ok()?);
    let seconds = decimal(time_parts.next().unwrap_or("0"))?;
    let plausible = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hours < 24
        && minutes < 60
        && seconds.as_secs() < 61;
    let midnight = days(year, month, day)?.checked_mul(86_400)?;
    plausible.then(|| Duration::from_secs(midnight + hours * 3600 + minutes * 60) + seconds)
}

/// `3 minutes`: a span in its largest whole unit, docker's way.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let plural = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    match seconds {
        0 => "Less than a second".to_owned(),
        1..60 => plural(seconds, "second"),
        60..120 => "About a minute".to_owned(),
        120..3600 => plural(seconds / 60, "minute"),
        3600..7200 => "About an hour".to_owned(),
        7200..172_800 => plural(seconds / 3600, "hour"),
        172_800..1_209_600 => plural(seconds / 86_400, "day"),
        1_209_600..5_184_000 => plural(seconds / 604_800, "week"),
        5_184_000..63_072_000 => plural(seconds / 2_592_000, "month"),
        _ => plural(seconds / 31_536_000, "year"),
    }
}

/// `3 minutes ago`.
pub fn ago(then_ms: u64, now_ms: u64) -> String {
    format!("{} ago", span(Duration::from_millis(now_ms.saturating_sub(then_ms))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_and_read_back() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_785_585_600_250, "2026-08-01T12:00:00.250Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
            assert_eq!(parse(text, Duration::ZERO), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn a_time_may_be_a_date_a_number_or_a_span_before_now() {
        let now = 10_000_000;
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-01T00:01", 60_000),
            ("1.5", 1500),
            ("10m", now - 600_000),
            ("1h30m", now - 5_400_000),
            ("250ms", now - 250),
        ] {
            assert_eq!(parse(text, Duration::from_millis(now)), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "yesterday", "10", "-1", ".", "2026-13-01", "2026-01-01T25:00", "5x", "253402300800"]
        {
            assert_eq!(parse(text, Duration::from_millis(now)).is_ok(), text == "10", "{text}");
        }
    }

    #[test]
    fn a_time_is_read_back_to_the_nanosecond() {
        let time = Duration::new(1_785_585_600, 123_456_789);
        assert_eq!(rfc3339_nanos(time), "2026-08-01T12:00:00.123456789Z");
        for text in ["2026-08-01T12:00:00.123456789Z", "1785585600.123456789"] {
            assert_eq!(parse(text, Duration::ZERO), Ok(time), "{text}");
        }
    }

    #[test]
    fn spans_are_told_in_one_unit() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (180, "3 minutes"),
            (4000, "About an hour"),
            (86_400, "24 hours"),
            (3 * 86_400, "3 days"),
            (20 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (800 * 86_400, "2 years"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }
}
