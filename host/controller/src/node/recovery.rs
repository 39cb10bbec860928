//! What a node that begins makes of what it finds: what was written down, and what runs.
//!
//! | written down | its keeper | becomes |
//! | --- | --- | --- |
//! | created | serves, and its guest answers | adopted as ready: the start was cut off before its answer |
//! | created | – | created; what a start that was cut off has left is removed |
//! | created, for one container | – | nothing; if it was told that the container is there, that it is gone |
//! | ready or paused | serves | adopted; its events go on from the one that was told last |
//! | ready or paused | cannot be told | ready or paused; what needs its keeper is refused until that is found, or found gone |
//! | ready or paused | gone | stopped with 255, its tasks with 137, told once; nothing of it is left |
//! | stopped | – | stopped, until somebody fetches that |
//!
//! A container of 2015 that has ended, or was never started, is deleted: nobody else will do it.
//!
//! After a boot of the machine nothing is written down any more, and nothing runs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::Node;
use super::events::What;
use super::journal::SandboxEntry;
use super::keeper::{Answer, Keeper};
use super::sandbox::actor::Actor;
use super::sandbox::handle::Handle;
use super::sandbox::mirror::{Mirror, News};
use super::sandbox::{FAILED, Standing};
use super::task::record::lost_now;
use super::values::Exit;
use crate::id::{Namespace, SandboxId};

/// Sandboxes that are looked at at once. One whose keeper is stuck takes its time and not that of the others.
const AT_ONCE: usize = 32;
/// Pauses before a keeper that could not be reached is tried again; then it is looked for beside everything else.
const TRIES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// Takes over what is there. Answers when the ends that nobody saw are told, which whoever comes back will hear.
pub async fn recover(node: &Node) {
    let mut tasks = node.shared.journal.tasks.all();
    let mut under_way = JoinSet::new();
    for (namespace, entry) in node.shared.journal.sandboxes.all() {
        let mut mirror = Mirror::new(entry);
        // An earlier version wrote down what was asked for.
        mirror.entry.create.resources = mirror.entry.create.resources.resolved();
        let here: Vec<_> = tasks
            .extract_if(.., |(name, record)| *name == namespace && record.sandbox == mirror.entry.create.id)
            .collect();
        mirror.tasks.extend(here.into_iter().map(|(_, record)| (record.container.clone(), record)));
        if under_way.len() == AT_ONCE {
            under_way.join_next().await;
        }
        let node = node.clone();
        under_way.spawn(async move { recover_one(&node, namespace, mirror).await });
    }
    while under_way.join_next().await.is_some() {}
    // Their sandboxes are gone for good: they were being deleted.
    for (namespace, record) in tasks {
        if let Err(error) = node.shared.journal.tasks.remove(&namespace, record.container.as_str()) {
            warn!(container = %record.container, %error, "the record of a task without a sandbox stays");
        }
    }
    node.shared.bus.recovered();
    sweep(node, false);
}

/// What a creation that was cut off has left in the journal goes, when its keeper had time to tell of the container.
pub fn settle(node: &Node) {
    for handle in node.shared.sandboxes(None) {
        if handle.keeper().is_some() {
            node.change(&handle, Mirror::forget_passing);
        }
    }
    sweep(node, true);
}

/// Removes bundles that no container has: their creation was cut off. In a namespace where something runs, a keeper may be about
/// to tell of one that the process before asked it for; there they go when it had time to (`late`), or with the last sandbox.
/// Only for a node that has taken over everything.
pub fn sweep(node: &Node, late: bool) {
    let shared = &node.shared;
    for (namespace, id) in shared.journal.all_bundles() {
        let runs = |handle: &Arc<Handle>| {
            let standing = handle.mirror().entry.standing;
            let unknown = handle.keeper().is_none() || !late;
            matches!(standing, Standing::Ready | Standing::Paused) && unknown
        };
        if shared.is_container(&namespace, &id) || shared.sandboxes(Some(&namespace)).iter().any(runs) {
            continue;
        }
        info!(%namespace, container = %id, "the bundle of a container that was not created is removed");
        if let Err(error) = shared.journal.remove_bundle(&namespace, &id) {
            warn!(container = %id, %error, "a bundle stays");
        }
    }
}

async fn recover_one(node: &Node, namespace: Namespace, mut mirror: Mirror) {
    let entry = mirror.entry.clone();
    let id = entry.create.id.clone();
    let last = node.shared.bus.last_told(&namespace, &id);
    if let Some(last) = last.filter(|last| last.is_newer_than(entry.created_at, entry.revision)) {
        mirror.entry.revision = last.commit.1;
        mirror.retold = last.told;
    }
    let unfinished = entry.own_of_container && mirror.tasks.is_empty();
    let mut risen = None;
    let keeper = match entry.standing {
        _ if unfinished => Ok(None),
        Standing::Created => {
            let keeper = up(node, &namespace, &id).await;
            risen = keeper.as_ref().map(|(_, pid)| *pid);
            Ok(keeper.map(|(keeper, _)| keeper))
        }
        _ => reach(node, &namespace, &id).await,
    };
    if unfinished || (entry.standing == Standing::Created && risen.is_none()) {
        clear(node, &namespace, &entry).await;
    }
    if unfinished {
        take_back(node, &namespace, &mirror);
        if let Ok(container) = id.as_str().parse()
            && let Err(error) = node.shared.journal.remove_bundle(&namespace, &container)
        {
            warn!(%container, %error, "the bundle of a container that nobody was told of stays");
        }
        if let Err(error) = node.shared.journal.sandboxes.remove(&namespace, id.as_str()) {
            warn!(sandbox = %id, %error, "the record of a sandbox that nobody was told of stays");
        }
        return;
    }
    let containers: Vec<_> = mirror.tasks.keys().cloned().collect();
    let (handle, mut actor) = node.sandbox_of(&namespace, mirror);
    for container in &containers {
        // Ids were unique when they were written down.
        let _ = node.shared.reserve(&namespace, container, &id);
    }
    if let Err(error) = node.shared.add(handle.clone()) {
        warn!(sandbox = %id, %error, "a sandbox was written down twice");
        return;
    }
    if let Some(pid) = risen {
        node.rises(&handle, pid);
    }
    match keeper {
        Ok(keeper) => found(&mut actor, keeper).await,
        Err(error) => {
            warn!(sandbox = %id, %error, "the keeper of a sandbox cannot be reached for the moment");
            actor.search();
        }
    }
    node.shared.spawn(actor.run());
}

