//! Room for the processes that are added to a container. One that has ended is kept until it is deleted, which its client may never
//! do: without a bound, they would fill the keeper's memory and the record that thecad keeps of the container.

use super::process::Process;

/// Added processes of a container, those that have ended included.
pub const MOST: usize = 1024;
/// What they run, their environment and the names of their streams, as JSON, all together.
pub const MOST_BYTES: usize = 1 << 20;

/// There is no room for one more.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// There are too many.
    #[error(
        "the container has {MOST} added processes, which is as many as are kept: delete those that have ended"
    )]
    Processes,
    /// They have too much to tell.
    #[error(
        "arguments and environments of the container's added processes would have more than {} MiB together: delete those \
         that have ended, or give this one less",
        MOST_BYTES >> 20
    )]
    Bytes,
}

/// Whether `new` can be kept beside the others.
pub fn check<'a>(others: impl Iterator<Item = &'a Process>, new: &Process) -> Result<(), NoRoom> {
    let (count, bytes) =
        others.fold((1, new.bytes()), |(count, bytes), one| (count + 1, bytes + one.bytes()));
    match (count > MOST, bytes > MOST_BYTES) {
        (true, _) => Err(NoRoom::Processes),
        (_, true) => Err(NoRoom::Bytes),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Kept;
    use crate::task::stdio::{IoRequest, Target};

    fn process(spec: usize, stdout: &str) -> Process {
        let io = IoRequest { stdout: Some(Target::Fifo(stdout.into())), ..IoRequest::default() };
        Process::added(io, vec![b'x'; spec], Kept::UntilDelete)
    }

    #[test]
    fn a_container_keeps_so_many_and_no_more() {
        let all: Vec<_> = (0..MOST).map(|_| process(100, "/o")).collect();
        assert!(check(all[1..].iter(), &all[0]).is_ok());
        let refused = check(all.iter(), &process(0, "/o")).unwrap_err().to_string();
        assert!(refused.ends_with("delete those that have ended"), "{refused}");
    }

    #[test]
    fn what_they_run_and_what_their_streams_are_called_has_so_much_room() {
        let large = [process(MOST_BYTES / 2, "/o")];
        assert!(check(large.iter(), &process(MOST_BYTES / 2 - 100, "/o")).is_ok());
        for new in [process(MOST_BYTES / 2, "/o"), process(0, &"/x".repeat(MOST_BYTES / 4))] {
            let refused = check(large.iter(), &new).unwrap_err();
            assert!(matches!(refused, NoRoom::Bytes), "{refused}");
        }
        // As they are written down.
        assert!(check([].iter(), &process(0, &"\u{1}".repeat(MOST_BYTES / 5))).is_err());
    }
}
