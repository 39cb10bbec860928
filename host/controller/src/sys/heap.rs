//! How the allocator of a process that lives long and waits most of its life is set up.

/// Keeps all threads' small allocations in one heap. An arena for each of the threads that wait for disks costs MiB that are
/// never given back, and nothing here allocates on a hot path. Best before the first thread. See mallopt(3).
pub fn share_one_heap() {
    // SAFETY: sets a number in the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
