//! The exit codes of the command, in one place. They are docker's.
//!
//! | code  | meaning                                                   |
//! |-------|-----------------------------------------------------------|
//! | 125   | Theca itself failed, or was asked for what it does not do |
//! | 126   | the container's command cannot be executed                |
//! | 127   | the container's command was not found                     |
//! | 128+N | interrupted by signal N before the container started      |
//! | other | the container's own                                       |

use ttrpc::Code;

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
        match (source, error) {
            (Source::Image { reference, .. }, KeeperError::Refused { code, message })
                if message.contains("as erofs") =>
            {
                Self::DamagedImage {
                    image: reference.clone(),
                    source: KeeperError::Refused { code, message },
                }
            }
            (_, error) => error.into(),
        }
    }
}

impl From<KeeperError> for StartError {
    /// Runtimes tell these apart in words only, so the words decide where the status does not: runc's and the kernel's.
    fn from(error: KeeperError) -> Self {
        let KeeperError::Refused { code, message } = &error else { return Self::Other(error) };
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let of_command = says(&["exec", "command", "executable"]);
        let missing = *code == Code::NOT_FOUND || says(&["not found", "no such file", "No such file"]);
        let unfit = says(&["ermission denied", "xec format error", "s a directory"]);
        if of_command && missing {
            Self::NotFound(message.clone())
        } else if of_command && unfit || *code == Code::PERMISSION_DENIED {
            Self::NotExecutable(message.clone())
        } else {
            Self::Other(error)
        }
    }
}

/// The exit code that an error means.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<StartError>() {
        Some(StartError::NotFound(_)) => NOT_FOUND,
        Some(StartError::NotExecutable(_)) => NOT_EXECUTABLE,
        Some(StartError::Interrupted(signal)) => u8::try_from(128 + signal).unwrap_or(FAILED),
        Some(StartError::DamagedImage { .. } | StartError::Other(_) | StartError::Process(_)) | None => {
            FAILED
        }
    }
}

/// The exit code that repeats a container's exit status.
pub fn of_container(status: u32) -> u8 {
    u8::try_from(status & 0xff).unwrap_or(FAILED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_does_not_start_has_dockers_codes() {
        for (code, message, exit) in [
            (Code::NOT_FOUND, "exec \"foo\": executable file not found in $PATH", 127),
            (Code::UNKNOWN, "exec /bin/foo: no such file or directory", 127),
            (Code::PERMISSION_DENIED, "exec \"/etc/passwd\": permission denied", 126),
            (Code::UNKNOWN, "exec /x: exec format error", 126),
            (Code::NOT_FOUND, "container not created", 125),
            (Code::INTERNAL, "mount /proc: no such file or directory", 125),
            (Code::INVALID_ARGUMENT, "no user \"x\" in the container's /etc/passwd", 125),
        ] {
            let refused = KeeperError::Refused { code, message: message.into() };
            let error = anyhow::Error::from(StartError::from(refused));
            assert_eq!(exit_code(&error), exit, "{message}");
            assert!(format!("{error:#}").contains(message));
        }
        assert_eq!(exit_code(&StartError::Interrupted(2).into()), 130);
        assert_eq!(exit_code(&anyhow::anyhow!("anything")), 125);
    }

    #[test]
    fn a_container_s_status_is_passed_on() {
        assert_eq!(
            (of_container(0), of_container(7), of_container(137), of_container(255)),
            (0, 7, 137, 255)
        );
    }
}
