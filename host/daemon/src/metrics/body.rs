//! An answer on its way to the client: how a call ended is the last that its body says.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http_body::{Frame, SizeHint};
use hyper::body::Bytes;
use tonic::body::Body;
use tonic::{Code, Status};

use super::calls::Call;

/// The body of an answer, and the call that it ends.
#[derive(Debug)]
pub struct ObservedBody {
    body: Body,
    call: Option<Call>,
}

impl ObservedBody {
    /// Ends `call` with `body`.
    pub fn new(body: Body, call: Option<Call>) -> Self {
        Self { body, call }
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let code = match &frame {
            Some(Ok(frame)) => {
                frame.trailers_ref().and_then(Status::from_header_map).map(|status| status.code())
            }
            Some(Err(status)) => Some(status.code()),
            // It has said nothing.
            None => Some(Code::Unknown),
        };
        if let (Some(code), Some(call)) = (code, &mut self.call) {
            call.end(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
