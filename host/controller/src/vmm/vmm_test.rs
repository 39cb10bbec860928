//! The handle against processes that behave, and that do not.

use std::time::{Duration, Instant};

use theca_vmm_protocol::ExitReason;

use super::*;
use crate::testing::vmm::program;

struct Started {
    _folder: tempfile::TempDir,
    spawned: Spawned,
}

fn started(behaviour: &str) -> Started {
    let folder = tempfile::tempdir().unwrap();
    let program = program(folder.path(), behaviour);
    let spawned = Vmm::spawn(&program, Stdio::null(), tempfile::tempfile().unwrap()).unwrap();
    Started { _folder: folder, spawned }
}

#[tokio::test]
async fn a_vmm_that_is_stopped_ends_and_says_so() {
    let Started { spawned, .. } = &started("boots");
    spawned.vmm.stop();
    let end = spawned.vmm.ended().await;
    assert_eq!(end.reason, Some(ExitReason::Quit));
    assert!(end.is_orderly());
}

#[tokio::test]
async fn a_vmm_that_is_given_up_has_not_ended_in_an_orderly_way() {
    for behaviour in ["boots", "hangs"] {
        let Started { spawned, .. } = &started(behaviour);
        spawned.vmm.give_up("it is of no use");
        spawned.vmm.stop();
        let end = spawned.vmm.ended().await;
        assert_eq!((end.to_string().as_str(), end.is_orderly()), ("it is of no use", false), "{behaviour}");
    }
}

#[tokio::test]
async fn a_vmm_that_hangs_is_killed() {
    let Started { spawned, .. } = &started("hangs");
    let before = Instant::now();
    spawned.vmm.stop();
    let end = spawned.vmm.ended().await;
    assert!(end.to_string().starts_with("the VMM was killed by signal 9"), "{end}");
    assert!(before.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn who_waits_for_an_answer_hears_of_the_end() {
    let Started { spawned, .. } = &started("hangs");
    let answer = spawned.vmm.start();
    let pid = nix::unistd::Pid::from_raw(spawned.vmm.pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(matches!(answer.await, Err(VmmError::Ended)));
    assert!(spawned.vmm.end().is_some(), "the end is published before");
    assert!(matches!(spawned.vmm.start().await, Err(VmmError::Ended)));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let console = tempfile::tempfile().unwrap();
    let error = Vmm::spawn(Path::new("/nonexistent/theca-vmm"), Stdio::null(), console).err().unwrap();
    assert_eq!(error.to_string(), "failed to start /nonexistent/theca-vmm");
}
