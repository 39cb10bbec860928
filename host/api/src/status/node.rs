//! Errors of the node as gRPC's status codes: the one table of all five generations. What differs between those is words.

use theca_controller::error::story;
use theca_controller::node::{Error, Kind};
use tonic::{Code, Status};

use super::bounded;

/// The status of `error`, which tells its whole story.
pub fn refusal(error: Error) -> Status {
    in_words(&error, None)
}

/// The status of `error`, in the words of a generation that had some.
pub fn in_words(error: &Error, words: Option<String>) -> Status {
    Status::new(code(error.kind()), bounded(words.unwrap_or_else(|| story(error))))
}

fn code(kind: Kind) -> Code {
    match kind {
        Kind::NotFound => Code::NotFound,
        Kind::AlreadyExists => Code::AlreadyExists,
        Kind::InvalidArgument => Code::InvalidArgument,
        Kind::FailedPrecondition => Code::FailedPrecondition,
        Kind::PermissionDenied => Code::PermissionDenied,
        Kind::ResourceExhausted => Code::ResourceExhausted,
        Kind::DeadlineExceeded => Code::DeadlineExceeded,
        Kind::Unavailable => Code::Unavailable,
        Kind::Unimplemented => Code::Unimplemented,
        Kind::Internal => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_kind_for_code_and_the_story_for_text() {
        let refused = refusal(Error::UnknownContainer("web".parse().unwrap()));
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "container web does not exist"));
        let refused = refusal(Error::Unsupported("checkpointing a container"));
        assert_eq!(refused.code(), Code::Unimplemented);
    }

    #[test]
    fn a_text_fits_into_a_header_whatever_a_client_sent() {
        let refused = refusal(Error::Invalid("é".repeat(100_000)));
        assert!(refused.message().len() < 2100, "{}", refused.message().len());
    }
}
