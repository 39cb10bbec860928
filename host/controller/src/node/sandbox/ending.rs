//! From Ready to Stopped, asked for or not, and from there to nothing.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Standing;
use super::actor::{Actor, Event};
use super::handle::Handle;
use super::mirror::News;
use crate::node::Node;
use crate::node::error::{Error, Result};
use crate::node::keeper::{Answer, Keeper};
use crate::node::task::record::lost_now;
use crate::node::values::Exit;

/// What an orderly shutdown may take beyond its grace before it is helped by force.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long killing what is left may take.
const FORCE: Duration = Duration::from_secs(20);
/// How long a keeper that ends may take to tell its last events.
const LAST_EVENTS: Duration = Duration::from_secs(3);
/// How long the exits of tasks may take after the end of their VM.
const LAST_EXITS: Duration = Duration::from_secs(5);

/// Status of a sandbox that failed.
pub const FAILED: u32 = 255;

impl Actor {
    /// Ends the sandbox where that is still to be done.
    pub async fn stop(&mut self, grace: Duration) -> Result<()> {
        match self.standing() {
            // A start that was undone may have left something.
            Standing::Created if self.untidy => self.end_keeper(Duration::ZERO).await?,
            Standing::Created => {}
            // Its keeper may have stayed for what its tasks had to tell.
            Standing::Stopped if self.handle.keeper().is_none() && !self.untidy => return Ok(()),
            Standing::Stopped => return self.end_keeper(Duration::ZERO).await,
            Standing::Ready | Standing::Paused => self.end_keeper(grace).await?,
        }
        self.ended(0, String::new());
        Ok(())
    }

