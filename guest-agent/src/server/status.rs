//! Errors as gRPC statuses: one table.

use std::error::Error as _;

use theca_proto::agent_headers::{DAMAGED_IMAGE, EXEC_ERRNO};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::container::Error;
use crate::oci::SpecError;
use crate::process::launch::LaunchError;
use crate::rootfs::RootfsError;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::new(code(&error), sentence(&error));
        if let Error::Launch(LaunchError::Setup(failure)) = &error
            && failure.program
        {
            let errno = failure.errno.unwrap_or(libc::EACCES);
            status.metadata_mut().insert(EXEC_ERRNO, MetadataValue::from(errno));
        }
        if let Error::Rootfs(RootfsError::DamagedImage { slot, .. }) = &error {
            status.metadata_mut().insert(DAMAGED_IMAGE, MetadataValue::from(*slot));
        }
        status
    }
}

fn code(error: &Error) -> Code {
    match error {
        Error::NoContainer(_) | Error::NoTask(_) | Error::NoProcess { .. } | Error::Finished { .. } => {
            Code::NotFound
        }
        Error::ContainerExists(_) | Error::TaskExists(_) => Code::AlreadyExists,
        // The keeper says the same of what it refuses itself meanwhile.
        Error::State { .. } | Error::StillRuns { .. } | Error::ShuttingDown => Code::FailedPrecondition,
        Error::InvalidId(_) | Error::InvalidSignal(_) => Code::InvalidArgument,
        Error::Spec(SpecError::Unsupported { .. }) => Code::Unimplemented,
        Error::Spec(SpecError::Parse { .. } | SpecError::Invalid { .. }) => Code::InvalidArgument,
        Error::Rootfs(RootfsError::Io { .. } | RootfsError::DamagedImage { .. }) => Code::Internal,
        Error::Rootfs(RootfsError::WrongDisk { .. } | RootfsError::DiskInUse { .. }) => {
            Code::FailedPrecondition
        }
        Error::Rootfs(_) => Code::InvalidArgument,
        Error::Launch(LaunchError::Setup(failure)) if failure.program => match failure.errno {
            Some(libc::ENOENT) => Code::NotFound,
            _ => Code::PermissionDenied,
        },
        // What a spec asked for did not work in this guest.
        Error::Cgroup(_) | Error::Launch(LaunchError::Setup(_) | LaunchError::Gone) => {
            Code::FailedPrecondition
        }
        Error::Launch(_) | Error::Io { .. } => Code::Internal,
    }
}

/// An error and its causes, from the outside in.
fn sentence(error: &Error) -> String {
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        // Causes of a parse error are in its text already.
        if !sentence.contains(&text) {
            sentence = format!("{sentence}: {text}");
        }
        cause = error.source();
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::handshake::Failure;

    #[test]
    fn a_missing_program_is_told_apart_by_its_error_number() {
        let missing = std::io::Error::from_raw_os_error(libc::ENOENT);
        let failure = Failure::of_program("nosuch", missing);
        let status = Status::from(Error::Launch(failure.into()));
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.metadata().get(EXEC_ERRNO).unwrap(), "2");
        assert_eq!(status.message(), "failed to execute \"nosuch\": no such file or directory");
    }

    #[test]
    fn an_image_that_cannot_be_mounted_is_told_apart() {
        let source = std::io::Error::from_raw_os_error(libc::EUCLEAN);
        let error = RootfsError::DamagedImage { device: "/dev/vda".into(), slot: 3, source };
        let status = Status::from(Error::Rootfs(error));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.metadata().get(DAMAGED_IMAGE).unwrap(), "3");
        assert!(status.message().starts_with("failed to mount /dev/vda as erofs: "), "{}", status.message());
        assert!(status.metadata().get(EXEC_ERRNO).is_none());
    }

    #[test]
    fn a_refused_feature_is_unimplemented() {
        let error = SpecError::Unsupported { field: "linux.intelRdt".into(), reason: "no" };
        assert_eq!(Status::from(Error::Spec(error)).code(), Code::Unimplemented);
    }
}
