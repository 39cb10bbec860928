use prost_types::Any;
use theca_controller::node::store::ContainerRecord;
use theca_controller::node::testing::Bench;
use theca_controller::node::values::Payload;
use theca_proto::containerd::v1::types::{Descriptor, Status as Standing, Task as WireTask};
use tonic::{Code, Status};

use super::*;

/// The interface in front of a machine whose keepers are values.
struct Client {
    bench: Bench,
    tasks: TaskService,
}

impl Client {
    async fn new() -> Self {
        let bench = Bench::new().await;
        Self { tasks: TaskService::new(&bench.node), bench }
    }

    fn call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("containerd-namespace", "tests".parse().unwrap());
        request
    }

    async fn record(&self, id: &str) {
        let spec = Payload { type_url: String::new(), value: b"{\"hostname\":\"h\"}".to_vec() };
        let record = ContainerRecord { spec: Some(spec), ..ContainerRecord::new(id.parse().unwrap()) };
        self.bench.node.create_container_record(&self.bench.namespace, record).await.unwrap();
    }

    async fn create(&self, id: &str) -> Result<u32, Status> {
        let request = CreateTaskRequest { container_id: id.into(), ..Default::default() };
        Ok(self.tasks.create(self.call(request)).await?.into_inner().pid)
    }

    async fn running(&self, id: &str) -> u32 {
        self.record(id).await;
        let pid = self.create(id).await.unwrap();
        let start = StartTaskRequest { container_id: id.into() };
        self.tasks.start(self.call(start)).await.unwrap();
        pid
    }

    async fn get(&self, id: &str) -> Result<WireTask, Status> {
        let request = GetTaskRequest { container_id: id.into() };
        Ok(self.tasks.get(self.call(request)).await?.into_inner().task.unwrap())
    }

    async fn kill(&self, id: &str, pid_or_all: Option<PidOrAll>) -> Result<(), Status> {
        let request = KillRequest { container_id: id.into(), signal: 9, pid_or_all };
        self.tasks.kill(self.call(request)).await.map(drop)
    }

    async fn exec(&self, id: &str, spec: Option<Any>) -> Result<u32, Status> {
        let request = ExecProcessRequest { container_id: id.into(), spec, ..Default::default() };
        Ok(self.tasks.exec(self.call(request)).await?.into_inner().pid)
    }

    async fn delete(&self, id: &str) -> Result<u32, Status> {
        let request = DeleteTaskRequest { container_id: id.into() };
        Ok(self.tasks.delete(self.call(request)).await?.into_inner().exit_status)
    }

    async fn listed(&self, filter: &str) -> Result<Vec<String>, Status> {
        let request = ListTasksRequest { filter: filter.into() };
        let tasks = self.tasks.list(self.call(request)).await?.into_inner().tasks;
        Ok(tasks.into_iter().map(|task| task.container_id).collect())
    }
}

fn process() -> Option<Any> {
    Some(Any { type_url: theca_proto::type_url::OCI_PROCESS.into(), value: b"{\"args\":[\"sh\"]}".to_vec() })
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let refusal = answer.unwrap_err();
    assert_eq!(refusal.code(), code, "{refusal}");
    assert!(refusal.message().contains(words), "{refusal}");
}

#[tokio::test]
async fn a_task_is_made_of_the_containers_record() {
    let client = Client::new().await;
    refused(client.create("web").await, Code::NotFound, "web is not in the store");
    client.record("web").await;
    let pid = client.create("web").await.unwrap();
    let task = client.get("web").await.unwrap();
    assert_eq!((task.id.as_str(), task.pid, task.status()), ("web", pid, Standing::Created));
    assert_eq!(task.spec.unwrap().value, b"{\"hostname\":\"h\"}");
    refused(client.create("web").await, Code::AlreadyExists, "web");
}

