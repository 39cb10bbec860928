//! Bringing records up to date with what has become of their sandboxes.
//!
//! ```text
//!  lock    phase      keeper                 what is done
//!  taken   any        any                    nothing: a command drives it
//!  free    none       any                    its making was cut short: remove it, unless it is being made right now
//!  free    Starting   any                    `run` died: end the sandbox, remove the container
//!  free    Started    task runs              nothing
//!  free    Started    task has ended         take its status, end the sandbox, Exited or removed (--rm)
//!  free    Started    task was never begun   `start` died: end the sandbox, Exited
//!  free    Started    none                   the keeper or the machine died: Exited or removed (--rm)
//! ```

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::Context;
use theca_proto::containerd::v1::types::Status;

use super::held::Held;
use super::lock::Lock;
use super::record::{Exit, Phase, Record};
use super::shelf::Shelf;
use super::{ContainerId, RecordError};
use crate::keeper::{Keeper, KeeperError};
use crate::output::time::now_ms;

/// How long a command that ends a container waits for the one that drives it to record that.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a sandbox that died without a word leaves as its container's status: as if it had been killed.
const LOST: u32 = 137;

/// A container as it stands.
pub struct Settled {
    /// Its record, up to date.
    pub record: Record,
    /// Its keeper and what the task is doing, while it lives.
    pub live: Option<(Keeper, Status)>,
}

/// How one container stands, after bringing its record up to date if nobody drives it. `None`: it is gone, perhaps just
/// now.
pub async fn settle(shelf: &Shelf, id: &ContainerId) -> anyhow::Result<Option<Settled>> {
    let folder = shelf.folder(id);
    if !folder.path().exists() {
        return Ok(None);
    }
    match Lock::try_take(&folder.lock()) {
        Ok(Some(lock)) => settle_locked(shelf, id, lock).await,
        Ok(None) => observe(shelf, id).await,
        // The driver has just removed the folder.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("failed to lock container {}", id.short())),
    }
}

/// Like [`settle`], but waits for a command that drives the container, which is about to notice its end.
pub async fn settle_after_end(shelf: &Shelf, id: &ContainerId) -> anyhow::Result<Option<Settled>> {
    let folder = shelf.folder(id);
    if !folder.path().exists() {
        return Ok(None);
    }
    match Lock::take_within(&folder.lock(), PATIENCE).await {
        Ok(Some(lock)) => settle_locked(shelf, id, lock).await,
        Ok(None) => observe(shelf, id).await,
        // The driver removed the folder.
        Err(_) => Ok(None),
    }
}

/// Settles every container. Those that cannot be settled are left as they are, with a word: what a command did for a
/// container of its own is not undone by others.
pub async fn sweep(shelf: &Shelf) {
    let ids = shelf.ids().unwrap_or_else(|error| {
        let error = anyhow::Error::from(error);
        crate::output::warn(&format!("other containers are left as they are: {error:#}"));
        Vec::new()
    });
    for id in ids {
        if let Err(error) = settle(shelf, &id).await {
            crate::output::warn(&format!("container {} is left as it is: {error:#}", id.short()));
        }
    }
}

/// What a driven container looks like from outside.
async fn observe(shelf: &Shelf, id: &ContainerId) -> anyhow::Result<Option<Settled>> {
    let Some(record) = shelf.record(id)? else { return Ok(None) };
    let live = match Keeper::connect(&shelf.roots().keeper_socket(id), id.as_str()).await? {
        Some(keeper) => status(&keeper).await?.map(|status| (keeper, status)),
        None => None,
    };
    Ok(Some(Settled { record, live }))
}

async fn settle_locked(shelf: &Shelf, id: &ContainerId, lock: Lock) -> anyhow::Result<Option<Settled>> {
    let record = match shelf.record(id) {
        Ok(Some(record)) => record,
        Ok(None) => {
            // Whoever makes it waits for this lock next.
            drop(lock);
            return clear_unmade(shelf, id).await;
        }
        Err(error @ (RecordError::Read { .. } | RecordError::Damaged { .. })) => return Err(error.into()),
    };
    let held = Held::new(shelf.clone(), record, lock);
    if matches!(held.record.phase, Phase::Created | Phase::Exited(_)) {
        return Ok(Some(Settled { record: held.record.clone(), live: None }));
    }
    let keeper = Keeper::connect(&shelf.roots().keeper_socket(id), id.as_str()).await?;
    let status = match &keeper {
        Some(keeper) => status(keeper).await?,
        None => None,
    };
    match (held.record.phase.clone(), keeper, status) {
        (Phase::Started { .. }, Some(keeper), Some(status @ (Status::Running | Status::Paused))) => {
            Ok(Some(Settled { record: held.record.clone(), live: Some((keeper, status)) }))
        }
        (Phase::Started { .. }, Some(keeper), Some(Status::Stopped)) => {
            let (status, finished_ms) = keeper.wait("").await?;
            let failure = keeper.failure_behind(status).await;
            finish(held, Some(&keeper), status, finished_ms, failure).await
        }
        (Phase::Started { .. }, keeper, _) => {
            let why = match keeper {
                Some(_) => "the command that started it was interrupted",
                None => "its sandbox ended without a word: the keeper was killed or the machine restarted",
            };
            finish(held, keeper.as_ref(), LOST, now_ms(), Some(why.to_owned())).await
        }
        (_, keeper, _) => {
            if let Some(keeper) = keeper {
                keeper.shutdown().await?;
            }
            held.remove()?;
            Ok(None)
        }
    }
}

