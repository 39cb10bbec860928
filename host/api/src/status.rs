//! Errors of the domain as status codes of ttrpc, which are gRPC's. The text is the whole story, cause after cause.

#[cfg(feature = "daemon")]
pub mod node;

use theca_controller::Error;
use theca_controller::agent::{AgentError, Cause, Code as AgentCode};
use theca_controller::bundle::BundleError;
use theca_controller::error::story;
use theca_controller::task::rootfs::RootfsError;
use theca_controller::task::state::TaskRefusal;
use theca_controller::task::stdio::StdioError;
use theca_controller::task::stdio::remote::RemoteError;
use theca_controller::vmm::disk::DiskError;
use theca_proto::theca::keeper::v1 as keeper;
use theca_proto::{ttrpc_glue, type_url};
use ttrpc::Code;

use crate::shim::endpoint::EndpointError;

/// The status of `error`.
pub fn of(error: Error) -> ttrpc::Error {
    let (code, story) = (code(&error), story(&error));
    match error {
        Error::Agent(AgentError::Refused { cause: Some(cause), .. }) => {
            let failure = keeper::Failure { cause: Some(wire(cause)) };
            ttrpc_glue::status_with(code, story, type_url::FAILURE, &failure)
        }
        _ => ttrpc_glue::status(code, story),
    }
}

fn wire(cause: Cause) -> keeper::failure::Cause {
    match cause {
        Cause::Program { errno } => keeper::failure::Cause::ProgramErrno(errno),
        Cause::DamagedImage => keeper::failure::Cause::DamagedImage(true),
    }
}

/// The status of an endpoint that was not made.
pub fn of_endpoint(error: EndpointError) -> ttrpc::Error {
    let code = match error {
        EndpointError::TooMany => Code::RESOURCE_EXHAUSTED,
        EndpointError::Socket(_) | EndpointError::Serve(_) => Code::INTERNAL,
    };
    ttrpc_glue::status(code, story(&error))
}

/// The same over gRPC, whose codes have the same numbers.
pub fn grpc(error: Error) -> tonic::Status {
    tonic::Status::new(tonic::Code::from_i32(code(&error) as i32), bounded(story(&error)))
}

/// The end of an event stream whose reader was too slow.
pub fn missed(events: u64) -> tonic::Status {
    tonic::Status::data_loss(format!(
        "{events} events were dropped because this client did not read them in time: ask for State, then for Events again"
    ))
}

/// Longest text of a gRPC status in bytes. It travels as a header, up to three times as long, and clients bound those at
/// 8 KiB together.
const MAX_TEXT: usize = 2000;

