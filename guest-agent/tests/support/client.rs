//! What a keeper does with the agent, in a few calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use theca_proto::containerd::services::tasks::v1::tasks_client::TasksClient;
use theca_proto::containerd::services::tasks::v1::*;
use theca_proto::theca::agent::v1::agent_client::AgentClient;
use theca_proto::theca::agent::v1::*;
use theca_proto::type_url::OCI_PROCESS;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Container;
use super::disk::{SCRATCH, SERIAL};

/// A process must do what it does within this.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both services and the stream port.
#[derive(Clone)]
pub struct Client {
    pub tasks: TasksClient<Channel>,
    pub agent: AgentClient<Channel>,
    pub channel: Channel,
    folder: PathBuf,
}

/// The host's ends of a process's streams.
pub struct Io {
    pub stdin: UnixStream,
    pub stdout: UnixStream,
    pub stderr: Option<UnixStream>,
}

/// A process that has ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: u32,
    pub stdout: String,
    pub stderr: String,
}

impl Client {
    pub async fn connect(folder: &Path) -> Self {
        let socket = folder.join("agent.sock");
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://agent");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let (tasks, agent) = (TasksClient::new(channel.clone()), AgentClient::new(channel.clone()));
        Self { tasks, agent, channel, folder: folder.to_owned() }
    }

    /// Mounts the root of a container from the busybox disk.
    pub async fn prepare(&mut self, id: &str, container: &Container) -> Result<(), Status> {
        let disk =
            |slot, serial: &str| Disk { slot, fs_type: "ext4".into(), serial: serial.into(), bytes: 0 };
        let rootfs = Rootfs {
            lowers: vec![disk(0, SERIAL)],
            upper: container.on_disk.then(|| disk(1, SCRATCH)),
            read_only: container.read_only,
            ..Default::default()
        };
        let request = PrepareRequest {
            container_id: id.into(),
            spec: container.spec.to_string().into(),
            rootfs: Some(rootfs),
            files: container.files.clone(),
        };
        self.agent.prepare(request).await.map(drop)
    }

    /// Prepares and creates a container whose streams are not looked at.
    pub async fn create_silent(&mut self, id: &str, container: &Container) -> Result<u32, Status> {
        self.prepare(id, container).await?;
        let request = CreateTaskRequest { container_id: id.into(), ..Default::default() };
        Ok(self.tasks.create(request).await?.into_inner().pid)
    }

    /// Prepares and creates a container with all its streams.
    pub async fn create(&mut self, id: &str, container: &Container) -> Result<(u32, Io), Status> {
        self.prepare(id, container).await?;
        let (io, names) = self.io(id, container.terminal).await;
        let [stdin, stdout, stderr] = names;
        let request = CreateTaskRequest {
            container_id: id.into(),
            stdin,
            stdout,
            stderr,
            terminal: container.terminal,
            ..Default::default()
        };
        Ok((self.tasks.create(request).await?.into_inner().pid, io))
    }

    pub async fn start(&mut self, id: &str) -> Result<(), Status> {
        self.tasks.start(StartTaskRequest { container_id: id.into() }).await.map(drop)
    }

    /// The whole life of a container without input.
    pub async fn run(&mut self, id: &str, container: &Container) -> Result<Ended, Status> {
        let (_, io) = self.create(id, container).await?;
        self.start(id).await?;
        let ended = self.finish(id, 0, io).await;
        self.delete(id).await?;
        Ok(ended)
    }

    /// Starts an exec of a line of shell.
    pub async fn exec(
        &mut self,
        id: &str,
        exec: &str,
        process: Value,
        terminal: bool,
    ) -> Result<(u32, Io), Status> {
        let (io, [stdin, stdout, stderr]) = self.io(exec, terminal).await;
        let spec = prost_types::Any { type_url: OCI_PROCESS.into(), value: process.to_string().into_bytes() };
        let request =
            ExecProcessRequest { container_id: id.into(), stdin, stdout, stderr, terminal, spec: Some(spec) };
        Ok((self.tasks.exec(request).await?.into_inner().pid, io))
    }

    /// A line of shell as an exec's process.
    pub fn shell(line: &str) -> Value {
        json!({"user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", line], "env": ["PATH=/bin"], "cwd": "/"})
    }

    /// Ends stdin, reads the output to its end and waits.
    pub async fn finish(&mut self, id: &str, pid: u32, io: Io) -> Ended {
        let Io { mut stdin, mut stdout, stderr } = io;
        let _ = stdin.shutdown().await;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let reading = async {
            let _ = stdout.read_to_end(&mut out).await;
            if let Some(mut stderr) = stderr {
                let _ = stderr.read_to_end(&mut err).await;
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the output has no end");
        let status = self.wait(id, pid).await;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { status, stdout: text(out), stderr: text(err) }
    }

    pub async fn wait(&mut self, id: &str, pid: u32) -> u32 {
        let waiting = self.agent.wait(WaitRequest { container_id: id.into(), pid, ..Default::default() });
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("it does not end")
            .unwrap()
            .into_inner()
            .exit_status
    }

    pub async fn kill(&mut self, id: &str, signal: i32, whom: kill_request::PidOrAll) -> Result<(), Status> {
        let request = KillRequest { container_id: id.into(), signal: signal as u32, pid_or_all: Some(whom) };
        self.tasks.kill(request).await.map(drop)
    }

    /// Deletes the task and releases the container.
    pub async fn delete(&mut self, id: &str) -> Result<u32, Status> {
        let deleted = self.tasks.delete(DeleteTaskRequest { container_id: id.into() }).await?.into_inner();
        self.agent.release(ReleaseRequest { container_id: id.into() }).await?;
        Ok(deleted.exit_status)
    }

    /// Dials three streams and names them after `id`.
    pub async fn io(&self, id: &str, terminal: bool) -> (Io, [String; 3]) {
        let names = ["in", "out", "err"].map(|stream| format!("{id}-{stream}"));
        let stderr = if terminal { None } else { Some(self.dial(&names[2]).await) };
        let io = Io { stdin: self.dial(&names[0]).await, stdout: self.dial(&names[1]).await, stderr };
        let [stdin, stdout, stderr] = names;
        (io, [stdin, stdout, if terminal { String::new() } else { stderr }])
    }

    pub async fn dial(&self, stream: &str) -> UnixStream {
        let mut connection = UnixStream::connect(self.folder.join("streams.sock")).await.unwrap();
        connection.write_all(format!("STREAM {stream}\n").as_bytes()).await.unwrap();
        connection
    }
}

impl Io {
    /// Reads output until it contains `text`.
    pub async fn expect(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let reading = async {
            while !seen.contains(text) {
                let mut piece = [0; 4096];
                let length = self.stdout.read(&mut piece).await.unwrap();
                assert!(length > 0, "the output ended after {seen:?}");
                seen.push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, reading).await;
        assert!(outcome.is_ok(), "{text:?} did not come, only {seen:?}");
        seen
    }
}