#[tokio::test]
async fn a_signal_is_for_init_for_one_process_or_for_all() {
    let client = Client::new().await;
    for whom in [None, Some(PidOrAll::All(false)), Some(PidOrAll::All(true)), Some(PidOrAll::Pid(0))] {
        client.running("web").await;
        client.kill("web", whom).await.unwrap();
        assert_eq!(client.get("web").await.unwrap().status(), Standing::Stopped, "{whom:?}");
        refused(client.kill("web", whom).await, Code::NotFound, "process already finished");
        assert_eq!(client.delete("web").await.unwrap(), 137);
        let web = "web".parse().unwrap();
        client.bench.node.delete_container_record(&client.bench.namespace, &web).await.unwrap();
    }
    client.running("web").await;
    let pid = client.exec("web", process()).await.unwrap();
    client.kill("web", Some(PidOrAll::Pid(pid))).await.unwrap();
    assert_eq!(client.get("web").await.unwrap().status(), Standing::Running);
    let gone = || client.call(DeleteProcessRequest { container_id: "web".into(), pid });
    assert_eq!(client.tasks.delete_process(gone()).await.unwrap().into_inner().exit_status, 137);
    refused(client.tasks.delete_process(gone()).await, Code::NotFound, "does not exist in container web");
    refused(client.kill("web", Some(PidOrAll::Pid(7777))).await, Code::NotFound, "process 7777");
}

#[tokio::test]
async fn lists_have_a_filter() {
    let client = Client::new().await;
    client.running("web").await;
    client.record("db").await;
    client.create("db").await.unwrap();
    assert_eq!(client.listed("").await.unwrap(), ["db", "web"]);
    assert_eq!(client.listed("status==running").await.unwrap(), ["web"]);
    assert_eq!(client.listed("container_id==db,sandbox==db").await.unwrap(), ["db"]);
    refused(client.listed("id=db").await, Code::InvalidArgument, "filter");
}

#[tokio::test]
async fn what_does_not_fit_the_state_is_refused() {
    let client = Client::new().await;
    client.running("web").await;
    refused(client.delete("web").await, Code::FailedPrecondition, "web");
    let start = StartTaskRequest { container_id: "web".into() };
    refused(client.tasks.start(client.call(start)).await, Code::FailedPrecondition, "web");
    let resume = || client.call(ResumeTaskRequest { container_id: "web".into() });
    refused(client.tasks.resume(resume()).await, Code::FailedPrecondition, "web");
    client.tasks.pause(client.call(PauseTaskRequest { container_id: "web".into() })).await.unwrap();
    assert_eq!(client.get("web").await.unwrap().status(), Standing::Paused);
    client.tasks.resume(resume()).await.unwrap();
    client.kill("web", None).await.unwrap();
    refused(client.exec("web", process()).await, Code::FailedPrecondition, "web");
}

#[tokio::test]
async fn a_process_that_is_none_is_refused() {
    let client = Client::new().await;
    client.running("web").await;
    refused(client.exec("web", None).await, Code::InvalidArgument, "no specification");
    let note = Any { type_url: "example.Note".into(), value: b"{}".to_vec() };
    refused(client.exec("web", Some(note)).await, Code::InvalidArgument, "example.Note");
    let list = ListProcessesRequest { container_id: "web".into() };
    let listed = client.tasks.list_processes(client.call(list)).await.unwrap().into_inner();
    assert_eq!(listed.processes.len(), 1);
}

#[tokio::test]
async fn terminals_and_inputs_are_those_of_a_process_that_is_there() {
    let client = Client::new().await;
    client.running("web").await;
    let size = |pid| ResizePtyRequest { container_id: "web".into(), pid, width: 80, height: 24 };
    client.tasks.resize_pty(client.call(size(0))).await.unwrap();
    refused(client.tasks.resize_pty(client.call(size(7777))).await, Code::NotFound, "7777");
    for stdin in [true, false] {
        let close = |pid| CloseIoRequest { container_id: "web".into(), pid, stdin };
        client.tasks.close_io(client.call(close(0))).await.unwrap();
        refused(client.tasks.close_io(client.call(close(7777))).await, Code::NotFound, "7777");
    }
}

#[tokio::test]
async fn checkpoints_are_refused_by_name() {
    let client = Client::new().await;
    let checkpoint = CheckpointTaskRequest { container_id: "web".into(), ..Default::default() };
    refused(client.tasks.checkpoint(client.call(checkpoint)).await, Code::Unimplemented, "checkpoint");
    let checkpoint = Some(Descriptor::default());
    let restored = CreateTaskRequest { container_id: "web".into(), checkpoint, ..Default::default() };
    refused(client.tasks.create(client.call(restored)).await, Code::Unimplemented, "checkpoint");
}

#[tokio::test]
async fn a_namespace_is_asked_for() {
    let client = Client::new().await;
    let nameless = client.tasks.get(Request::new(GetTaskRequest { container_id: "web".into() })).await;
    refused(nameless, Code::FailedPrecondition, "namespace is required");
}
