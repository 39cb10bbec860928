//! Counts every call on its way to the service that answers it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::body::ObservedBody;
use super::calls::{Call, Calls};

/// Puts [`ObservedService`] before a service.
#[derive(Clone, Debug)]
pub struct Observed {
    calls: Arc<Calls>,
}

impl Observed {
    /// Counts in `calls`.
    pub fn new(calls: Arc<Calls>) -> Self {
        Self { calls }
    }
}

impl<Inner> Layer<Inner> for Observed {
    type Service = ObservedService<Inner>;

    fn layer(&self, inner: Inner) -> ObservedService<Inner> {
        ObservedService { inner, calls: Arc::clone(&self.calls) }
    }
}

/// The service with a count.
#[derive(Clone, Debug)]
pub struct ObservedService<Inner> {
    inner: Inner,
    calls: Arc<Calls>,
}

impl<Inner> Service<Request<Body>> for ObservedService<Inner>
where
    Inner: Service<Request<Body>, Response = Response<Body>>,
    Inner::Future: Unpin,
{
    type Response = Response<ObservedBody>;
    type Error = Inner::Error;
    type Future = Answering<Inner::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Inner::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = self.calls.begin(request.uri().path());
        Answering { inner: self.inner.call(request), call: Some(call) }
    }
}

/// A call that has no answer yet.
#[derive(Debug)]
pub struct Answering<Inner> {
    inner: Inner,
    call: Option<Call>,
}

impl<Inner, Error> Future for Answering<Inner>
where
    Inner: Future<Output = Result<Response<Body>, Error>> + Unpin,
{
    type Output = Result<Response<ObservedBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answered = ready!(Pin::new(&mut self.inner).poll(context));
        let mut call = self.call.take();
        Poll::Ready(match answered {
            Ok(response) => {
                // A refusal has its code in the headers and no body.
                if let (Some(status), Some(call)) =
                    (Status::from_header_map(response.headers()), call.as_mut())
                {
                    call.end(status.code());
                }
                Ok(response.map(|body| ObservedBody::new(body, call)))
            }
            Err(error) => {
                if let Some(call) = call.as_mut() {
                    call.end(Code::Unknown);
                }
                Err(error)
            }
        })
    }
}
