//! Processor lists such as `0-3,7`.

use super::SpecError;

/// The highest processor number that a list may name.
const LAST: usize = 1023;

/// Reads a list of processors.
pub fn processors(field: &str, list: &str) -> Result<Vec<usize>, SpecError> {
    let bad = || SpecError::invalid(field, format!("{list} is not a list of processors up to {LAST}"));
    let mut processors = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: usize = first.trim().parse().map_err(|_| bad())?;
        let last: usize = last.trim().parse().map_err(|_| bad())?;
        if first > last || last > LAST {
            return Err(bad());
        }
        processors.extend(first..=last);
    }
    Ok(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_processors() {
        assert_eq!(processors("cpus", "0-2,7").unwrap(), [0, 1, 2, 7]);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for list in ["", "a", "3-1", "0-9999999", "1,,2"] {
            let error = processors("process.execCPUAffinity", list).unwrap_err().to_string();
            assert!(error.starts_with("process.execCPUAffinity is invalid"), "{error}");
        }
    }
}
