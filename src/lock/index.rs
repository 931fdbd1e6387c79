//! The list of the locks that are held, kept beside them. Locks come and go by the thousand; only those that last are
//! written down, a little later and all at once, so that the list costs an acquisition nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::engine::Locks;
use crate::runtime::io_thread;

/// How long a lock is held before the list has it.
const LISTED_AFTER: Duration = Duration::from_millis(100);
/// How many locks one round adds.
const MAX_ADDED: usize = 1000;
/// How many entries of processes that died one round looks for.
const TIDIED: usize = 20;

/// What the list has still to learn.
#[derive(Default)]
pub(super) struct Index {
    running: AtomicBool,
    ended: Mutex<Vec<(String, u64)>>,
    /// Where the search for entries of dead processes goes on.
    tidied_to: Mutex<u64>,
}

impl Index {
    /// A lock is held that the list does not have.
    pub(super) fn changed(&self, locks: &Arc<Locks>) {
        // Mostly it runs, and a look at that costs less.
        if !self.running.load(Ordering::Acquire) && !self.running.swap(true, Ordering::AcqRel) {
            let locks = Arc::clone(locks);
            let _ = io_thread::spawn(async move { keep(&locks).await });
        }
    }

    /// A lock is not held any more that the list has.
    pub(super) fn ended(&self, locks: &Arc<Locks>, key: String, fence: u64) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).push((key, fence));
        self.changed(locks);
    }

    fn take_ended(&self) -> Vec<(String, u64)> {
        std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs as long as there is something to write.
async fn keep(locks: &Arc<Locks>) {
    loop {
        sleep(LISTED_AFTER).await;
        let (fresh, more) = take_fresh(locks);
        let ended = locks.index.take_ended();
        // The list is for people. What does not get there now is missing from it, and nothing else.
        let wrote =
            !(fresh.is_empty() && ended.is_empty()) && locks.store.list_changes(&fresh, &ended).await.is_ok();
        if wrote {
            tidy(locks).await;
        }
        if !more {
            locks.index.running.store(false, Ordering::Release);
            // Something may have come before the flag was down.
            if !has_work(locks) || locks.index.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

fn has_work(locks: &Locks) -> bool {
    locks.held().values().any(|held| !held.listed)
        || !locks.index.ended.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}

/// Those that are held long enough, and whether others will be.
fn take_fresh(locks: &Arc<Locks>) -> (Vec<(String, u64)>, bool) {
    let now = (locks.now)();
    let mut held = locks.held();
    let over = Locks::forget_expired(&mut held, now);
    let mut fresh = Vec::new();
    let mut more = false;
    for lock in held.values_mut().filter(|lock| !lock.listed) {
        if lock.since + LISTED_AFTER.as_millis() as u64 <= now && fresh.len() < MAX_ADDED {
            lock.listed = true;
            fresh.push((lock.key.clone(), lock.fence));
        } else {
            more = true;
        }
    }
    drop(held);
    let mut ended = locks.index.ended.lock().unwrap_or_else(PoisonError::into_inner);
    ended.extend(over);
    (fresh, more)
}

/// Looks at a few entries, another few each time: reading the list removes what is stale.
async fn tidy(locks: &Locks) {
    let place = &locks.index.tidied_to;
    let after = *place.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(page) = locks.store.list(after, TIDIED).await {
        *place.lock().unwrap_or_else(PoisonError::into_inner) = page.next.unwrap_or(0);
    }
}
