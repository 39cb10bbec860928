//! Fuzzing on stable Rust: every place that takes bytes from a guest, a host program or a snapshot gets random ones.
//!
//! A target is a function of bytes that must return. Most read them as a program of what a hostile driver does next, so that
//! random bytes reach deep. Inputs come from a generator whose seed is the day, so that every day tries new ones and a failure
//! can be had again; it is printed. Those that once failed are kept in `tests/fuzz/found/<target>/` and run first.
//!
//! - `THECA_FUZZ_SECONDS`: time per target, 5 unless set.
//! - `THECA_FUZZ_SEED`: another sequence of inputs, or the one of a run that failed.
//! - `THECA_FUZZ_INPUT=FILE`: only this input, to look at a failure.

#[path = "fuzz/engine.rs"]
mod engine;
#[path = "fuzz/targets.rs"]
mod targets;
#[path = "../src/virtio/testing.rs"]
mod testing;

/// One test per target.
macro_rules! fuzz {
    ($($target:ident)*) => {$(
        #[test]
        fn $target() {
            engine::run(stringify!($target), targets::$target);
        }
    )*};
}

fuzz! { registers recorder rng console balloon blk vsock vsock_lines device_state }
