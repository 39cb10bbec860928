//! `theca.agent.v1.Agent`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use theca_proto::theca::agent::v1::agent_server::Agent;
use theca_proto::theca::agent::v1::*;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::{Stop, convert, kernel};
use crate::container::Sandbox;

/// The service: what the host needs beside the verbs on tasks.
pub struct Service {
    sandbox: Arc<Sandbox>,
    stop: Stop,
}

impl Service {
    /// Serves `sandbox`, and gives the word to `stop` once it was shut down.
    pub fn new(sandbox: Arc<Sandbox>, stop: Stop) -> Self {
        Self { sandbox, stop }
    }
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    async fn prepare(&self, request: Request<PrepareRequest>) -> Answer<PrepareResponse> {
        let PrepareRequest { container_id, spec, rootfs, files } = request.into_inner();
        let files = convert::files(files)?;
        self.sandbox.prepare(&container_id, spec, &convert::layers(rootfs)?, &files).await?;
        Ok(Response::new(PrepareResponse {}))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Answer<ReleaseResponse> {
        self.sandbox.release(&request.into_inner().container_id).await?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn wait(&self, request: Request<WaitRequest>) -> Answer<WaitResponse> {
        let WaitRequest { container_id, pid, output } = request.into_inner();
        let exit = match output {
            false => self.sandbox.wait(&container_id, pid).await?,
            true => self.sandbox.wait_for_output(&container_id, pid).await?,
        };
        Ok(Response::new(WaitResponse { exit_status: exit.status, exited_at: convert::timestamp(exit.at) }))
    }

    type EventsStream = Answers<Event>;

    async fn events(&self, _: Request<EventsRequest>) -> Answer<Self::EventsStream> {
        let events = BroadcastStream::new(self.sandbox.events());
        let cut_off = |_| Status::data_loss("events came faster than they were read; ask for them again");
        let events = events.map(move |event| event.map(convert::event).map_err(cut_off));
        Ok(Response::new(self.stop.ends(events)))
    }

    async fn stats(&self, request: Request<StatsRequest>) -> Answer<StatsResponse> {
        let files = self.sandbox.stats(&request.into_inner().container_id).await?;
        Ok(Response::new(StatsResponse { files }))
    }

    async fn update(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let UpdateRequest { container_id, resources } = request.into_inner();
        self.sandbox.update(&container_id, &resources).await?;
        Ok(Response::new(UpdateResponse {}))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        Ok(Response::new(kernel::info()?))
    }

    type KernelLogStream = Answers<KernelLogResponse>;

    async fn kernel_log(&self, _: Request<KernelLogRequest>) -> Answer<Self::KernelLogStream> {
        let pieces = kernel::log()?.into_iter().map(|data| Ok(KernelLogResponse { data: data.into() }));
        Ok(Response::new(Box::pin(tokio_stream::iter(pieces))))
    }

    async fn set_clock(&self, request: Request<SetClockRequest>) -> Answer<SetClockResponse> {
        let now =
            request.into_inner().now.ok_or_else(|| Status::invalid_argument("there is no time to set"))?;
        kernel::set_clock(now.seconds, now.nanos)?;
        Ok(Response::new(SetClockResponse {}))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<ShutdownResponse> {
        let patience = Duration::from_millis(request.into_inner().timeout_ms.into());
        self.sandbox.shut_down(patience).await;
        self.stop.ask();
        Ok(Response::new(ShutdownResponse {}))
    }
}
