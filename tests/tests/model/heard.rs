//! What the events of a story say: started → (execs) → exited, as often as a container was started; nothing twice, and init last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use theca_proto::types::Event;
use tonic::Streaming;

use crate::story::PATIENCE;

/// What lives, by container: pids of init and of the others.
#[derive(Debug, Default)]
struct Live(BTreeMap<String, (u32, BTreeSet<u32>)>);

impl Live {
    /// Whether it makes sense after all that was told before.
    fn hear(&mut self, event: &Event) -> bool {
        let (c, pid) = (event.id.clone(), event.pid);
        match event.r#type.as_str() {
            "start-container" => self.0.insert(c, (pid, BTreeSet::new())).is_none(),
            "start-process" => self.0.get_mut(&c).is_some_and(|(_, execs)| execs.insert(pid)),
            "exit" => match self.0.get_mut(&c) {
                Some((init, execs)) if *init == pid => execs.is_empty() && self.0.remove(&c).is_some(),
                Some((_, execs)) => execs.remove(&pid),
                None => false,
            },
            _ => true,
        }
    }
}

/// Reads what is told of a story whose containers are gone; an error says what does not make sense.
pub async fn to_the_end(events: &mut Streaming<Event>) -> Result<(), String> {
    let (mut live, mut told) = (Live::default(), Vec::new());
    loop {
        // All has ended, so what is not told yet is on its way.
        let patience = if live.0.is_empty() { Duration::ZERO } else { PATIENCE };
        let Ok(next) = tokio::time::timeout(patience, events.message()).await else { break };
        let event = next.unwrap().expect("the events go on");
        let fits = live.hear(&event);
        told.push(event);
        if !fits {
            return Err(format!("the last of these was told out of order: {told:#?}"));
        }
    }
    if live.0.is_empty() { Ok(()) } else { Err(format!("the end of {live:?} was not told")) }
}
