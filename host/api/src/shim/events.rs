//! Events of one container's Shim: one consumer, from the sandbox's history.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use theca_controller::id::ContainerId;
use theca_controller::sandbox::History;
use theca_proto::containerd::v1::types;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;
use tracing::warn;

use crate::convert::shim;

/// Events that are looked at together.
const PAGE: usize = 64;
/// History is asked again after this without an event; it answers as soon as there is one.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What the container's consumer has had and what not; clones are the same one.
///
/// The consumer that came last gets the events. What it was given last counts as not had until it has taken the next: a
/// later consumer is given it again.
#[derive(Clone)]
pub struct Outbox {
    history: History,
    container: ContainerId,
    /// Number of the first event that may not have been had.
    position: Arc<AtomicU64>,
    /// Counts consumers.
    turn: Arc<watch::Sender<u64>>,
}

impl Outbox {
    /// Begins with the container's creation, if it exists.
    pub fn new(history: History, container: ContainerId) -> Self {
        let position = Arc::new(AtomicU64::new(history.beginning_of(&container)));
        Self { history, container, position, turn: Arc::new(watch::Sender::new(0)) }
    }

    /// Becomes the consumer.
    pub fn follow(&self) -> Events {
        self.turn.send_modify(|turn| *turn += 1);
        let turn = self.turn.subscribe();
        let (give, taken) = mpsc::channel(1);
        tokio::spawn(self.clone().feed(turn, give));
        Events(taken)
    }

    /// Until another consumer comes, this one goes, or the sandbox ends.
    async fn feed(self, mut turn: watch::Receiver<u64>, give: mpsc::Sender<Result<types::Event, Status>>) {
        tokio::select! {
            biased;
            _ = turn.changed() => {
                let words = "another consumer has asked for the events";
                let _ = give.try_send(Err(Status::aborted(words)));
            }
            () = give.closed() => {}
            () = self.hand_out(&give) => {}
        }
    }

    async fn hand_out(&self, give: &mpsc::Sender<Result<types::Event, Status>>) {
        let mut next = self.position.load(Ordering::Relaxed);
        let mut given = None;
        // Until the sandbox is gone.
        while let Ok(page) = self.history.page(next, PAGE, PATIENCE).await {
            next = page.next;
            if page.lost > 0 {
                warn!(container = %self.container, lost = page.lost, "events were not fetched in time");
            }
            for event in page.events {
                let sequence = event.sequence;
                if event.subject.container.as_ref() != Some(&self.container) {
                    continue;
                }
                let Some(event) = shim::event(event) else { continue };
                // There is room when the one before has been taken, and with that the one before it has gone out.
                let Ok(room) = give.reserve().await else { return };
                if let Some(taken) = given.replace(sequence) {
                    self.position.store(taken, Ordering::Relaxed);
                }
                room.send(Ok(event));
            }
        }
    }
}

/// Events as they come; ends with the sandbox, or with an error when another consumer has come.
pub struct Events(mpsc::Receiver<Result<types::Event, Status>>);

impl Stream for Events {
    type Item = Result<types::Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