/// A folder without a record: it is being made, or its making was cut short. Containers are made one after the other, so
/// once none is being made, one that still has no record never will.
async fn clear_unmade(shelf: &Shelf, id: &ContainerId) -> anyhow::Result<Option<Settled>> {
    let nobody_makes = shelf.lock_names_within(PATIENCE).await?;
    if nobody_makes.is_some() && shelf.record(id)?.is_none() {
        shelf.remove(id, None)?;
        return Ok(None);
    }
    drop(nobody_makes);
    // It is there now, and whoever made it drives it.
    observe(shelf, id).await
}

/// Ends the sandbox of a container whose task has ended, and records how it ended, or removes it if it was to be removed.
pub async fn finish(
    mut held: Held,
    keeper: Option<&Keeper>,
    status: u32,
    finished_ms: u64,
    error: Option<String>,
) -> anyhow::Result<Option<Settled>> {
    let sandbox = held.shelf().roots().sandbox(&held.record.id);
    let mut oom_killed = false;
    if !held.record.settings.auto_remove {
        keep_kernel_log(&held, keeper).await;
        oom_killed = match keeper {
            Some(keeper) => keeper.oom_killed().await,
            None => false,
        };
    }
    if let Some(keeper) = keeper {
        end_sandbox(keeper).await?;
    }
    if held.record.settings.auto_remove {
        held.remove()?;
        return Ok(None);
    }
    // What a killed keeper left.
    let _ = fs::remove_dir_all(&sandbox);
    let started_ms = held.record.started_ms().unwrap_or(finished_ms);
    held.enter(Phase::Exited(Exit { status, started_ms, finished_ms, oom_killed, error }))?;
    Ok(Some(Settled { record: held.record.clone(), live: None }))
}

/// For `theca console` of a container at rest. A guest that no longer answers has told its console what it could.
async fn keep_kernel_log(held: &Held, keeper: Option<&Keeper>) {
    let told = match keeper {
        Some(keeper) => keeper.kernel_log().await.ok().filter(|log| !log.is_empty()),
        None => None,
    };
    let path = held.folder().console();
    // A log that cannot be kept is missed by `console`, which says so.
    let _ = match told {
        Some(log) => fs::write(path, log),
        None => fs::copy(held.shelf().roots().sandbox(&held.record.id).join("console.log"), path).map(drop),
    };
}

/// Deletes an ended task and ends its sandbox. A sandbox that has already gone is fine.
async fn end_sandbox(keeper: &Keeper) -> Result<(), KeeperError> {
    // Whatever it answers, Shutdown ends it all the same.
    let _ = keeper.delete("").await;
    keeper.shutdown().await
}

/// What the task is doing; `None` if there is no task, or the keeper has just gone.
async fn status(keeper: &Keeper) -> Result<Option<Status>, KeeperError> {
    match keeper.state().await {
        Ok(state) => Ok(Some(state.status())),
        Err(error) if error.is_not_found() || error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::{Roots, record_for_tests};
    use super::*;

    fn a_shelf() -> (tempfile::TempDir, Shelf) {
        let folder = tempfile::tempdir().unwrap();
        let shelf = Shelf::new(Roots::below(folder.path()));
        (folder, shelf)
    }

    #[tokio::test]
    async fn a_container_that_is_being_made_is_not_taken_for_the_rest_of_one() {
        let (_folder, shelf) = a_shelf();
        let record = record_for_tests("web");
        let folder = shelf.folder(&record.id);
        // What `Shelf::add` has done when it is about to take the container's lock.
        let making = shelf.lock_names_within(PATIENCE).await.unwrap().expect("nobody else makes one");
        fs::create_dir_all(folder.bundle()).unwrap();
        let goes_on = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let lock = Lock::try_take(&folder.lock()).unwrap().expect("settling waits without it");
            record.write(&folder.record()).unwrap();
            drop(making);
            lock
        };
        let (settled, _lock) = tokio::join!(settle(&shelf, &record.id), goes_on);
        assert_eq!(settled.unwrap().expect("it is there").record, record);
    }

    #[tokio::test]
    async fn a_container_whose_making_was_cut_short_is_removed() {
        let (_folder, shelf) = a_shelf();
        let id = ContainerId::random().unwrap();
        fs::create_dir_all(shelf.folder(&id).bundle()).unwrap();
        sweep(&shelf).await;
        assert!(shelf.ids().unwrap().is_empty());
    }

    #[tokio::test]
    async fn containers_are_made_while_others_are_swept() {
        let (_folder, shelf) = a_shelf();
        let making = thread::spawn({
            let shelf = shelf.clone();
            move || {
                for _ in 0..100 {
                    let record = record_for_tests("placeholder");
                    let add = shelf.add(&record.id.clone(), None, |name| Record { name, ..record });
                    add.unwrap().removed_on_drop(false);
                }
            }
        });
        while !making.is_finished() {
            sweep(&shelf).await;
        }
        making.join().unwrap();
        assert_eq!(shelf.ids().unwrap().len(), 100);
    }
}
