//! The size of a terminal's window.

use std::os::fd::{AsFd, AsRawFd};

use nix::libc::{TIOCGWINSZ, winsize};

nix::ioctl_read_bad!(tiocgwinsz, TIOCGWINSZ, winsize);

/// Columns and rows; `None` if `fd` is no terminal or does not know.
pub fn window_size(fd: impl AsFd) -> Option<(u16, u16)> {
    let mut size = winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize`, which `size` is, and nothing after the call.
    unsafe { tiocgwinsz(fd.as_fd().as_raw_fd(), &raw mut size) }.ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}
