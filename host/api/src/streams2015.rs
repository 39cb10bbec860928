//! The two streams of `types.API`. Each is polled by its own connection only, as fast as its client reads, so a client that
//! stops reading holds up nobody else, and one that goes ends its stream.

use std::time::Duration;

use futures_util::{Stream, stream};
use theca_controller::id::{ContainerId, Namespace};
use theca_controller::node::events::{Event as Happened, Subscription, Told, What};
use theca_controller::node::keeper::Sample;
use theca_controller::node::{Error, Node};
use theca_proto::types::{Event, Stats};
use tonic::Status;

use crate::api2015::said;
use crate::convert::stats2015;
use crate::status::missed;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// Events of containers, until the client goes or the node closes. A client that has let its ring overflow is told so, and
/// that is its end: it has to ask State anew.
pub fn events(subscription: Subscription) -> impl Stream<Item = Result<Event, Status>> {
    stream::unfold(Some(subscription), |subscription| async move {
        let mut subscription = subscription?;
        loop {
            match subscription.next().await {
                Some(Told::Event(happened)) => {
                    if let Some(event) = event(&happened) {
                        return Some((Ok(event), Some(subscription)));
                    }
                }
                Some(Told::Missed(number)) => return Some((Err(missed(number)), None)),
                None => return Some((Err(said(Error::Closed)), None)),
            }
        }
    })
}

/// What a client of 2015 has a word for. A container that waits for its start is nothing to it, nor is the end of one that
/// never was started.
fn event(happened: &Happened) -> Option<Event> {
    let container = happened.container.as_ref()?;
    let event = |kind: &str| Event { r#type: kind.into(), id: container.to_string(), ..Event::default() };
    match &happened.what {
        What::Started { pid } => Some(Event { pid: *pid, ..event("start-container") }),
        What::Exited { pid, exit, started: true, .. } => {
            Some(Event { pid: *pid, status: exit.status, ..event("exit") })
        }
        What::ExecStarted { pid, .. } => Some(Event { pid: *pid, ..event("start-process") }),
        What::Paused => Some(event("pause")),
        What::Resumed => Some(event("resume")),
        What::OutOfMemory => Some(event("oom")),
        What::Exited { started: false, .. }
        | What::Created { .. }
        | What::Deleted { .. }
        | What::ExecAdded { .. }
        | What::SandboxStarted { .. }
        | What::SandboxExited { .. } => None,
    }
}

/// Samples of one container, `first` at once, until the client goes or the container does.
pub fn stats(
    node: Node,
    namespace: Namespace,
    id: ContainerId,
    first: Sample,
) -> impl Stream<Item = Result<Stats, Status>> {
    stream::unfold(Next::Ready(first), move |next| {
        let (node, namespace, id) = (node.clone(), namespace.clone(), id.clone());
        async move {
            let sample = match next {
                Next::Ready(sample) => Ok(sample),
                Next::Read => {
                    tokio::time::sleep(INTERVAL).await;
                    node.stats(&namespace, &id).await
                }
                Next::Over => return None,
            };
            match sample.and_then(|sample| stats2015::stats(&sample)) {
                Ok(stats) => Some((Ok(stats), Next::Read)),
                Err(Error::UnknownContainer(_)) => None,
                Err(error) => Some((Err(said(error)), Next::Over)),
            }
        }
    })
}

/// What a stream of samples does next.
enum Next {
    Ready(Sample),
    Read,
    Over,
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures_util::StreamExt;
    use theca_controller::id::SandboxId;
    use theca_controller::node::events::{Bus, RING};
    use theca_controller::node::values::Exit;
    use tonic::Code;

    use super::*;

    fn names() -> (Namespace, SandboxId, ContainerId) {
        ("default".parse().unwrap(), "pod".parse().unwrap(), "web".parse().unwrap())
    }

    #[tokio::test]
    async fn a_client_of_2015_is_told_what_it_has_words_for() {
        let (bus, (namespace, sandbox, web)) = (Bus::default(), names());
        let mut events = Box::pin(events(bus.subscribe(&namespace)));
        let exit = Exit { status: 3, at: SystemTime::now() };
        let exec: theca_controller::id::ExecId = "shell".parse().unwrap();
        bus.tell(&namespace, &sandbox, None, What::SandboxStarted { pid: 9 });
        for what in [
            What::Started { pid: 5 },
            What::ExecAdded { exec: exec.clone() },
            What::ExecStarted { exec: exec.clone(), pid: 6 },
            What::Paused,
            What::Resumed,
            What::Exited { exec: Some(exec), pid: 6, exit, started: true },
            What::Exited { exec: None, pid: 5, exit, started: true },
        ] {
            bus.tell(&namespace, &sandbox, Some(&web), what);
        }
        let mut told = Vec::new();
        for _ in 0..6 {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!(event.id, "web");
            told.push((event.r#type, event.pid, event.status));
        }
        let told: Vec<_> = told.iter().map(|(kind, pid, status)| (kind.as_str(), *pid, *status)).collect();
        assert_eq!(
            told,
            [
                ("start-container", 5, 0),
                ("start-process", 6, 0),
                ("pause", 0, 0),
                ("resume", 0, 0),
                ("exit", 6, 3),
                ("exit", 5, 3)
            ]
        );
    }

    #[tokio::test]
    async fn a_client_that_reads_too_slowly_is_told_so_and_nobody_else_is() {
        let (bus, (namespace, sandbox, web)) = (Bus::default(), names());
        let mut slow = Box::pin(events(bus.subscribe(&namespace)));
        let mut quick = Box::pin(events(bus.subscribe(&namespace)));
        for pid in 0..RING as u32 + 3 {
            bus.tell(&namespace, &sandbox, Some(&web), What::Started { pid });
            assert_eq!(quick.next().await.unwrap().unwrap().pid, pid);
        }
        let lost = slow.next().await.unwrap().unwrap_err();
        assert_eq!(lost.code(), Code::DataLoss);
        assert!(lost.message().starts_with("3 events were dropped"), "{lost}");
        assert!(slow.next().await.is_none());
    }
}
