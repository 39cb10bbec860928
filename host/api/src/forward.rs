//! What happens to tasks, told to containerd: `containerd.services.events.ttrpc.v1.Events`.
//!
//! In order, each until it was taken: while containerd is away events wait in the sandbox's history, as many as that keeps.

use std::time::Duration;

use theca_controller::id::Namespace;
use theca_controller::sandbox::History;
use theca_controller::sandbox::history::FIRST;
use theca_proto::containerd::services::events::ttrpc::v1::ForwardRequest;
use theca_proto::containerd::services::events::ttrpc::v1::events_ttrpc::EventsClient;
use theca_proto::ttrpc_glue::Caller;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use ttrpc::r#async::Client;

use crate::convert::envelope;

/// Events that are looked at together.
const PAGE: usize = 64;
/// History is asked again after this without an event; it answers as soon as there is one.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Bound of one call, and of a connection.
const CALL: Duration = Duration::from_secs(5);
/// Between attempts.
const PAUSES: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(5)];

/// Forwards all events of `history` to the socket `address`, until the sandbox is gone and the last one was taken.
pub async fn run(history: History, namespace: Namespace, address: String) {
    let mut next = FIRST;
    let mut containerd = Containerd { address, client: None };
    while let Ok(page) = history.page(next, PAGE, PATIENCE).await {
        if page.lost > 0 {
            warn!(lost = page.lost, "containerd was away too long to hear of everything");
        }
        next = page.next;
        for event in page.events {
            if let Some(envelope) = envelope::wire(event, &namespace) {
                containerd.tell(ForwardRequest { envelope: Some(envelope) }).await;
            }
        }
    }
}

struct Containerd {
    address: String,
    client: Option<EventsClient>,
}

impl Containerd {
    /// Answers once it was taken, or refused: what containerd does not want it does not get again.
    async fn tell(&mut self, request: ForwardRequest) {
        for pause in PAUSES.into_iter().chain(std::iter::repeat(PAUSES[PAUSES.len() - 1])) {
            match self.try_tell(request.clone()).await {
                Ok(()) => return,
                Err(ttrpc::Error::RpcStatus(status)) if status.code() != ttrpc::Code::UNAVAILABLE => {
                    warn!(message = status.message(), "containerd refuses an event");
                    return;
                }
                Err(error) => {
                    debug!(%error, "containerd does not take an event");
                    self.client = None;
                    sleep(pause).await;
                }
            }
        }
    }

    async fn try_tell(&mut self, request: ForwardRequest) -> ttrpc::Result<()> {
        let late = |_| ttrpc::Error::Others("it does not answer".into());
        let client = match &mut self.client {
            Some(client) => client,
            None => {
                let address = format!("unix://{}", self.address.trim_start_matches("unix://"));
                let client = timeout(CALL, Client::connect(&address)).await.map_err(late)??;
                self.client.insert(EventsClient::new(Caller::new(client)))
            }
        };
        timeout(CALL, client.forward(request)).await.map_err(late)?
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::SystemTime;

    use async_trait::async_trait;
    use prost::Message;
    use theca_controller::sandbox::history::{Created, Happening, Subject};
    use theca_controller::task::Exit;
    use theca_proto::containerd::events::TaskExit;
    use theca_proto::containerd::services::events::ttrpc::v1::events_ttrpc::{self, Events};
    use theca_proto::containerd::types::Envelope;
    use theca_proto::ttrpc_glue::Answer;
    use ttrpc::r#async::Server;

    use super::*;

    #[derive(Clone, Default)]
    struct FakeContainerd(Arc<Mutex<Vec<Envelope>>>);

    #[async_trait]
    impl Events for FakeContainerd {
        async fn forward(&self, request: ForwardRequest) -> Answer<()> {
            self.0.lock().unwrap().extend(request.envelope);
            Ok(())
        }
    }

    fn tell(history: &History, exec: Option<&str>, happening: Happening) {
        let container = Some("web".parse().unwrap());
        let exec = exec.map(|exec| exec.parse().unwrap());
        history.record(Subject { container, exec, pid: 4242, guest_pid: 7 }, happening);
    }

    #[tokio::test]
    async fn events_reach_a_containerd_that_comes_late_in_order_and_to_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("containerd.sock.ttrpc");
        let history = History::default();
        let namespace = "k8s.io".parse().unwrap();
        let forwarding = tokio::spawn(run(history.clone(), namespace, path.display().to_string()));
        let exit = Exit { status: 3, at: SystemTime::now() };
        history.record(Subject::default(), Happening::VmReady);
        tell(&history, None, Happening::Created(Arc::new(Created::default())));
        tell(&history, None, Happening::Started);
        tell(&history, Some("sh"), Happening::ExecAdded);
        tell(&history, Some("sh"), Happening::ExecStarted);
        tell(&history, None, Happening::OutOfMemory);
        tell(&history, None, Happening::Paused);
        tell(&history, None, Happening::Resumed);
        tell(&history, Some("sh"), Happening::Exited(exit));
        tell(&history, None, Happening::Exited(exit));
        tell(&history, None, Happening::Deleted(exit));
        history.close();

        let containerd = FakeContainerd::default();
        let service = events_ttrpc::serve(Arc::new(containerd.clone())).into_services();
        let address = format!("unix://{}", path.display());
        let mut server = Server::new().bind(&address).unwrap().register_service(service);
        server.start().await.unwrap();
        timeout(Duration::from_secs(20), forwarding).await.unwrap().unwrap();
        let told = containerd.0.lock().unwrap().clone();
        let topics: Vec<_> = told.iter().map(|envelope| envelope.topic.as_str()).collect();
        let expected = [
            "/tasks/create",
            "/tasks/start",
            "/tasks/exec-added",
            "/tasks/exec-started",
            "/tasks/oom",
            "/tasks/paused",
            "/tasks/resumed",
            "/tasks/exit",
            "/tasks/exit",
            "/tasks/delete",
        ];
        assert_eq!(topics, expected);
        assert!(told.iter().all(|envelope| envelope.namespace == "k8s.io" && envelope.timestamp.is_some()));
        let exits: Vec<_> = told
            .iter()
            .filter_map(|envelope| envelope.event.as_ref())
            .filter(|event| event.type_url == "containerd.events.TaskExit")
            .map(|event| TaskExit::decode(event.value.as_slice()).unwrap())
            .map(|exit| (exit.container_id, exit.id, exit.pid, exit.exit_status))
            .collect();
        let exit = |id: &str| ("web".to_owned(), id.to_owned(), 4242, 3);
        assert_eq!(exits, [exit("sh"), exit("web")]);
    }
}