/// A text that fits into a header, whatever of a request it quotes.
fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let cut = (0..=MAX_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn code(error: &Error) -> Code {
    match error {
        Error::Stdio(StdioError::Remote(error)) => match error {
            RemoteError::Taken(_) => Code::ALREADY_EXISTS,
            RemoteError::Ended(_) => Code::NOT_FOUND,
            RemoteError::Superseded(_) => Code::ABORTED,
            RemoteError::TooMany => Code::RESOURCE_EXHAUSTED,
            RemoteError::Name(_) => Code::INVALID_ARGUMENT,
        },
        Error::InvalidId(_) | Error::Invalid(_) | Error::Stdio(_) => Code::INVALID_ARGUMENT,
        Error::Bundle(BundleError::Late { .. }) => Code::DEADLINE_EXCEEDED,
        Error::Bundle(BundleError::TooLarge(_)) => Code::RESOURCE_EXHAUSTED,
        Error::Bundle(BundleError::Unsupported(_)) | Error::Unsupported(_) => Code::UNIMPLEMENTED,
        Error::Bundle(_) => Code::INVALID_ARGUMENT,
        Error::Rootfs(RootfsError::UnknownType { .. }) => Code::UNIMPLEMENTED,
        Error::Rootfs(RootfsError::Disk(DiskError::InUse(_))) => Code::FAILED_PRECONDITION,
        Error::Rootfs(RootfsError::Scratch { .. } | RootfsError::Image { .. }) => Code::INTERNAL,
        Error::Rootfs(_) => Code::INVALID_ARGUMENT,
        Error::UnknownContainer | Error::UnknownExec(_) | Error::Task(TaskRefusal::AlreadyFinished) => {
            Code::NOT_FOUND
        }
        Error::ContainerExists(_) | Error::ExecExists(_) => Code::ALREADY_EXISTS,
        Error::Deleted(_) => Code::ABORTED,
        Error::Sandbox(_) | Error::Task(_) => Code::FAILED_PRECONDITION,
        Error::Slots(_) | Error::Busy | Error::NoRoom(_) => Code::RESOURCE_EXHAUSTED,
        Error::Boot(_) | Error::Vmm(_) => Code::INTERNAL,
        Error::VmEnded(_) | Error::Gone => Code::UNAVAILABLE,
        Error::Agent(error) => agent_code(error),
    }
}

fn agent_code(error: &AgentError) -> Code {
    match error {
        AgentError::Refused { code, .. } => match code {
            AgentCode::NotFound => Code::NOT_FOUND,
            AgentCode::AlreadyExists => Code::ALREADY_EXISTS,
            AgentCode::InvalidArgument => Code::INVALID_ARGUMENT,
            AgentCode::FailedPrecondition => Code::FAILED_PRECONDITION,
            AgentCode::PermissionDenied => Code::PERMISSION_DENIED,
            AgentCode::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
            AgentCode::Unimplemented => Code::UNIMPLEMENTED,
            AgentCode::Internal => Code::INTERNAL,
        },
        AgentError::Unreachable(_) => Code::UNAVAILABLE,
        AgentError::TimedOut { .. } => Code::DEADLINE_EXCEEDED,
        AgentError::Malformed(_) => Code::INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use theca_controller::sandbox::boot::BootError;
    use theca_controller::task::room::NoRoom;
    use theca_controller::vmm::machine::MachineError;

    use super::*;

    #[test]
    fn containerds_own_texts_and_codes_are_kept() {
        let unknown = Error::UnknownContainer;
        assert_eq!((code(&unknown), story(&unknown).as_str()), (Code::NOT_FOUND, "container not created"));
        let finished = Error::Task(TaskRefusal::AlreadyFinished);
        assert_eq!(
            (code(&finished), story(&finished).as_str()),
            (Code::NOT_FOUND, "process already finished")
        );
    }

    #[test]
    fn a_container_without_room_for_a_process_is_no_fault_of_the_request() {
        let (full, grpc_full) = (of(Error::NoRoom(NoRoom::Processes)), grpc(Error::NoRoom(NoRoom::Bytes)));
        let ttrpc::Error::RpcStatus(status) = full else { panic!("no status") };
        assert_eq!(status.code(), Code::RESOURCE_EXHAUSTED);
        assert!(
            status.message().starts_with("the container has 1024 added processes"),
            "{}",
            status.message()
        );
        assert_eq!(grpc_full.code(), tonic::Code::ResourceExhausted);
    }

    #[test]
    fn a_text_fits_into_a_header_whatever_a_client_sent() {
        let refused = grpc(Error::Invalid("é".repeat(100_000)));
        assert!(refused.message().len() <= MAX_TEXT + 3, "{}", refused.message().len());
    }

    #[test]
    fn a_command_that_is_not_there_keeps_the_agents_code_and_what_is_to_blame() {
        let refused = |cause| {
            let message = "no such program: /bin/x".into();
            let error = AgentError::Refused { code: AgentCode::NotFound, message, cause };
            let ttrpc::Error::RpcStatus(status) = of(Error::Agent(error)) else { panic!("no status") };
            assert_eq!((status.code(), status.message()), (Code::NOT_FOUND, "no such program: /bin/x"));
            ttrpc_glue::detail::<keeper::Failure>(&status, type_url::FAILURE)
                .and_then(|failure| failure.cause)
        };
        let blamed = refused(Some(Cause::Program { errno: 2 }));
        assert_eq!(blamed, Some(keeper::failure::Cause::ProgramErrno(2)));
        assert_eq!(refused(Some(Cause::DamagedImage)), Some(keeper::failure::Cause::DamagedImage(true)));
        assert_eq!(refused(None), None);
    }

    #[test]
    fn a_failed_boot_tells_why_to_the_end() {
        let error = Error::Boot(Arc::new(BootError::Machine(MachineError::NoKvm)));
        let story = story(&error);
        assert!(
            story.starts_with("the sandbox's VM did not start: /dev/kvm does not exist: enable"),
            "{story}"
        );
    }
}
