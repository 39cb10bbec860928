//! Updates of sandboxes, through keepers and restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sandbox::{Resize, Resources, Standing, UpdateSandbox, Wish};
use super::testing::Bench;
use super::{Error, Kind};
use crate::id::SandboxId;
use crate::node::keeper::Keeper;
use crate::sandbox::allowance::{Allowance, CpuQuota};

const MIB: u64 = 1 << 20;

fn quota(millis: u64) -> CpuQuota {
    CpuQuota::new(millis * 100, 100_000).unwrap()
}

fn no_more(millis: u64, memory_mib: u64) -> Option<Resize> {
    Some(Resize {
        cpu: Wish::AtMost(quota(millis)),
        memory: Wish::AtMost(memory_mib * MIB),
        ..Resize::default()
    })
}

async fn update(bench: &Bench, pod: &SandboxId, resources: Option<Resize>) -> Result<(), Error> {
    let update = UpdateSandbox { resources, ..UpdateSandbox::default() };
    bench.node.update_sandbox(&bench.namespace, pod, update).await
}

async fn in_force(bench: &Bench, pod: &str) -> Allowance {
    bench.keeper(pod).info().await.unwrap().allowance
}

#[tokio::test(start_paused = true)]
async fn limits_of_a_sandbox_that_runs_are_in_force_shown_and_outlive_thecad() {
    let mut bench = Bench::new().await;
    let pod = bench.sandbox("pod").await;
    update(&bench, &pod, no_more(700, 100)).await.unwrap();
    let wanted = Allowance { cpu: Some(quota(700)), memory_bytes: Some(100 * MIB) };
    assert_eq!(in_force(&bench, "pod").await, wanted);
    bench.kill().await;
    let status = bench.node.sandbox_status(&bench.namespace, &pod, true).await.unwrap();
    assert_eq!(status.resources.allowance, wanted);
    assert_eq!(
        (status.info["cpu_limit_milli"].as_str(), status.info["memory_limit_bytes"].as_str()),
        ("700", "104857600")
    );
    let all = Resize { cpu: Wish::All, memory: Wish::All, ..Resize::default() };
    update(&bench, &pod, Some(all)).await.unwrap();
    assert!(in_force(&bench, "pod").await.is_all());
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_runs_does_not_grow_and_a_paused_one_takes_nothing() {
    let bench = Bench::new().await;
    let pod = bench.sandbox("pod").await;
    for resize in [Resize { vcpus: 2, ..Resize::default() }, Resize { memory_mib: 257, ..Resize::default() }]
    {
        let error = update(&bench, &pod, Some(resize)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert!(error.to_string().contains("1 vCPU and 256 MiB and does not become larger"), "{error}");
    }
    bench.node.pause_sandbox(&bench.namespace, &pod).await.unwrap();
    assert_eq!(update(&bench, &pod, no_more(500, 64)).await.unwrap_err().kind(), Kind::FailedPrecondition);
    bench.node.resume_sandbox(&bench.namespace, &pod).await.unwrap();
    let status = bench.node.sandbox_status(&bench.namespace, &pod, false).await.unwrap();
    assert!(status.resources.allowance.is_all(), "what was refused is not kept");
}

#[tokio::test(start_paused = true)]
async fn before_the_start_everything_changes_and_then_words_for_the_kernel_do_not() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod: SandboxId = "pod".parse().unwrap();
    node.create_sandbox(ns, super::testing::sandbox("pod")).await.unwrap();
    let allowance = Allowance { cpu: Some(quota(1500)), memory_bytes: None };
    let fresh = Resources { vcpus: 2, memory_mib: 512, allowance };
    let words = |words: &[&str]| Some(words.iter().map(|&word| word.to_owned()).collect());
    let change = |kernel_args| UpdateSandbox { kernel_args, ..UpdateSandbox::default() };
    let resources = Some(Resize { fresh, vcpus: 2, memory_mib: 512, ..Resize::default() });
    node.update_sandbox(ns, &pod, UpdateSandbox { resources, ..change(words(&["quiet"])) }).await.unwrap();
    let refused = node.update_sandbox(ns, &pod, change(words(&["console=x"]))).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::InvalidArgument);
    let too_large = Resize { fresh: Resources { vcpus: 1000, ..fresh }, ..Resize::default() };
    assert_eq!(update(&bench, &pod, Some(too_large)).await.unwrap_err().kind(), Kind::InvalidArgument);

    node.start_sandbox(ns, &pod).await.unwrap();
    assert_eq!(in_force(&bench, "pod").await, allowance);
    node.update_sandbox(ns, &pod, change(words(&["quiet"]))).await.unwrap();
    let error = node.update_sandbox(ns, &pod, change(words(&["debug"]))).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    assert!(error.to_string().contains("kernel_args of sandbox pod cannot change"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn labels_and_annotations_of_options_come_beside_those_that_are_there() {
    let bench = Bench::new().await;
    let (node, ns) = (&bench.node, &bench.namespace);
    let pod = bench.sandbox("pod").await;
    let words = |key: &str| BTreeMap::from([(key.to_owned(), "x".to_owned())]);
    let first = UpdateSandbox { labels: Some(words("a")), ..UpdateSandbox::default() };
    node.update_sandbox(ns, &pod, first).await.unwrap();
    let more =
        UpdateSandbox { more_labels: words("b"), more_annotations: words("c"), ..UpdateSandbox::default() };
    node.update_sandbox(ns, &pod, more).await.unwrap();
    let status = node.sandbox_status(ns, &pod, true).await.unwrap();
    assert_eq!(status.labels.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(status.info["annotation.c"], "x");
    node.stop_sandbox(ns, &pod, None).await.unwrap();
    assert_eq!(node.sandbox_status(ns, &pod, false).await.unwrap().standing, Standing::Stopped);
    let late = node.update_sandbox(ns, &pod, UpdateSandbox::default()).await.unwrap_err();
    assert_eq!(late.kind(), Kind::FailedPrecondition);
}

#[tokio::test(start_paused = true)]
async fn an_update_goes_on_without_its_client_and_what_is_in_force_is_what_is_told() {
    let mut bench = Bench::new().await;
    let pod = bench.sandbox("pod").await;
    // Gone at once, before the keeper was asked.
    let given_up = tokio::time::timeout(Duration::ZERO, update(&bench, &pod, no_more(700, 100)));
    given_up.await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = bench.node.sandbox_status(&bench.namespace, &pod, false).await.unwrap();
    assert_eq!(status.resources.allowance, in_force(&bench, "pod").await);
    assert!(!status.resources.allowance.is_all());

    // A node that was killed between the two.
    let less = Allowance { cpu: Some(quota(300)), memory_bytes: None };
    bench.keeper("pod").allow(less).await.unwrap();
    bench.kill().await;
    let status = bench.node.sandbox_status(&bench.namespace, &pod, false).await.unwrap();
    assert_eq!(status.resources.allowance, less);

    // One that does not know of it, and is asked for what it believes to have.
    bench.keeper("pod").allow(Allowance::default()).await.unwrap();
    let same = Resize { cpu: Wish::AtMost(quota(300)), ..Resize::default() };
    update(&bench, &pod, Some(same)).await.unwrap();
    assert_eq!(in_force(&bench, "pod").await, less);
}
