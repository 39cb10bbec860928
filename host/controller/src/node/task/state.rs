//! What may be asked of a process where it stands. Pure.
