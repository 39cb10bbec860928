//! What becomes of a sandbox whose client goes before the answer.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::sandbox::{SandboxStatus, Standing};
use super::testing::{Bench, heard, sandbox};
use super::{Kind, Result};
use crate::id::SandboxId;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn pod() -> SandboxId {
    "pod".parse().unwrap()
}

async fn status(bench: &Bench) -> Result<SandboxStatus> {
    bench.node.sandbox_status(&bench.namespace, &pod(), false).await
}

/// From now on a keeper's call, or reaching one, takes a minute.
fn slow(bench: &Bench, call: &'static str) {
    bench.keepers.broken.lock().unwrap().insert(call);
}

fn quick(bench: &Bench) {
    bench.keepers.broken.lock().unwrap().clear();
}

#[tokio::test(start_paused = true)]
async fn a_start_that_nobody_waits_for_is_undone_and_the_next_one_boots_anew() {
    let bench = Bench::new().await;
    let (node, ns, pod) = (&bench.node, &bench.namespace, pod());
    let mut events = node.subscribe(ns);
    node.create_sandbox(ns, sandbox("pod")).await.unwrap();
    slow(&bench, "slow-ready");
    timeout(SECOND, node.start_sandbox(ns, &pod)).await.unwrap_err();
    sleep(2 * MINUTE).await;
    assert_eq!(status(&bench).await.unwrap().standing, Standing::Created);
    assert_eq!(bench.keepers.count(), 0);
    assert_eq!(heard(&mut events).await, [""; 0]);
    quick(&bench);
    node.start_sandbox(ns, &pod).await.unwrap();
    // Of one that is ready nothing is undone.
    let again = tokio::spawn({
        let (node, ns, pod) = (node.clone(), ns.clone(), pod.clone());
        async move { node.start_sandbox(&ns, &pod).await }
    });
    tokio::task::yield_now().await;
    again.abort();
    sleep(SECOND).await;
    assert_eq!(status(&bench).await.unwrap().standing, Standing::Ready);
    assert_eq!(heard(&mut events).await, ["pod up"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_goes_on_while_anybody_waits_for_it() {
    let bench = Bench::new().await;
    let (node, ns, pod) = (&bench.node, &bench.namespace, pod());
    node.create_sandbox(ns, sandbox("pod")).await.unwrap();
    slow(&bench, "slow-ready");
    let begun = Instant::now();
    let first = timeout(10 * SECOND, node.start_sandbox(ns, &pod));
    let second = async {
        sleep(5 * SECOND).await;
        node.start_sandbox(ns, &pod).await
    };
    let (first, second) = tokio::join!(first, second);
    first.unwrap_err();
    second.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 60, "it was booted once");
}

#[tokio::test(start_paused = true)]
async fn what_a_start_that_was_undone_has_left_is_removed_with_the_sandbox() {
    let bench = Bench::new().await;
    let (node, ns, pod) = (&bench.node, &bench.namespace, pod());
    node.create_sandbox(ns, sandbox("pod")).await.unwrap();
    slow(&bench, "slow-ready");
    let started = timeout(SECOND, node.start_sandbox(ns, &pod));
    let cut = async {
        sleep(SECOND / 2).await;
        slow(&bench, "clear");
    };
    tokio::join!(started, cut).0.unwrap_err();
    let refused = node.shutdown_sandbox(ns, &pod, None).await.unwrap_err();
    assert!(refused.to_string().contains("a mount is busy"), "{refused}");
    quick(&bench);
    node.shutdown_sandbox(ns, &pod, None).await.unwrap();
    assert_eq!(bench.keepers.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_to_end_tells_everybody_who_waits_for_it() {
    let bench = Bench::new().await;
    let (node, ns, pod) = (&bench.node, &bench.namespace, pod());
    node.create_sandbox(ns, sandbox("pod")).await.unwrap();
    slow(&bench, "slow-ready");
    let end = async {
        sleep(SECOND).await;
        node.shutdown_sandbox(ns, &pod, None).await
    };
    let starts = (node.start_sandbox(ns, &pod), node.start_sandbox(ns, &pod));
    let (first, second, end) = tokio::join!(starts.0, starts.1, end);
    for refused in [first.unwrap_err(), second.unwrap_err()] {
        assert_eq!(refused.to_string(), "cannot start sandbox pod, which was told to end");
    }
    end.unwrap();
    assert_eq!(bench.keepers.count(), 0);
    assert_eq!(bench.journal_files(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_was_to_be_created_and_started_is_forgotten() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    // While its id is looked at, and while it boots.
    for call in ["slow-connect", "slow-ready"] {
        slow(&bench, call);
        timeout(SECOND, node.run_sandbox(ns, sandbox("pod"))).await.unwrap_err();
        sleep(2 * MINUTE).await;
        assert_eq!(status(&bench).await.unwrap_err().kind(), Kind::NotFound, "{call}");
        assert_eq!((bench.keepers.count(), bench.journal_files()), (0, 0), "{call}");
        quick(&bench);
    }
    bench.sandbox("pod").await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_goes_on_without_its_client() {
    let bench = Bench::new().await;
    let (node, ns, pod) = (&bench.node, &bench.namespace, pod());
    slow(&bench, "slow-connect");
    timeout(SECOND, node.create_sandbox(ns, sandbox("pod"))).await.unwrap_err();
    sleep(2 * MINUTE).await;
    quick(&bench);
    assert_eq!(status(&bench).await.unwrap().standing, Standing::Created);
    node.start_sandbox(ns, &pod).await.unwrap();
}
