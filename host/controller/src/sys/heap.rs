//! How the memory of a process that lives long and waits most of its life is set up.

use nix::sys::prctl;

/// Keeps all threads' small allocations in one heap, and heap and stacks in small pages. An arena for each of the threads that
/// wait for disks, or a large page below a heap that has grown a little or a stack that is hardly used, costs MiB that are
/// never given back, and nothing here allocates on a hot path. Best before the first thread. See mallopt(3), and
/// PR_SET_THP_DISABLE in prctl(2): programs that are started inherit it, and the VMM decides for itself.
pub fn stay_small() {
    // SAFETY: sets a number in the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // Fails only on a kernel without large pages, which is as good.
    let _ = prctl::set_thp_disable(true);
}
