//! Accepting connections. That the process or the machine has no descriptor left passes, and must not end a socket that others are to
//! find at its place: whoever serves one waits a moment and goes on.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use tracing::warn;

/// Between two tries.
const RESPITE: Duration = Duration::from_millis(200);

/// The next connection that `accept`, such as a listener's `poll_accept`, has. May be given up and called again.
pub async fn next<Connection>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<Connection>>,
) -> Connection {
    loop {
        match poll_fn(&mut accept).await {
            Ok(connection) => return connection,
            Err(error) => {
                warn!(%error, "failed to accept a connection; it is tried again");
                tokio::time::sleep(RESPITE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn running_out_of_descriptors_passes() {
        let begun = Instant::now();
        let mut tries = 0;
        let accepted = next(|_| {
            tries += 1;
            let full = io::Error::from_raw_os_error(24);
            Poll::Ready(if tries < 3 { Err(full) } else { Ok("connection") })
        });
        assert_eq!(accepted.await, "connection");
        assert!(begun.elapsed() >= 2 * RESPITE, "it does not try without a pause");
    }
}
