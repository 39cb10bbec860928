use super::*;

#[tokio::test]
async fn processes_are_listed_from_exec_to_delete_with_their_pids_in_the_guest() {
    let scene = Scene::begin("boots", SandboxOptions::default());
    scene.create("web").await.unwrap();
    scene.start("web").await.unwrap();
    let task = scene.sandbox.task(&"web".parse().unwrap()).await.unwrap();
    let spec = br#"{"args":["sleep","9"]}"#.to_vec();
    let add = AddProcess { exec: "shell".parse().unwrap(), io: IoRequest::default(), spec };
    task.ask(|reply| TaskRequest::Exec(Box::new(add), reply)).await.unwrap();
    let which = || Some("shell".parse().unwrap());
    let list = async || {
        let processes = task.ask(TaskRequest::Processes).await.unwrap();
        processes.into_iter().map(|process| (process.guest_pid, process.phase)).collect::<Vec<_>>()
    };
    assert_eq!(list().await, [(FIRST_PID, Phase::Running), (0, Phase::Added)]);
    task.ask(|reply| TaskRequest::Start(which(), reply)).await.unwrap();
    scene.agent.end(FIRST_PID + 1, 3);
    task.wait(which()).await.unwrap();
    assert_eq!(list().await, [(FIRST_PID, Phase::Running), (FIRST_PID + 1, Phase::Stopped)]);

    let processes = task.ask(TaskRequest::Processes).await.unwrap();
    let told = |number: usize| String::from_utf8(processes[number].spec.clone()).unwrap();
    assert_eq!(told(0), r#"{"args":["sh"]}"#, "as in the bundle");
    assert!(told(1).contains("sleep"));
    task.ask(|reply| TaskRequest::Delete(which(), reply)).await.unwrap();
    assert_eq!(list().await, [(FIRST_PID, Phase::Running)]);
}
