//! What every gRPC call to thecad has: a namespace, a message, an answer.

use std::str::FromStr;

use prost::Message;
use theca_controller::id::{InvalidId, Namespace};
use tonic::{Request, Response, Status};

use crate::services::MAX_ANSWER;
use crate::status::node::refusal;

/// The header that names containerd's namespace.
const HEADER: &str = "containerd-namespace";
/// Whose containers those of a client are that knows no namespaces.
const DEFAULT: &str = "default";
/// What a message costs in a list beside its own bytes: its field's number and its length.
const FRAME: usize = 6;

/// What a handler answers.
pub type Answer<T> = Result<Response<T>, Status>;

/// Namespace and message of a call to an interface that asks for a namespace.
pub fn open<T>(request: Request<T>) -> Result<(Namespace, T), Status> {
    match named(&request)? {
        Some(namespace) => Ok((namespace, request.into_inner())),
        None => Err(Status::failed_precondition(format!(
            "namespace is required: name one in the header {HEADER}, such as {DEFAULT:?}"
        ))),
    }
}

/// Namespace and message of a call to an interface from before there were namespaces.
pub fn open_or_default<T>(request: Request<T>) -> Result<(Namespace, T), Status> {
    let namespace = match named(&request)? {
        Some(namespace) => namespace,
        None => id(DEFAULT)?,
    };
    Ok((namespace, request.into_inner()))
}

/// An id that a request names.
pub fn id<T: FromStr<Err = InvalidId>>(name: &str) -> Result<T, Status> {
    name.parse().map_err(|error: InvalidId| refusal(error.into()))
}

/// What a handler answers, from what the node did.
pub fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A list that is nearly the whole of one answer. It is given up as soon as it is larger than an answer may be: nothing is made
/// that would not be sent.
#[derive(Debug)]
pub struct List<T> {
    items: Vec<T>,
    bytes: usize,
}

impl<T: Message> List<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { items: Vec::new(), bytes: 0 }
    }

    /// Adds one more.
    pub fn push(&mut self, item: T) -> Result<(), Status> {
        self.bytes += item.encoded_len() + FRAME;
        if self.bytes > MAX_ANSWER {
            return Err(Status::resource_exhausted(format!(
                "the answer would have more than {} MiB: ask for fewer by filters or one by one, or for a stream where there is one",
                MAX_ANSWER >> 20
            )));
        }
        self.items.push(item);
        Ok(())
    }

    /// What is in it.
    pub fn done(self) -> Vec<T> {
        self.items
    }
}

/// A whole [`List`].
pub fn fits<T: Message>(mut items: impl Iterator<Item = T>) -> Result<Vec<T>, Status> {
    let mut list = List::new();
    items.try_for_each(|item| list.push(item))?;
    Ok(list.done())
}

fn named<T>(request: &Request<T>) -> Result<Option<Namespace>, Status> {
    let Some(value) = request.metadata().get(HEADER) else { return Ok(None) };
    let Ok(name) = value.to_str() else {
        return Err(Status::invalid_argument(format!("the header {HEADER} is not text")));
    };
    if name.is_empty() { Ok(None) } else { id(name).map(Some) }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn call(namespace: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(namespace) = namespace {
            request.metadata_mut().insert(HEADER, namespace.parse().unwrap());
        }
        request
    }

    #[test]
    fn the_namespace_is_the_headers() {
        assert_eq!(open(call(Some("k8s.io"))).unwrap().0.as_str(), "k8s.io");
        assert_eq!(open_or_default(call(Some("k8s.io"))).unwrap().0.as_str(), "k8s.io");
    }

    #[test]
    fn only_the_oldest_interfaces_do_without() {
        for none in [None, Some("")] {
            let refusal = open(call(none)).unwrap_err();
            assert_eq!(refusal.code(), Code::FailedPrecondition);
            assert!(refusal.message().contains(HEADER), "{refusal}");
            assert_eq!(open_or_default(call(none)).unwrap().0.as_str(), "default");
        }
    }

    #[test]
    fn a_list_beyond_what_one_answer_holds_is_refused_and_not_made() {
        let of = |bytes: usize| prost_types::Any { type_url: String::new(), value: vec![0; bytes] };
        assert_eq!(fits((0..3).map(|_| of(5 << 20))).unwrap().len(), 3);
        let mut made = 0;
        let endless = std::iter::repeat_with(|| {
            made += 1;
            of(5 << 20)
        });
        let refusal = fits(endless).unwrap_err();
        assert_eq!((refusal.code(), made), (Code::ResourceExhausted, 4));
        assert!(refusal.message().contains("more than 16 MiB"), "{refusal}");
        assert!(fits(std::iter::repeat_with(|| of(0)).take(1000)).is_ok());
    }

    #[test]
    fn a_namespace_that_is_a_path_stops_here() {
        for path in ["a/b", "..", "../x", "/", "x y"] {
            assert_eq!(open(call(Some(path))).unwrap_err().code(), Code::InvalidArgument, "{path:?}");
            assert_eq!(
                open_or_default(call(Some(path))).unwrap_err().code(),
                Code::InvalidArgument,
                "{path:?}"
            );
        }
    }
}
