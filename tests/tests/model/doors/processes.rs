//! Processes that are added to a container.

use prost_types::Any;
use serde_json::json;
use theca_proto::containerd::services::tasks::v1 as tasks;
use theca_proto::containerd::task::v3;
use theca_proto::containerd::task::v3::task_ttrpc::TaskClient;
use theca_proto::containerd::v1 as execution;
use theca_proto::containerd::v1::types as wire;
use theca_proto::theca::keeper::v1 as keeper;
use theca_proto::theca::keeper::v1::keeper_ttrpc::KeeperClient;
use theca_proto::type_url;
use theca_proto::types as api;

use super::{Answer, Door, Doors, any, plain, status};

impl Doors {
    /// Adds a process and starts it; answers its pid.
    pub async fn exec(&self, door: Door, id: &str, args: &[String]) -> Answer<u32> {
        let (container_id, args) = (id.to_owned(), args.to_vec());
        match door {
            Door::Api => {
                let request = api::AddProcessRequest { id: container_id, args, ..Default::default() };
                Ok(self.api.clone().add_process(request).await?.into_inner().pid)
            }
            Door::Execution => {
                let process = Some(execution::Process { args, ..Default::default() });
                let request = execution::StartProcessRequest { container_id, process, ..Default::default() };
                let started = self.execution.clone().start_process(request).await?.into_inner();
                Ok(started.process.unwrap_or_default().pid)
            }
            Door::Tasks => {
                let spec = Some(process(&args));
                let request = tasks::ExecProcessRequest { container_id, spec, ..Default::default() };
                Ok(self.tasks.clone().exec(request).await?.into_inner().pid)
            }
            Door::Keeper | Door::Shim => unreachable!("they are asked otherwise"),
        }
    }

    /// Adds a process, at the keeper.
    pub async fn add(&self, id: &str, sandbox: &str, exec: &str, args: &[String]) -> Answer<()> {
        let (id, exec_id, spec) = (id.to_owned(), exec.to_owned(), Some(process(args)));
        let request = v3::ExecProcessRequest { id, exec_id, spec, ..Default::default() };
        plain(self.keeper(sandbox).await.exec(request).await)
    }

    /// Starts an added process, at the keeper; answers its pid in the guest, which is not what the task API calls so.
    pub async fn start_process(&self, id: &str, sandbox: &str, exec: &str) -> Answer<u32> {
        let request = v3::StartRequest { id: id.to_owned(), exec_id: exec.to_owned() };
        let caller = self.caller(sandbox).await;
        TaskClient::new(caller.clone()).start(request).await.map_err(status)?;
        let request = keeper::ProcessesRequest { id: id.to_owned() };
        let there = KeeperClient::new(caller).processes(request).await.map_err(status)?.processes;
        let started = there.into_iter().find(|process| process.exec_id == exec);
        Ok(started.expect("it is there until it is deleted").pid)
    }

    /// Processes of a container, init first.
    pub async fn processes(&self, id: &str) -> Answer<Vec<wire::Process>> {
        let request = tasks::ListProcessesRequest { container_id: id.into() };
        Ok(self.tasks.clone().list_processes(request).await?.into_inner().processes)
    }
}

fn process(args: &[String]) -> Any {
    let process =
        json!({ "args": args, "cwd": "/", "env": ["PATH=/bin:/usr/bin"], "user": { "uid": 0, "gid": 0 } });
    any(type_url::OCI_PROCESS, process.to_string().into_bytes())
}
