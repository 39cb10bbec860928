//! The two services, over one container.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use prost::Message;
use theca_proto::containerd::task::v3 as task;
use theca_proto::containerd::v1::types::Status;
use theca_proto::theca::keeper::v1 as keeper;
use theca_proto::ttrpc_glue::{Answer, status, status_with};
use theca_proto::type_url;
use ttrpc::Code;

use super::process::{Process, StartFailure, Stdio3};
use super::{Ledger, Shared};

/// SIGPWR, which this guest never comes to take.
const UNHEARD: u32 = 30;

/// See the module.
pub struct Service {
    pub ledger: Shared,
    state: PathBuf,
    paused: Mutex<bool>,
}

impl Service {
    pub fn new(state: PathBuf) -> Self {
        Self { ledger: Mutex::new(Ledger::default()), state, paused: Mutex::new(false) }
    }

    /// Kills all processes and removes the run folders.
    pub fn end(&self) {
        let ledger = self.ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for process in ledger.processes.values() {
            process.kill(9);
            process.give_up();
        }
        let _ = fs::remove_dir_all(self.state.join("default"));
    }

    fn called(&self, call: impl Into<String>) {
        self.ledger.lock().unwrap().calls.push(call.into());
    }

    fn process(&self, exec_id: &str) -> Answer<Arc<Process>> {
        let found = self.ledger.lock().unwrap().processes.get(exec_id).cloned();
        found.ok_or_else(|| status(Code::NOT_FOUND, "container not created"))
    }

    fn add(&self, exec_id: &str, spec: &serde_json::Value, stdio: Stdio3) {
        let texts = |value: &serde_json::Value| {
            let texts = value.as_array().cloned().unwrap_or_default();
            texts.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let process = Process::new(texts(&spec["args"]), texts(&spec["env"]), stdio);
        self.ledger.lock().unwrap().processes.insert(exec_id.to_owned(), Arc::new(process));
    }
}

#[async_trait]
impl task::task_ttrpc::Task for Service {
    async fn create(&self, request: task::CreateTaskRequest) -> Answer<task::CreateTaskResponse> {
        self.called("create");
        let config = fs::read(PathBuf::from(&request.bundle).join("config.json")).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let options = keeper::TaskOptions::decode(request.options.unwrap().value.as_slice()).unwrap();
        let (stdin, stdout, stderr) = (request.stdin, request.stdout, request.stderr);
        let (log, read) = (options.log_path, options.output_is_read);
        self.add("", &config["process"], Stdio3 { stdin, stdout, stderr, log, read });
        Ok(task::CreateTaskResponse { pid: 1 })
    }

    async fn start(&self, request: task::StartRequest) -> Answer<task::StartResponse> {
        self.called("start");
        let process = self.process(&request.exec_id)?;
        match process.start() {
            Ok(pid) => Ok(task::StartResponse { pid }),
            Err(failure) => {
                process.give_up();
                let (code, message, errno) = match failure {
                    StartFailure::NotFound(message) => (Code::NOT_FOUND, message, nix::libc::ENOENT),
                    StartFailure::NotExecutable(message) => {
                        (Code::PERMISSION_DENIED, message, nix::libc::EACCES)
                    }
                };
                let cause = keeper::failure::Cause::ProgramErrno(errno.unsigned_abs());
                let failure = keeper::Failure { cause: Some(cause) };
                Err(status_with(code, message, type_url::FAILURE, &failure))
            }
        }
    }

    async fn wait(&self, request: task::WaitRequest) -> Answer<task::WaitResponse> {
        self.called("wait");
        let process = self.process(&request.exec_id)?;
        let exit_status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap();
        Ok(task::WaitResponse { exit_status, exited_at: Some(std::time::SystemTime::now().into()) })
    }

    async fn kill(&self, request: task::KillRequest) -> Answer<()> {
        self.called(format!("kill {}", request.signal));
        if request.signal == UNHEARD {
            return Err(status(
                Code::DEADLINE_EXCEEDED,
                "the agent in the guest did not answer Kill within 60 s",
            ));
        }
        // A guest that hangs, for as long as a test wants.
        while self.state.with_file_name("hangs").exists() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        let process = self.process(&request.exec_id)?;
        match process.kill(request.signal.try_into().unwrap()) {
            true => Ok(()),
            false => Err(status(Code::NOT_FOUND, "process already finished")),
        }
    }

    async fn exec(&self, request: task::ExecProcessRequest) -> Answer<()> {
        self.called("exec");
        let options = keeper::ExecOptions::decode(request.spec.unwrap().value.as_slice()).unwrap();
        assert!(options.forget, "a killed command deletes nothing");
        let spec = serde_json::from_slice(&options.process).unwrap();
        let (stdin, stdout, stderr) = (request.stdin, request.stdout, request.stderr);
        let (log, read) = (String::new(), options.output_is_read);
        self.add(&request.exec_id, &spec, Stdio3 { stdin, stdout, stderr, log, read });
        Ok(())
    }

    async fn delete(&self, request: task::DeleteRequest) -> Answer<task::DeleteResponse> {
        self.called("delete");
        let process = self.process(&request.exec_id)?;
        let Some(exit_status) = process.ended() else {
            return Err(status(Code::FAILED_PRECONDITION, "it runs"));
        };
        self.ledger.lock().unwrap().processes.remove(&request.exec_id);
        Ok(task::DeleteResponse { exit_status, ..Default::default() })
    }