/// A container that was told to be there, and of which nothing else was done yet, is told to be gone.
fn take_back(node: &Node, namespace: &Namespace, mirror: &Mirror) {
    let entry = &mirror.entry;
    let exit = lost_now();
    let mut gone = Vec::new();
    for (container, what) in &mirror.retold {
        if let What::Created { pid, .. } = what {
            gone.push((container.clone(), What::Exited { exec: None, pid: *pid, exit, started: false }));
            gone.push((container.clone(), What::Deleted { exec: None, pid: *pid, exit }));
        }
    }
    let commit = Some((entry.created_at, entry.revision + 1));
    node.shared.bus.tell_all(namespace, &entry.create.id, commit, gone.into_iter());
}

/// The keeper of a sandbox, if there is one. That it cannot be told, since this process has no descriptor left or the keeper does
/// not get to its clients, is an error: it may be well.
async fn reach(node: &Node, namespace: &Namespace, id: &SandboxId) -> Answer<Option<Arc<dyn Keeper>>> {
    for pause in TRIES {
        match node.shared.keepers.connect(namespace, id).await {
            Ok(keeper) => return Ok(keeper),
            Err(error) => debug!(sandbox = %id, %error, "a keeper is not reached yet"),
        }
        sleep(pause).await;
    }
    node.shared.keepers.connect(namespace, id).await
}

/// The keeper and the VMM of a sandbox whose start was cut off, if that had got so far that the guest answers.
async fn up(node: &Node, namespace: &Namespace, id: &SandboxId) -> Option<(Arc<dyn Keeper>, u32)> {
    let keeper = reach(node, namespace, id).await.ok().flatten()?;
    let info = keeper.info().await.ok()?;
    let answers = !info.kernel_release.is_empty() && info.vm_failure.is_empty();
    answers.then_some((keeper, info.vmm_pid))
}

/// It is known now whether a sandbox has a keeper.
pub async fn found(actor: &mut Actor, keeper: Option<Arc<dyn Keeper>>) {
    let (node, handle) = (actor.node.clone(), actor.handle.clone());
    let entry = handle.mirror().entry.clone();
    let here: Vec<_> = handle.mirror().tasks.keys().cloned().collect();
    let runs = matches!(entry.standing, Standing::Ready | Standing::Paused);
    match keeper {
        Some(keeper) => adopt(&node, &handle, actor, keeper).await,
        None if runs => lost(&node, &handle, &entry).await,
        None => {}
    }
    if runs {
        // What was to come again has come.
        handle.mirror().retold.clear();
    }
    // The last node may have told an end and not come to what follows from that.
    node.delete_left(&handle, here);
}

async fn adopt(node: &Node, handle: &Arc<Handle>, actor: &mut Actor, keeper: Arc<dyn Keeper>) {
    handle.set_keeper(Some(keeper.clone()));
    if let Err(error) = node.catch_up(handle, &keeper).await {
        warn!(sandbox = %handle.id, %error, "the keeper does not tell what has happened");
    }
    // No event tells that an added process was deleted, which the last node may not have written down any more.
    node.look(handle, &keeper).await;
    if handle.mirror().entry.vm_over {
        handle.vm_over.notify_one();
    }
    match keeper.info().await {
        Ok(info) => {
            node.change(handle, |mirror| {
                mirror.entry.pid = info.vmm_pid;
                // The last node may have set limits and not come to note that.
                mirror.entry.create.resources.allowance = info.allowance;
                News { entry_changed: true, ..News::default() }
            });
            node.await_birth(handle, &keeper, info.containers);
            // The last node may have paused or resumed it and not come to note that.
            node.stands(handle, info.paused);
        }
        Err(error) => warn!(sandbox = %handle.id, %error, "the keeper does not tell of itself"),
    }
    actor.follow(keeper);
    // The last node may have forgotten the last task and not come to what follows from that.
    node.maybe_over(handle);
    info!(sandbox = %handle.id, "sandbox adopted");
}

async fn lost(node: &Node, handle: &Arc<Handle>, entry: &SandboxEntry) {
    let words = node.shared.keepers.last_words(&handle.namespace, &handle.id).await;
    clear(node, &handle.namespace, entry).await;
    let mut reason = "its keeper ended while thecad did not run".to_owned();
    if !words.is_empty() {
        reason.push_str("; the guest's last words:\n");
        reason.push_str(&words);
    }
    info!(sandbox = %handle.id, reason, "sandbox lost");
    let exit = Exit { status: FAILED, at: SystemTime::now() };
    node.change(handle, |mirror| mirror.ended(exit, reason));
}

async fn clear(node: &Node, namespace: &Namespace, entry: &SandboxEntry) {
    let id = &entry.create.id;
    if let Err(error) = node.shared.keepers.clear(namespace, id).await {
        warn!(sandbox = %id, %error, "something of a sandbox stays");
    }
}
