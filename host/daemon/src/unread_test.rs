use std::convert::Infallible;

use std::collections::VecDeque;

use http_body::Body as _;
use tonic::Code;
use tower::{ServiceExt, service_fn};

use super::*;

const MIB: usize = 1 << 20;

/// A body of these messages, each there at once.
struct Messages(VecDeque<Bytes>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.pop_front().map(|bytes| Ok(Frame::data(bytes))))
    }
}

fn messages(count: usize, bytes: usize) -> impl Fn() -> Body + Clone + Send {
    move || Body::new(Messages((0..count).map(|_| Bytes::from(vec![0; bytes])).collect()))
}

async fn next(body: &mut Body) -> Option<Frame<Bytes>> {
    poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await.map(Result::unwrap)
}

/// What a call of `client` is answered with when the service answers `body`.
async fn ask(unread: &Unread, client: &Client, body: impl Fn() -> Body + Clone + Send) -> Response<Body> {
    let service = service_fn(move |_: Request<()>| {
        let answer = Response::new(body());
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut request = Request::new(());
    request.extensions_mut().insert(client.clone());
    unread.layer(service).oneshot(request).await.unwrap()
}

fn whole(bytes: usize) -> impl Fn() -> Body + Clone + Send {
    messages(1, bytes)
}

fn code(answer: &Response<Body>) -> Code {
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn a_client_has_so_much_unread_and_no_more_until_it_reads() {
    let (unread, client) = (Unread::default(), Client::default());
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(ask(&unread, &client, whole(8 * MIB)).await);
    }
    assert!(waiting.iter().all(|answer| code(answer) == Code::Ok));
    let refused = ask(&unread, &client, whole(1)).await;
    let status = Status::from_header_map(refused.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("more than 32 MiB"), "{status}");
    // Others are asked for their own.
    assert_eq!(code(&ask(&unread, &Client::default(), whole(8 * MIB)).await), Code::Ok);

    let read = next(&mut waiting.pop().unwrap().into_body()).await.unwrap().into_data().unwrap();
    assert_eq!(read.len(), 8 * MIB);
    assert_eq!(code(&ask(&unread, &client, whole(1)).await), Code::ResourceExhausted, "its bytes are there");
    drop(read);
    assert_eq!(code(&ask(&unread, &client, whole(1)).await), Code::Ok);
    drop(waiting);
    assert_eq!(client.unread.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn all_clients_together_have_so_much_and_short_answers_go_on() {
    let unread = Unread::default();
    let mut waiting = Vec::new();
    for _ in 0..OF_ALL / (16 * MIB) {
        waiting.push(ask(&unread, &Client::default(), whole(16 * MIB)).await);
    }
    let refused = ask(&unread, &Client::default(), whole(SHORT + 1)).await;
    let status = Status::from_header_map(refused.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("all answers"), "{status}");
    assert_eq!(code(&ask(&unread, &Client::default(), whole(SHORT)).await), Code::Ok);
    waiting.pop();
    assert_eq!(code(&ask(&unread, &Client::default(), whole(SHORT + 1)).await), Code::Ok);
}

#[tokio::test]
async fn a_stream_that_has_begun_is_told_in_its_end() {
    let (unread, client) = (Unread::default(), Client::default());
    let answer = ask(&unread, &client, messages(3, 16 * MIB)).await;
    assert_eq!(code(&answer), Code::Ok);
    let mut body = answer.into_body();
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(next(&mut body).await.unwrap().into_data().unwrap());
    }
    let end = next(&mut body).await.unwrap().into_trailers().unwrap();
    assert_eq!(Status::from_header_map(&end).unwrap().code(), Code::ResourceExhausted);
    assert!(next(&mut body).await.is_none());
}
