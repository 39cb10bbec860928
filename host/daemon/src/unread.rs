//! Answers that a client asks for and does not read. HTTP/2 keeps each until it is read, and a client may ask for any number of
//! them: so many bytes are kept, for each connection and for all. What would be more is refused in its place.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt, poll_fn};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use theca_proto::unix_grpc::Client;
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

/// Of one connection, in bytes: two of the largest answers.
const OF_A_CLIENT: usize = 32 << 20;
/// Of all connections together, as far as long answers count.
const OF_ALL: usize = 128 << 20;
/// A longer answer is a long one: others' short ones go on whatever is not read.
const SHORT: usize = 64 << 10;

/// Bounds the answers of the services behind it. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Unread {
    long: Arc<AtomicUsize>,
}

/// A service whose answers are bounded.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    unread: Unread,
}

/// What an answer that was not read yet counts for. It ends with the answer's last byte.
struct Held {
    bytes: Bytes,
    counts: Vec<Arc<AtomicUsize>>,
}

/// The rest of an answer.
struct Answer {
    /// Was there as soon as the answer was.
    first: Option<Frame<Bytes>>,
    rest: Body,
    budget: Budget,
    refused: bool,
}

/// What counts the answers of one connection.
#[derive(Clone)]
struct Budget {
    client: Client,
    unread: Unread,
}

impl<S> Layer<S> for Unread {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, unread: self.clone() }
    }
}

impl<S, B> Service<Request<B>> for Bounded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A connection of another kind than thecad's own counts for itself.
        let client = request.extensions().get::<Client>().cloned().unwrap_or_default();
        let budget = Budget { client, unread: self.unread.clone() };
        let answered = self.inner.call(request);
        async move { Ok(bounded(answered.await?, budget).await) }.boxed()
    }
}

/// Takes the first message of an answer at once where it is there: an answer that HTTP/2 has not asked for yet takes memory, too.
async fn bounded(answer: Response<Body>, budget: Budget) -> Response<Body> {
    let (parts, mut rest) = answer.into_parts();
    let first = poll_fn(|context| Poll::Ready(Pin::new(&mut rest).poll_frame(context))).await;
    let first = match first {
        Poll::Ready(Some(Ok(frame))) => match budget.hold(frame) {
            Ok(frame) => Some(frame),
            Err(refusal) => return refusal.into_http(),
        },
        Poll::Ready(Some(Err(status))) => return status.into_http(),
        Poll::Ready(None) | Poll::Pending => None,
    };
    Response::from_parts(parts, Body::new(Answer { first, rest, budget, refused: false }))
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.refused {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.rest).poll_frame(context).map_ok(|frame| {
            self.budget.hold(frame).unwrap_or_else(|refusal| {
                // Its beginning was sent: the end is what is left to say it in.
                self.refused = true;
                let mut trailers = HeaderMap::new();
                // Fails for words that are no header, which these are not.
                let _ = refusal.add_header(&mut trailers);
                Frame::trailers(trailers)
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && (self.refused || self.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Budget {
    /// The same frame, counted until nobody has its bytes any longer.
    fn hold(&self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Status> {
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(other) => return Ok(other),
        };
        let mut held = Held { bytes, counts: Vec::new() };
        if !held.count(&self.client.unread, OF_A_CLIENT) {
            return Err(refused("this connection's answers", OF_A_CLIENT));
        }
        if held.bytes.len() > SHORT && !held.count(&self.unread.long, OF_ALL) {
            return Err(refused("all answers", OF_ALL));
        }
        Ok(Frame::data(Bytes::from_owner(held)))
    }
}

impl Held {
    /// False if there would be more than `most` then.
    fn count(&mut self, count: &Arc<AtomicUsize>, most: usize) -> bool {
        let more = |now: usize| now.checked_add(self.bytes.len()).filter(|sum| *sum <= most);
        let counted = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if counted {
            self.counts.push(Arc::clone(count));
        }
        counted
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

fn refused(whose: &str, most: usize) -> Status {
    Status::resource_exhausted(format!(
        "{whose} that wait to be read would have more than {} MiB together: read them, then ask again",
        most >> 20
    ))
}

#[cfg(test)]
#[path = "unread_test.rs"]
mod tests;
