//! What has happened in a sandbox: the keeper's own form.

use theca_controller::sandbox::history::{self, Happening, Page};
use theca_controller::task::Exit;
use theca_proto::theca::keeper::v1::event::What;
use theca_proto::theca::keeper::v1::{
    Created, Event, EventsResponse, ExecAdded, ExecStarted, Exited, OutOfMemory, Paused, Resumed, Started,
    VmEnded, VmReady,
};

use super::time;

/// Some events, with where to go on.
pub fn page(page: Page) -> EventsResponse {
    let Page { events, next, lost } = page;
    EventsResponse { events: events.into_iter().map(event).collect(), next, lost }
}

fn event(event: history::Event) -> Event {
    let history::Event { sequence, at, subject, happening } = event;
    Event {
        sequence,
        at: Some(time::wire(at)),
        container_id: subject.container.map(|id| id.to_string()).unwrap_or_default(),
        exec_id: subject.exec.map(|id| id.to_string()).unwrap_or_default(),
        pid: subject.guest_pid,
        what: Some(match happening {
            Happening::VmReady => What::VmReady(VmReady {}),
            Happening::VmEnded { reason, orderly } => What::VmEnded(VmEnded { reason, orderly }),
            Happening::Created(created) => {
                What::Created(Created { bundle: created.bundle.display().to_string() })
            }
            Happening::Started => What::Started(Started {}),
            Happening::ExecAdded => What::ExecAdded(ExecAdded {}),
            Happening::ExecStarted => What::ExecStarted(ExecStarted {}),
            Happening::Exited(exit) => What::Exited(exited(exit)),
            Happening::OutOfMemory => What::Oom(OutOfMemory {}),
            Happening::Paused => What::Paused(Paused {}),
            Happening::Resumed => What::Resumed(Resumed {}),
            Happening::Deleted(exit) => What::Deleted(exited(exit)),
        }),
    }
}

fn exited(exit: Exit) -> Exited {
    Exited { status: exit.status, at: Some(time::wire(exit.at)) }
}