    async fn state(&self, request: task::StateRequest) -> Answer<task::StateResponse> {
        let process = self.process(&request.exec_id)?;
        let status = match (process.pid(), process.ended()) {
            (Some(_), _) if *self.paused.lock().unwrap() => Status::Paused,
            (Some(_), _) => Status::Running,
            (None, Some(_)) => Status::Stopped,
            (None, None) => Status::Created,
        };
        let pid = process.pid().unwrap_or(0);
        Ok(task::StateResponse { status: status.into(), pid, ..Default::default() })
    }

    async fn close_io(&self, request: task::CloseIoRequest) -> Answer<()> {
        self.called("close_io");
        self.process(&request.exec_id)?.close_stdin();
        Ok(())
    }

    async fn resize_pty(&self, request: task::ResizePtyRequest) -> Answer<()> {
        self.ledger.lock().unwrap().sizes.push((request.width, request.height));
        Ok(())
    }

    async fn pause(&self, _: task::PauseRequest) -> Answer<()> {
        *self.paused.lock().unwrap() = true;
        self.process("")?.kill(nix::libc::SIGSTOP);
        Ok(())
    }

    async fn resume(&self, _: task::ResumeRequest) -> Answer<()> {
        let mut paused = self.paused.lock().unwrap();
        if !*paused {
            return Err(status(Code::FAILED_PRECONDITION, "it is not paused"));
        }
        *paused = false;
        self.process("")?.kill(nix::libc::SIGCONT);
        Ok(())
    }

    async fn shutdown(&self, request: task::ShutdownRequest) -> Answer<()> {
        self.called("shutdown");
        assert!(request.now);
        self.end();
        for (_, process) in self.ledger.lock().unwrap().processes.drain() {
            process.lose();
        }
        Ok(())
    }

    async fn pids(&self, _: task::PidsRequest) -> Answer<task::PidsResponse> {
        Err(status(Code::UNIMPLEMENTED, "pids"))
    }

    async fn checkpoint(&self, _: task::CheckpointTaskRequest) -> Answer<()> {
        Err(status(Code::UNIMPLEMENTED, "checkpoint"))
    }

    async fn update(&self, _: task::UpdateTaskRequest) -> Answer<()> {
        Err(status(Code::UNIMPLEMENTED, "update"))
    }

    async fn stats(&self, _: task::StatsRequest) -> Answer<task::StatsResponse> {
        Err(status(Code::UNIMPLEMENTED, "stats"))
    }

    async fn connect(&self, _: task::ConnectRequest) -> Answer<task::ConnectResponse> {
        Err(status(Code::UNIMPLEMENTED, "connect"))
    }
}

#[async_trait]
impl keeper::keeper_ttrpc::Keeper for Service {
    async fn attach(&self, request: keeper::AttachRequest) -> Answer<keeper::AttachResponse> {
        self.called("attach");
        let process = self.process(&request.exec_id)?;
        let (stdin, stdout, stderr) = (request.stdin, request.stdout, request.stderr);
        process.attach(&Stdio3 { stdin, stdout, stderr, log: String::new(), read: true });
        Ok(keeper::AttachResponse { terminal: false })
    }

    async fn kernel_log(&self, _: keeper::KernelLogRequest) -> Answer<keeper::KernelLogResponse> {
        Ok(keeper::KernelLogResponse { data: "Linux version 6.12\n".into() })
    }

    async fn info(&self, _: keeper::InfoRequest) -> Answer<keeper::InfoResponse> {
        let phases = vec![keeper::Phase { name: "agent_ready".into(), at_us: 7 }];
        Ok(keeper::InfoResponse { keeper_pid: 11, vmm_pid: 12, vcpus: 1, phases, ..Default::default() })
    }

    async fn processes(&self, _: keeper::ProcessesRequest) -> Answer<keeper::ProcessesResponse> {
        Err(status(Code::UNIMPLEMENTED, "processes"))
    }

    async fn events(&self, _: keeper::EventsRequest) -> Answer<keeper::EventsResponse> {
        Err(status(Code::UNIMPLEMENTED, "events"))
    }

    async fn open_shim(&self, _: keeper::OpenShimRequest) -> Answer<keeper::OpenShimResponse> {
        Err(status(Code::UNIMPLEMENTED, "open_shim"))
    }

    async fn ready(&self, _: keeper::ReadyRequest) -> Answer<keeper::InfoResponse> {
        Err(status(Code::UNIMPLEMENTED, "ready"))
    }

    async fn set_allowance(&self, _: keeper::SetAllowanceRequest) -> Answer<keeper::SetAllowanceResponse> {
        Err(status(Code::UNIMPLEMENTED, "set_allowance"))
    }

    async fn ping(&self, _: keeper::PingRequest) -> Answer<keeper::PingResponse> {
        Err(status(Code::UNIMPLEMENTED, "ping"))
    }

    async fn pause(&self, _: keeper::PauseRequest) -> Answer<keeper::PauseResponse> {
        Err(status(Code::UNIMPLEMENTED, "pause"))
    }

    async fn resume(&self, _: keeper::ResumeRequest) -> Answer<keeper::ResumeResponse> {
        Err(status(Code::UNIMPLEMENTED, "resume"))
    }

    async fn metrics(&self, _: keeper::MetricsRequest) -> Answer<keeper::MetricsResponse> {
        Err(status(Code::UNIMPLEMENTED, "metrics"))
    }

    async fn shutdown(&self, _: keeper::ShutdownRequest) -> Answer<keeper::ShutdownResponse> {
        Err(status(Code::UNIMPLEMENTED, "shutdown"))
    }
}
