use theca_controller::node::testing::Bench;
use theca_proto::containerd::v1::{Process, Status as Standing};
use tonic::Code;

use super::*;

/// The interface in front of a machine whose keepers are values.
struct Client {
    bench: Bench,
    service: Execution,
}

impl Client {
    async fn new() -> Self {
        let bench = Bench::new().await;
        Self { service: Execution::new(&bench.node), bench }
    }

    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", "tests".parse().unwrap());
        request
    }

    fn bundle(&self) -> String {
        let Source::Bundle(bundle) = self.bench.task("web", None).source else { unreachable!() };
        bundle.display().to_string()
    }

    async fn create(&self, id: &str) -> Result<CreateContainerResponse, Status> {
        let request =
            CreateContainerRequest { id: id.into(), bundle_path: self.bundle(), ..Default::default() };
        Ok(self.service.create_container(self.call(request)).await?.into_inner())
    }

    async fn start(&self, id: &str) -> Result<(), Status> {
        self.service.start_container(self.call(StartContainerRequest { id: id.into() })).await.map(drop)
    }

    async fn delete(&self, id: &str, pid: u32) -> Result<(), Status> {
        let request = DeleteContainerRequest { id: id.into(), pid };
        self.service.delete_container(self.call(request)).await.map(drop)
    }

    async fn standing(&self, id: &str) -> Result<Standing, Status> {
        let request = GetContainerRequest { id: id.into() };
        let answer = self.service.get_container(self.call(request)).await?.into_inner();
        Ok(answer.container.unwrap().status())
    }

    async fn add(&self, id: &str, args: &[&str]) -> Result<Process, Status> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = Some(Process { args, ..Default::default() });
        let request = StartProcessRequest { container_id: id.into(), process, ..Default::default() };
        Ok(self.service.start_process(self.call(request)).await?.into_inner().process.unwrap())
    }

    async fn process(&self, id: &str, pid: u32) -> Result<Process, Status> {
        let request = GetProcessRequest { container_id: id.into(), pid };
        Ok(self.service.get_process(self.call(request)).await?.into_inner().process.unwrap())
    }

    async fn signal(&self, id: &str, pid: u32) -> Result<(), Status> {
        let request = SignalProcessRequest { container_id: id.into(), pid, signal: 9 };
        self.service.signal_process(self.call(request)).await.map(drop)
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
    assert!(refusal.message().contains(words), "{refusal}");
}

#[tokio::test]
async fn a_container_is_created_then_started_and_at_last_deleted() {
    let client = Client::new().await;
    let made = client.create("web").await.unwrap();
    assert_eq!(made.container.as_ref().unwrap().status(), Standing::Created);
    assert_eq!(made.container.unwrap().bundle, client.bundle());
    let init = made.init_process.unwrap().pid;
    assert_ne!(init, 0);
    client.start("web").await.unwrap();
    assert_eq!(client.standing("web").await.unwrap(), Standing::Running);
    refused(client.delete("web", 0).await, Code::FailedPrecondition, "web");
    client.signal("web", init).await.unwrap();
    assert_eq!(client.standing("web").await.unwrap(), Standing::Stopped);
    assert_eq!(client.process("web", 0).await.unwrap().exit_status, 137);
    client.delete("web", init).await.unwrap();
    refused(client.standing("web").await, Code::NotFound, "container does not exist \"web\"");
}

#[tokio::test]
async fn the_four_calls_that_no_server_of_the_time_could_answer_are_answered() {
    let client = Client::new().await;
    client.create("web").await.unwrap();
    client.start("web").await.unwrap();
    let added = client.add("web", &["sleep"]).await.unwrap();
    assert_eq!(client.process("web", added.pid).await.unwrap().pid, added.pid);
    let list = || async {
        let request = ListProcessesRequest { container_id: "web".into() };
        client.service.list_processes(client.call(request)).await.unwrap().into_inner().processes
    };
    assert_eq!(list().await.len(), 2);
    client.signal("web", added.pid).await.unwrap();
    assert_eq!(client.process("web", added.pid).await.unwrap().exit_status, 137);
    let gone = DeleteProcessRequest { container_id: "web".into(), pid: added.pid };
    client.service.delete_process(client.call(gone)).await.unwrap();
    assert_eq!(list().await.len(), 1);
    let update = UpdateContainerRequest { container_id: "web".into(), bundle_path: client.bundle() };
    client.service.update_container(client.call(update)).await.unwrap();
}

#[tokio::test]
async fn a_container_is_listed_where_it_stands() {
    let client = Client::new().await;
    client.create("web").await.unwrap();
    client.start("web").await.unwrap();
    client.service.pause_container(client.call(PauseContainerRequest { id: "web".into() })).await.unwrap();
    let listed = client.service.list_containers(client.call(ListContainersRequest::default())).await.unwrap();
    assert_eq!(listed.into_inner().containers[0].status(), Standing::Paused);
    client.service.resume_container(client.call(ResumeContainerRequest { id: "web".into() })).await.unwrap();
    assert_eq!(client.standing("web").await.unwrap(), Standing::Running);
}

#[tokio::test]
async fn what_is_there_or_not_is_told_in_the_words_of_the_time() {
    let client = Client::new().await;
    refused(client.start("web").await, Code::NotFound, "container does not exist \"web\"");
    refused(client.add("web", &["sh"]).await, Code::NotFound, "container does not exist \"web\"");
    client.create("web").await.unwrap();
    refused(client.create("web").await, Code::AlreadyExists, "container \"web\" already exists");
    refused(
        client.process("web", 7777).await,
        Code::NotFound,
        "process 7777 does not exist in container web",
    );
    refused(client.delete("web", 7777).await, Code::NotFound, "process 7777 does not exist");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let client = Client::new().await;
    refused(client.create("../web").await, Code::InvalidArgument, "container id");
    let nowhere = CreateContainerRequest { id: "web".into(), ..Default::default() };
    let answer = client.service.create_container(client.call(nowhere)).await;
    refused(answer, Code::InvalidArgument, "empty bundle path");
    client.create("web").await.unwrap();
    refused(client.add("web", &["sh"]).await, Code::FailedPrecondition, "not started");
    client.start("web").await.unwrap();
    refused(client.start("web").await, Code::FailedPrecondition, "web");
    refused(client.add("web", &[]).await, Code::InvalidArgument, "no arguments");
    let nobody = StartProcessRequest { container_id: "web".into(), ..Default::default() };
    refused(client.service.start_process(client.call(nobody)).await, Code::InvalidArgument, "no process");
}

#[tokio::test]
async fn a_client_of_that_time_names_no_namespace() {
    let client = Client::new().await;
    let request =
        CreateContainerRequest { id: "web".into(), bundle_path: client.bundle(), ..Default::default() };
    client.service.create_container(Request::new(request)).await.unwrap();
    let default = "default".parse().unwrap();
    assert_eq!(client.bench.node.tasks(&default).await.unwrap().len(), 1);
}
