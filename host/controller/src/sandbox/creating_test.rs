//! A task is there from the moment that it is asked for, also while its bundle is still read.
//!
//! The actor takes what was asked in one go in order, before it hears of a bundle: in these tests everything has one thread.

use super::*;

impl Scene {
    /// A task whose bundle takes a while to read.
    fn large_task(&self, id: &str) -> CreateTask {
        let bundle = self.root.path().join("large");
        fs::create_dir_all(&bundle).unwrap();
        let args = vec!["x"; 300_000];
        let config = serde_json::json!({"process": {"args": args}}).to_string();
        fs::write(bundle.join("config.json"), config).unwrap();
        CreateTask { bundle, ..self.task(id) }
    }
}

#[tokio::test]
async fn requests_for_a_task_whose_bundle_is_read_wait_and_its_name_is_taken() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let kill = |reply| TaskRequest::Kill { which: None, signal: 15, all: false, reply };
    let id = "web".parse().unwrap();
    let (created, phase, killed, again) = tokio::join!(
        scene.sandbox.create(scene.large_task("web")),
        scene.phase("web"),
        scene.sandbox.ask_task(&id, kill),
        scene.create("web"),
    );
    created.unwrap();
    assert_eq!(phase.unwrap(), Phase::Created);
    killed.unwrap();
    assert!(matches!(again, Err(Error::ContainerExists(_))), "{again:?}");
    assert_eq!(scene.agent.calls().iter().filter(|call| call.starts_with("create")).count(), 1);
    scene.sandbox.shutdown(true).await.unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn a_task_that_is_deleted_while_its_bundle_is_read_does_not_appear_later() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let (created, waited, deleted) =
        tokio::join!(scene.sandbox.create(scene.large_task("web")), scene.wait("web"), scene.delete("web"),);
    let created = created.unwrap_err().to_string();
    assert_eq!(created, "container web was deleted before it was made");
    for gone in [waited.map(drop), deleted.map(drop), scene.phase("web").await.map(drop)] {
        assert!(matches!(gone, Err(Error::UnknownContainer)), "{gone:?}");
    }
    assert_eq!(scene.sandbox.info().await.unwrap().vmm_pid, 0, "no VM was started for it");
    scene.create("web").await.unwrap();
    assert_eq!(scene.agent.calls(), ["prepare web [0]", "create web"]);
    scene.sandbox.shutdown(true).await.unwrap();
    scene.ends_without_trace().await;
}

#[tokio::test]
async fn requests_for_a_task_whose_bundle_cannot_be_read_hear_that_there_is_none() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    let nowhere = CreateTask { bundle: "/nonexistent".into(), ..scene.task("web") };
    let (created, phase) = tokio::join!(scene.sandbox.create(nowhere), scene.phase("web"));
    assert!(matches!(created, Err(Error::Bundle(_))), "{created:?}");
    assert!(matches!(phase, Err(Error::UnknownContainer)), "{phase:?}");
    scene.sandbox.shutdown(false).await.unwrap();
    scene.ends_without_trace().await;
}
