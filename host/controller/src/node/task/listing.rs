//! What a whole namespace has. All keepers are asked at once, and none is waited for long: one that is stuck takes its own time,
//! and what is known of its tasks is shown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::debug;

use super::{Process, Task};
use crate::id::{ContainerId, Namespace};
use crate::node::keeper::Keeper;
use crate::node::sandbox::handle::Handle;
use crate::node::{Node, Result};

/// How long a list waits for keepers.
const PATIENCE: Duration = Duration::from_secs(3);

impl Node {
    /// All tasks of a namespace, by container id.
    pub async fn tasks(&self, namespace: &Namespace) -> Result<Vec<Task>> {
        self.catch_up_all(namespace).await;
        Ok(self.listed(namespace).into_iter().map(|(task, _)| task).collect())
    }

    /// All tasks of a namespace with their processes, init first, by container id. Those of a keeper that does not answer are shown as
    /// they were known last.
    pub async fn tasks_with_processes(&self, namespace: &Namespace) -> Result<Vec<(Task, Vec<Process>)>> {
        self.catch_up_all(namespace).await;
        let mut under_way = JoinSet::new();
        for (handle, keeper) in self.reached(namespace) {
            let containers: Vec<_> = handle.mirror().tasks.keys().cloned().collect();
            for container in containers {
                let (node, handle, keeper) = (self.clone(), handle.clone(), keeper.clone());
                under_way.spawn(async move { node.describe_in(&handle, &keeper, &container).await });
            }
        }
        in_time(under_way).await;
        Ok(self.listed(namespace))
    }

    /// Takes what the keepers of a namespace have told by now, but for those that do not answer soon.
    pub(super) async fn catch_up_all(&self, namespace: &Namespace) {
        let mut under_way = JoinSet::new();
        for (handle, keeper) in self.reached(namespace) {
            let node = self.clone();
            under_way.spawn(async move {
                // A keeper that is stuck is not asked by everybody who lists.
                let Ok(turn) = handle.lists.clone().acquire_owned().await else { return };
                let (done, told) = oneshot::channel::<()>();
                let shared = node.shared.clone();
                // What was begun is done: a look at what was lost must not be.
                shared.spawn(async move {
                    // One that is gone is its actor's business.
                    let _ = node.catch_up(&handle, &keeper).await;
                    drop((turn, done));
                });
                let _ = told.await;
            });
        }
        in_time(under_way).await;
    }

    fn reached(&self, namespace: &Namespace) -> Vec<(Arc<Handle>, Arc<dyn Keeper>)> {
        let all = self.shared.sandboxes(Some(namespace)).into_iter();
        all.filter_map(|handle| handle.keeper().map(|keeper| (handle, keeper))).collect()
    }

    fn listed(&self, namespace: &Namespace) -> Vec<(Task, Vec<Process>)> {
        let mut tasks = Vec::new();
        for handle in self.shared.sandboxes(Some(namespace)) {
            let mirror = handle.mirror();
            tasks.extend(
                mirror.tasks.values().filter_map(|record| Some((record.task()?, record.processes()))),
            );
        }
        tasks.sort_by(|(one, _), (other, _)| one.container.cmp(&other.container));
        tasks
    }

    /// Takes over how a keeper describes the processes of one task, where it can be asked.
    pub(super) async fn describe_in(
        &self,
        handle: &Arc<Handle>,
        keeper: &Arc<dyn Keeper>,
        container: &ContainerId,
    ) {
        if let Ok(reports) = keeper.processes(container).await {
            self.change(handle, |mirror| mirror.describe(container, &reports));
        }
    }
}

async fn in_time(under_way: JoinSet<()>) {
    if timeout(PATIENCE, under_way.join_all()).await.is_err() {
        debug!("a keeper does not answer, and is not waited for");
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::node::task::{Exec, Phase};
    use crate::node::testing::Bench;
    use crate::node::values::Io;

    #[tokio::test(start_paused = true)]
    async fn keepers_that_do_not_answer_hold_up_no_list() {
        let mut bench = Bench::new().await;
        let ns = bench.namespace.clone();
        for id in ["stuck-1", "stuck-2", "stuck-3", "well"] {
            bench.sandbox(id).await;
            bench.running(&format!("in-{id}"), Some(id)).await;
            let sleep = Exec { exec: None, spec: b"{}".to_vec(), io: Io::default(), forget: false };
            bench.node.exec(&ns, &format!("in-{id}").parse().unwrap(), sleep).await.unwrap();
        }
        for id in ["stuck-1", "stuck-2", "stuck-3"] {
            bench.keeper(id).get_stuck();
        }
        let before = Instant::now();
        for _ in 0..20 {
            assert_eq!(bench.node.tasks(&ns).await.unwrap().len(), 4);
        }
        let unknown = bench.node.task(&ns, &"unknown".parse().unwrap()).await;
        assert_eq!(unknown.unwrap_err().kind(), crate::node::Kind::NotFound);
        assert!(before.elapsed() <= PATIENCE * 21, "{:?}", before.elapsed());
        // What the others tell is seen all the same.
        bench.make_at(&*bench.keeper("well"), "behind").await;
        let listed = bench.node.tasks_with_processes(&ns).await.unwrap();
        let shown: Vec<_> = listed.iter().map(|(task, all)| (task.container.as_str(), all.len())).collect();
        assert_eq!(
            shown,
            [("behind", 1), ("in-stuck-1", 2), ("in-stuck-2", 2), ("in-stuck-3", 2), ("in-well", 2)]
        );
        // One that cannot be reached has its tasks too.
        bench.keepers.unreachable.store(1000, std::sync::atomic::Ordering::Relaxed);
        bench.kill().await;
        let listed = bench.node.tasks_with_processes(&ns).await.unwrap();
        assert_eq!(listed.len(), 5);
        assert!(listed.iter().all(|(task, _)| task.init.phase == Phase::Running));
    }
}
