//! A message that is too large, in gRPC's words. tonic refuses it when its length is read, before its bytes are, and calls it
//! OUT_OF_RANGE, which is nothing that our handlers answer; gRPC's word for it is RESOURCE_EXHAUSTED.

use http::{HeaderValue, Response};
use tonic::Code;

/// The answer of a service that takes `limit` bytes, a multiple of 1 MiB.
pub fn renamed<B>(mut response: Response<B>, limit: usize) -> Response<B> {
    const CODE: &str = "grpc-status";
    const TEXT: &str = "grpc-message";
    let out_of_range = (Code::OutOfRange as i32).to_string();
    if response.headers().get(CODE).is_some_and(|code| code.as_bytes() == out_of_range.as_bytes()) {
        let text = format!("the message is too large: at most {} MiB are taken", limit >> 20);
        let headers = response.headers_mut();
        headers.insert(CODE, HeaderValue::from(Code::ResourceExhausted as i32));
        // Header values are ASCII without control characters; so is this sentence.
        if let Ok(text) = HeaderValue::try_from(text) {
            headers.insert(TEXT, text);
        }
    }
    response
}
