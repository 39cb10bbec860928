//! What happens when the journal cannot be written, or was not.

use super::Kind;
use super::sandbox::{Standing, UpdateSandbox};
use super::testing::{Bench, container, heard, sandbox};

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_written_down_fails_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    let (pod, web) = (bench.sandbox("pod").await, container("web"));
    bench.node.create_sandbox(&ns, sandbox("full")).await.unwrap();
    bench.does_not_fit("sandboxes", "full", true);
    let error = bench.node.start_sandbox(&ns, &"full".parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to write "), "{error}");
    bench.does_not_fit("sandboxes", "full", false);
    assert_eq!(bench.keepers.count(), 1, "only the pod");
    assert_eq!(bench.node.sandboxes(&ns).await.unwrap().len(), 1);
    // Nor is a container made that the next node would not know.
    bench.running("first", Some("pod")).await;
    bench.does_not_fit("tasks", "web", true);
    let error = bench.node.create_task(&ns, bench.task("web", Some("pod"))).await.unwrap_err();
    assert!(error.to_string().starts_with("failed to write "), "{error}");
    bench.does_not_fit("tasks", "web", false);
    assert_eq!(bench.node.task(&ns, &web).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(bench.keeper("pod").containers(), [container("first")]);
    let told = heard(&mut events).await;
    let full: Vec<_> = told.iter().filter(|line| line.starts_with("full")).collect();
    assert_eq!(full, ["full up", "full down 255"]);
    bench.kill().await;
    assert_eq!(bench.node.sandbox_status(&ns, &pod, false).await.unwrap().standing, Standing::Ready);
    bench.sandbox("full").await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_is_not_ended_for_a_start_that_was_not_written_down() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let mut events = bench.node.subscribe(&ns);
    bench.node.create_sandbox(&ns, sandbox("pod")).await.unwrap();
    let written = bench.written();
    let pod = "pod".parse().unwrap();
    bench.node.start_sandbox(&ns, &pod).await.unwrap();
    assert_eq!(heard(&mut events).await, ["pod up"]);
    let keeper = bench.keeper("pod");
    for guest_answers in [true, false] {
        bench.rewind(&written);
        if !guest_answers {
            keeper.fails("info");
        }
        bench.kill().await;
        let standing = bench.node.sandbox_status(&ns, &pod, false).await.unwrap().standing;
        assert_eq!(standing, if guest_answers { Standing::Ready } else { Standing::Created });
        assert_eq!(keeper.is_gone(), !guest_answers);
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_that_cannot_be_written_down_changes_nothing() {
    let mut bench = Bench::new().await;
    let ns = bench.namespace.clone();
    let pod = "pod".parse().unwrap();
    bench.node.create_sandbox(&ns, sandbox("pod")).await.unwrap();
    let labels = |bytes: usize| Some([("much".to_owned(), "x".repeat(bytes))].into());
    let update = |labels| UpdateSandbox { labels, ..UpdateSandbox::default() };
    let refused = bench.node.update_sandbox(&ns, &pod, update(labels(4 << 20))).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::ResourceExhausted);
    assert!(bench.node.start_sandbox(&ns, &pod).await.unwrap().labels.contains_key("team"));
    bench.node.update_sandbox(&ns, &pod, update(labels(1 << 20))).await.unwrap();
    bench.kill().await;
    let status = bench.node.sandbox_status(&ns, &pod, false).await.unwrap();
    assert_eq!((status.standing, status.labels["much"].len()), (Standing::Ready, 1 << 20));
}
