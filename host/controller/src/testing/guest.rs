//! A guest as the keeper dials it: takes `CONNECT`, answers `OK`, and hands streams out by their ids.

use std::collections::HashMap;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::vsock::Vsock;

pub struct FakeGuest {
    streams: mpsc::UnboundedReceiver<(String, UnixStream)>,
    claimed: HashMap<String, UnixStream>,
}

impl FakeGuest {
    /// Listens in `folder`.
    pub fn listen(folder: &Path) -> (Self, Vsock) {
        let socket = folder.join("vsock.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (found, streams) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let found = found.clone();
                tokio::spawn(async move {
                    let mut stream = BufReader::with_capacity(1, stream);
                    let mut line = String::new();
                    stream.read_line(&mut line).await.unwrap();
                    assert_eq!(line, "CONNECT 1026\n");
                    stream.write_all(b"OK 1073741824\n").await.unwrap();
                    line.clear();
                    stream.read_line(&mut line).await.unwrap();
                    let id = line.strip_prefix("STREAM ").unwrap().trim_end().to_owned();
                    let _ = found.send((id, stream.into_inner()));
                });
            }
        });
        (Self { streams, claimed: HashMap::new() }, Vsock::new(&socket))
    }

    /// The stream called `id`, as soon as the keeper has dialled it.
    pub async fn stream(&mut self, id: &str) -> UnixStream {
        while !self.claimed.contains_key(id) {
            let (found, stream) = self.streams.recv().await.unwrap();
            self.claimed.insert(found, stream);
        }
        self.claimed.remove(id).unwrap()
    }
}
