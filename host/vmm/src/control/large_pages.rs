//! When the host may back guest RAM with large pages, as it is configured to.
//!
//! A guest that boots and starts its first containers touches pages here and there: large ones then cost more to clear than
//! they save, and are memory that nobody asked for. A sandbox that lives on is worth them.

use std::time::{Duration, Instant};

use crate::memory;

/// From the guest's first dial, which is its agent's word that it is ready.
const AFTER_READY: Duration = Duration::from_secs(5);

/// Small pages first, large ones later.
pub enum LargePages {
    /// The guest boots.
    Booting,
    /// It is ready, and starts what it was made for.
    From(Instant),
    /// The host decides.
    Allowed,
}

impl LargePages {
    /// Forbids them. Before guest RAM is touched.
    pub fn forbid() -> Self {
        memory::large_pages(false);
        Self::Booting
    }

    /// The guest has dialled a port of the host.
    pub fn dialled(&mut self) {
        if matches!(self, Self::Booting) {
            *self = Self::From(Instant::now() + AFTER_READY);
        }
    }

    /// Allows them if it is time; else answers when to ask again, if ever.
    pub fn settle(&mut self) -> Option<Duration> {
        let Self::From(at) = self else { return None };
        let left = at.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Some(left);
        }
        memory::large_pages(true);
        *self = Self::Allowed;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_some_time_after_the_first_dial() {
        let mut pages = LargePages::Booting;
        assert_eq!(pages.settle(), None);
        pages.dialled();
        let left = pages.settle().unwrap();
        assert!(left > AFTER_READY / 2 && left <= AFTER_READY, "{left:?}");
        pages.dialled();
        assert!(pages.settle().unwrap() <= left, "a second dial puts nothing off");
        pages = LargePages::From(Instant::now());
        assert_eq!(pages.settle(), None);
        assert!(matches!(pages, LargePages::Allowed));
    }
}