    /// Ends keeper and VM, in an orderly way or by force. Once this has answered nothing of them is there.
    async fn end_keeper(&mut self, grace: Duration) -> Result<()> {
        let (namespace, id) = (self.handle.namespace.clone(), self.handle.id.clone());
        if let Some(keeper) = self.handle.keeper() {
            match self.ask_to_end(&keeper, grace).await {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    debug!(sandbox = %id, %error, "the keeper does not end in an orderly way")
                }
                None => warn!(sandbox = %id, "the sandbox takes too long to end and is killed"),
            }
        }
        let limit = FORCE;
        let what = || format!("the removal of sandbox {id}");
        let cleared = timeout(limit, self.node.shared.keepers.clear(&namespace, &id)).await;
        cleared.map_err(|_| Error::TimedOut { what: what(), limit })??;
        self.untidy = false;
        self.last_events().await;
        self.handle.set_keeper(None);
        Ok(())
    }

    /// The keeper's answer, or none in time. It is asked again as soon as somebody has less patience.
    async fn ask_to_end(&self, keeper: &Arc<dyn Keeper>, grace: Duration) -> Option<Answer<()>> {
        let (mut patience, frozen) = (self.handle.patience(), self.standing() == Standing::Paused);
        let ask = |until: Instant, frozen: bool| {
            let keeper = keeper.clone();
            async move {
                if frozen {
                    keeper.thaw().await?;
                }
                keeper.shutdown(until.saturating_duration_since(Instant::now())).await
            }
        };
        let asked = Instant::now() + grace;
        let mut until = patience.borrow_and_update().map_or(asked, |sooner| sooner.min(asked));
        let (first, mut again) = (ask(until, frozen), JoinSet::new());
        tokio::pin!(first);
        loop {
            if let Some(sooner) = patience.borrow_and_update().filter(|sooner| *sooner < until) {
                until = sooner;
                again.spawn(ask(until, false));
            }
            tokio::select! {
                // Whichever it is: it has ended, or has not and never will in an orderly way.
                answer = &mut first => return Some(answer),
                Some(Ok(answer)) = again.join_next() => return Some(answer),
                () = sleep_until(until + PATIENCE) => return None,
                _ = patience.changed() => {}
            }
        }
    }

    /// What the keeper had to tell is taken.
    async fn last_events(&mut self) {
        let told = async {
            while let Some(event) = self.events.join_next().await {
                if matches!(event, Ok(Event::KeeperGone)) {
                    return;
                }
            }
        };
        if timeout(LAST_EVENTS, told).await.is_err() {
            debug!(sandbox = %self.handle.id, "the keeper's last events are not waited for");
        }
        self.events.abort_all();
        while self.events.join_next().await.is_some() {}
    }

    /// The keeper has ended by itself, or somebody ended it.
    pub async fn keeper_gone(&mut self) {
        let (over, failure) = {
            let entry = &self.handle.mirror().entry;
            (entry.vm_over, entry.failure.clone())
        };
        match self.standing() {
            Standing::Created => {}
            Standing::Stopped => self.clear().await,
            Standing::Ready | Standing::Paused if over && failure.is_none() => {
                self.clear().await;
                self.ended(0, String::new());
            }
            Standing::Ready | Standing::Paused => {
                let reason = failure.unwrap_or_else(|| "its keeper has ended".to_owned());
                self.failed(reason).await;
            }
        }
    }

    /// The VM has ended, and the keeper is still there to tell of it.
    pub async fn vm_over(&mut self) {
        if !matches!(self.standing(), Standing::Ready | Standing::Paused) {
            return;
        }
        let exits = self.handle.until(|mirror| (!mirror.has_live_tasks()).then_some(()));
        if timeout(LAST_EXITS, exits).await.is_err() {
            debug!(sandbox = %self.handle.id, "tasks of a VM that is over do not tell their exits");
        }
        let failure = self.handle.mirror().entry.failure.clone();
        match failure {
            Some(reason) => {
                let reason = self.with_last_words(reason).await;
                self.ended(FAILED, reason);
            }
            None => self.ended(0, String::new()),
        }
        // A create that is under way hears from the keeper why there is no VM; whoever asked for it ends the keeper then.
        let alone = self.handle.mirror().has_no_tasks();
        if alone && let Err(error) = self.end_keeper(Duration::ZERO).await {
            warn!(sandbox = %self.handle.id, %error, "the keeper of a VM that is over stays");
        }
    }

    /// It has failed in a way that leaves no use for what still runs of it.
    pub async fn failed(&mut self, reason: String) {
        let reason = self.with_last_words(reason).await;
        self.clear().await;
        self.ended(FAILED, reason);
    }

    /// The reason with the last lines of the guest's console, unless it has them already.
    async fn with_last_words(&self, mut reason: String) -> String {
        let words = self.node.shared.keepers.last_words(&self.handle.namespace, &self.handle.id).await;
        if !words.is_empty() && !reason.contains("last words") {
            reason.push_str("; the guest's last words:\n");
            reason.push_str(&words);
        }
        reason
    }

    /// Removes what there is of it, as far as that works.
    pub async fn clear(&mut self) {
        let (namespace, id) = (&self.handle.namespace, &self.handle.id);
        let cleared = timeout(FORCE, self.node.shared.keepers.clear(namespace, id)).await;
        self.untidy = !matches!(cleared, Ok(Ok(())));
        match cleared {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(sandbox = %id, %error, "something of a sandbox that has ended stays"),
            Err(_) => {
                warn!(sandbox = %id, "what is left of a sandbox that has ended cannot be removed in time")
            }
        }
        self.last_events().await;
        self.handle.set_keeper(None);
    }

    pub fn ended(&self, status: u32, reason: String) {
        info!(sandbox = %self.handle.id, status, reason, "sandbox ended");
        let exit = Exit { status, at: SystemTime::now() };
        self.node.change(&self.handle, |mirror| mirror.ended(exit, reason));
    }
}

impl Node {
    /// Forgets a sandbox and its tasks: nobody finds them from here on. Whoever waits hears of an end.
    pub(super) fn forget_sandbox(&self, handle: &Arc<Handle>) {
        self.change(handle, |mirror| {
            let mut news = News::default();
            let exit = lost_now();
            for container in mirror.tasks.keys().cloned().collect::<Vec<_>>() {
                mirror.forget(&container, exit, &mut news);
            }
            mirror.entry.exit.get_or_insert(Exit { status: FAILED, at: exit.at });
            mirror.entry.standing = Standing::Stopped;
            // Whoever still makes one here has nothing to take back in the journal.
            mirror.entry.passing.clear();
            news
        });
        if let Err(error) = self.shared.journal.sandboxes.remove(&handle.namespace, handle.id.as_str()) {
            warn!(sandbox = %handle.id, %error, "the record of a sandbox that is gone stays");
        }
        self.shared.remove(handle);
        handle.changed();
    }
}
