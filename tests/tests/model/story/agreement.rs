//! What every interface has to show after a step, and what it shows.

use std::time::{Duration, Instant};

use theca_controller::node::sandbox::Standing;
use theca_controller::node::task::Phase;
use theca_controller::node::testing::model::Model;

use super::{PATIENCE, SANDBOXES, Story};
use crate::view::{View, phase};

/// Between two looks at what is on its way, which they slow down.
const PACE: Duration = Duration::from_millis(30);

impl Story<'_> {
    /// What ends by itself ends, and what goes with its end goes.
    fn what_follows(&mut self) {
        for ((c, exec), added) in &self.added {
            if added.brief && added.pid.is_some() {
                self.model.ends(c, Some(exec));
            }
        }
        for ((c, exec), _) in self.added.iter().filter(|(_, added)| added.fleeting) {
            let execs = self.model.containers.get_mut(c).map(|container| &mut container.execs);
            if let Some(execs) = execs.filter(|execs| execs.get(exec) == Some(&Phase::Stopped)) {
                execs.remove(exec);
            }
        }
        let over = |c: &&String| {
            self.model.containers.get(*c).is_some_and(|container| container.init == Phase::Stopped)
        };
        for c in self.fleeting.iter().filter(over).cloned().collect::<Vec<_>>() {
            self.model.delete(&c, false).unwrap();
        }
        let Model { containers, .. } = &self.model;
        self.fleeting.retain(|c| containers.contains_key(c));
        self.added
            .retain(|(c, exec), _| containers.get(c).is_some_and(|there| there.execs.contains_key(exec)));
    }

    /// Waits until every interface shows what the model does; or Tasks alone, which shows most, and added processes where there
    /// should be any.
    pub(super) async fn agree(&mut self, all: bool) {
        self.what_follows();
        let mut meant = self.meant();
        if !all {
            meant = View { containers: meant.containers, ..View::default() };
        }
        let begun = Instant::now();
        loop {
            let shown = self.in_time(self.shown(all)).await;
            if shown.as_ref() == Some(&meant) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{shown:#?} instead of {meant:#?}: {}", self.so_far());
            tokio::time::sleep(PACE).await;
        }
    }

    fn meant(&self) -> View {
        let standing = |standing: &Standing| match standing {
            Standing::Created => "created",
            Standing::Ready => "ready",
            Standing::Paused => "paused",
            Standing::Stopped => "stopped",
        };
        let sandboxes = self.model.sandboxes.iter().map(|(id, at)| (id.clone(), standing(at).to_owned()));
        let records = self.model.records.iter().cloned().collect();
        let limits = self.model.limits.iter().filter(|(id, _)| self.has_keeper(id));
        let limits = limits.map(|(id, millis)| (id.clone(), *millis)).collect();
        let mut view = View { sandboxes: sandboxes.collect(), limits, records, ..View::default() };
        for (id, container) in &self.model.containers {
            let pid = |exec: &String| self.added[&(id.clone(), exec.clone())].pid.unwrap_or(0);
            let execs = container.shown().into_iter().filter_map(|(exec, phase)| Some((pid(&exec?), phase)));
            view.add(id, container.init, execs.collect());
        }
        view
    }

    /// None while it changes.
    async fn shown(&self, all: bool) -> Option<View> {
        let mut view = View::default();
        for task in self.doors.containers().await {
            let asked = all || self.peopled.contains(&task.id);
            let processes = if asked { self.doors.processes(&task.id).await.ok()? } else { Vec::new() };
            let execs = processes.iter().skip(1).map(|one| (one.pid, phase(one.status())));
            view.add(&task.id, phase(task.status()), execs.collect());
        }
        (view.of_2016, view.of_2015) = Default::default();
        if !all {
            return Some(view);
        }
        for id in SANDBOXES {
            view.sandboxes.extend(self.doors.standing(id).await.map(|word| (id.to_owned(), word)));
            view.limits.extend(self.doors.limit(id).await.map(|millis| (id.to_owned(), millis)));
        }
        view.records = self.doors.records().await;
        for container in self.doors.containers_of_2016().await {
            view.of_2016.insert(container.id.clone(), container.status());
        }
        for container in self.doors.containers_of_2015().await {
            view.of_2015.insert(container.id, container.status);
        }
        Some(view)
    }
}
