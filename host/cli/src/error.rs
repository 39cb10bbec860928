//! The exit codes of the command, in one place. They are docker's.
//!
//! | code  | meaning                                                   |
//! |-------|-----------------------------------------------------------|
//! | 125   | Theca itself failed, or was asked for what it does not do |
//! | 126   | the container's command cannot be executed                |
//! | 127   | the container's command was not found                     |
//! | 128+N | interrupted by signal N before the container started, or  |
//! |       | the third time, when it would not end                     |
//! | other | the container's own                                       |

use nix::libc;
use theca_proto::theca::keeper::v1::failure::Cause;

use crate::container::Source;
use crate::keeper::KeeperError;

/// Theca itself failed.
pub const FAILED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;

/// The container's command did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Nothing of that name.
    #[error("{0}; check the command and the container's PATH")]
    NotFound(String),
    /// There, but no program that may be run.
    #[error("{0}; check its permissions and format")]
    NotExecutable(String),
    /// The guest cannot mount the image's disk.
    #[error("the disk of image {image} is damaged; remove it (`theca image rm -f {image}`) and get it again")]
    DamagedImage {
        /// As it was asked for.
        image: String,
        /// What the guest said.
        source: KeeperError,
    },
    /// Something else was wrong.
    #[error("failed to start the container")]
    Other(#[source] KeeperError),
    /// The same of a further process of it.
    #[error("failed to start the process")]
    Process(#[source] KeeperError),
    /// A signal came first.
    #[error("interrupted by signal {0} before the container started")]
    Interrupted(i32),
}

impl StartError {
    /// Of a process that was to be added to a running container.
    pub fn of_process(error: impl Into<Self>) -> Self {
        match error.into() {
            Self::Other(error) => Self::Process(error),
            told => told,
        }
    }

    /// Of a task that was not created, with a root from `source`.
    pub fn of_create(error: KeeperError, source: &Source) -> Self {
        match (source, &error) {
            (
                Source::Image { reference, .. },
                KeeperError::Refused { cause: Some(Cause::DamagedImage(_)), .. },
            ) => Self::DamagedImage { image: reference.clone(), source: error },
            _ => error.into(),
        }
    }
}

impl From<KeeperError> for StartError {
    /// By what the agent blames, which is never in the words: those may be of a hook, or quote a path.
    fn from(error: KeeperError) -> Self {
        match error {
            KeeperError::Refused { message, cause: Some(Cause::ProgramErrno(errno)), .. } => {
                match i32::try_from(errno) {
                    Ok(libc::ENOENT) => Self::NotFound(message),
                    _ => Self::NotExecutable(message),
                }
            }
            error => Self::Other(error),
        }
    }
}

/// The exit code that an error means.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<StartError>() {
        Some(StartError::NotFound(_)) => NOT_FOUND,
        Some(StartError::NotExecutable(_)) => NOT_EXECUTABLE,
        Some(StartError::Interrupted(signal)) => of_signal(*signal),
        Some(StartError::DamagedImage { .. } | StartError::Other(_) | StartError::Process(_)) | None => {
            FAILED
        }
    }
}

/// The exit code of a command that a signal has ended.
pub fn of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(FAILED)
}

/// The exit code that repeats a container's exit status.
pub fn of_container(status: u32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use ttrpc::Code;

    use super::*;

    fn refused(code: Code, message: &str, cause: Option<Cause>) -> KeeperError {
        KeeperError::Refused { code, message: message.into(), cause }
    }

    #[test]
    fn a_command_that_does_not_start_has_dockers_codes() {
        for (errno, exit) in [(libc::ENOENT, 127), (libc::EACCES, 126), (libc::ENOEXEC, 126)] {
            let cause = Cause::ProgramErrno(errno.unsigned_abs());
            let refused = refused(Code::UNKNOWN, "in whatever words", Some(cause));
            let error = anyhow::Error::from(StartError::from(refused));
            assert_eq!(exit_code(&error), exit);
            assert!(format!("{error:#}").contains("in whatever words"));
        }
        assert_eq!(exit_code(&StartError::Interrupted(2).into()), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), 125);
    }

    #[test]
    fn words_decide_no_exit_code() {
        for (code, message) in [
            (Code::FAILED_PRECONDITION, "failed to run the hook /usr/libexec/x: no such file or directory"),
            (Code::NOT_FOUND, "exec \"foo\": executable file not found in $PATH"),
            (Code::PERMISSION_DENIED, "exec /etc/passwd: permission denied"),
            (Code::NOT_FOUND, "container not created"),
            (Code::INTERNAL, "failed to mount /dev/vda as erofs"),
        ] {
            let source = Source::Image { reference: "debian".into(), id: "1".into(), disk: "/d".into() };
            let error = StartError::of_create(refused(code, message, None), &source);
            assert!(matches!(error, StartError::Other(_)), "{message}");
            assert_eq!(exit_code(&error.into()), FAILED, "{message}");
        }
    }

    #[test]
    fn a_damaged_disk_is_the_image_s_where_there_is_one() {
        let damaged = || refused(Code::INTERNAL, "failed to mount", Some(Cause::DamagedImage(true)));
        let image = Source::Image { reference: "debian".into(), id: "1".into(), disk: "/d".into() };
        assert!(matches!(StartError::of_create(damaged(), &image), StartError::DamagedImage { .. }));
        let folder = Source::Rootfs("/srv".into());
        assert!(matches!(StartError::of_create(damaged(), &folder), StartError::Other(_)));
    }

    #[test]
    fn a_container_s_status_is_passed_on() {
        assert_eq!(
            (of_container(0), of_container(7), of_container(137), of_container(255)),
            (0, 7, 137, 255)
        );
    }
}
