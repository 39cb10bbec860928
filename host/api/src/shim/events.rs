//! Events of one container's Shim: one consumer, from the sandbox's history.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use theca_controller::id::ContainerId;
use theca_controller::sandbox::History;
use theca_proto::containerd::v1::types;
use tokio::sync::{mpsc, watch};
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

use crate::convert::shim;
use crate::status::missed;

/// Events that are looked at together.
const PAGE: usize = 64;
/// Events that may be on their way: there is room for one when the one before has been taken, and with that the one before it has
/// gone out.
const ON_THEIR_WAY: usize = 2;
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
    place: Arc<Mutex<Place>>,
    /// Counts consumers.
    turn: Arc<watch::Sender<u64>>,
}

/// Where the consumers are.
struct Place {
    /// What may not have been had. It is kept here, for the history may have dropped it.
    given: VecDeque<types::Event>,
    /// Number of the event that is looked at next.
    next: u64,
}

impl Place {
    fn give(&mut self, event: &types::Event, number: u64) {
        self.given.push_back(event.clone());
        self.given.drain(..self.given.len().saturating_sub(ON_THEIR_WAY));
        self.pass(number);
    }

    /// An event is had or is none of the container's.
    fn pass(&mut self, number: u64) {
        self.next = self.next.max(number + 1);
    }
}

impl Outbox {
    /// Begins with the container's creation, if it exists.
    pub fn new(history: History, container: ContainerId) -> Self {
        let place = Place { given: VecDeque::new(), next: history.beginning_of(&container) };
        Self { history, container, place: Arc::new(Mutex::new(place)), turn: Arc::new(watch::Sender::new(0)) }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (again, mut next) = {
            let place = self.place();
            (place.given.clone(), place.next)
        };
        for event in again {
            let Ok(room) = give.reserve().await else { return };
            room.send(Ok(event));
        }
        // Until the sandbox is gone.
        while let Ok(page) = self.history.page(next, PAGE, PATIENCE).await {
            if page.lost > 0 {
                let Ok(room) = give.reserve().await else { return };
                self.place().pass(next + page.lost - 1);
                room.send(Err(missed(page.lost)));
                return;
            }
            next = page.next;
            for event in page.events {
                let number = event.sequence;
                let own = event.subject.container.as_ref() == Some(&self.container);
                let Some(event) = Some(event).filter(|_| own).and_then(shim::event) else {
                    self.place().pass(number);
                    continue;
                };
                let Ok(room) = give.reserve().await else { return };
                self.place().give(&event, number);
                room.send(Ok(event));
            }
        }
    }
}

/// Events as they come; ends with the sandbox, or with an error: another consumer has come, or the history has dropped what was
/// not read in time.
pub struct Events(mpsc::Receiver<Result<types::Event, Status>>);

impl Stream for Events {
    type Item = Result<types::Event, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}
