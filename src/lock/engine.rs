//! The locks of one owner: what it holds, who waits for what, and how all that ends.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

use super::acquire::Rooms;
use super::hold::Ask;
use super::index::Index;
use super::machine::{Caps, Moment, expiry};
use super::round::Round;
use super::token::{Claimant, Signature, Token};
use super::underway::{Tally, Underway};
use super::{Extent, LockStore, Ownership, Release, STRAY_ATTEMPT};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::LOCKS;
use crate::runtime::io_thread;
use crate::time::{Millis, since_boot};

mod closing;

/// How long to wait between two attempts to withdraw a claim.
const WITHDRAW_RETRY: Duration = Duration::from_millis(500);
/// So many locks are remembered without a look at whether their time is over.
const FORGET_AT: usize = 1024;

/// By token. Each has a random part of our own making, so the hash need not be safe from who chooses keys.
pub(super) type HeldLocks = FxHashMap<String, Held>;

/// The locks of one owner, in one store.
pub struct Locks {
    /// Where they are.
    pub store: Arc<dyn LockStore>,
    /// Who waits here, by lock.
    pub(super) rooms: Rooms,
    pub(super) round: Round,
    pub(super) index: Index,
    host: String,
    /// Of claims without label and caps, as most are.
    plain_signature: Signature,
    /// Whether they are entered in the list.
    listed: bool,
    held: Mutex<HeldLocks>,
    /// The highest fence known here.
    floor: AtomicU64,
    /// How many locks must be known before those whose time is over are looked for.
    forget_at: AtomicUsize,
    closing: watch::Sender<bool>,
    underway: Tally,
    /// What time it is, on the clock that counts suspend.
    pub(super) now: fn() -> Moment,
}

/// A lock that was acquired here and, as far as is known, neither released nor lost.
pub(super) struct Held {
    pub(super) key: String,
    pub(super) fence: u64,
    pub(super) since: Moment,
    /// Whether the list of held locks has it.
    pub(super) listed: bool,
    keeper: Keeper,
}

enum Keeper {
    /// Nobody: it expires then.
    Until(Moment),
    /// A task that renews it, hears us here, and says until when it is ours for certain.
    Task(mpsc::WeakUnboundedSender<Ask>, Arc<AtomicU64>),
}

impl Held {
    /// Nobody keeps it, and its time is over.
    fn is_over(&self, now: Moment) -> bool {
        matches!(self.keeper, Keeper::Until(moment) if moment <= now)
    }
}

/// Whether a withdrawal that failed is tried again. It may be, as often as it takes: it changes nothing of others.
pub(super) fn withdraw_again(error: &Error) -> bool {
    error.kind().retryable() || error.kind() == ErrorKind::OutcomeUnknown
}

fn signature(host: &str, label: &str, caps: Caps) -> Signature {
    Claimant { host: host.to_owned(), pid: std::process::id(), label: label.to_owned(), caps }.signature()
}

fn boot_millis() -> Moment {
    since_boot().get()
}

impl Locks {
    /// Locks in this store, by processes of a machine of this name, entered in the list or not.
    pub fn new(store: Arc<dyn LockStore>, host: String, listed: bool) -> Arc<Self> {
        Self::with_clock(store, host, listed, boot_millis)
    }

    /// The same on another clock.
    pub(super) fn with_clock(
        store: Arc<dyn LockStore>,
        host: String,
        listed: bool,
        now: fn() -> Moment,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            rooms: Rooms::default(),
            round: Round::default(),
            index: Index::default(),
            plain_signature: signature(&host, "", Caps::default()),
            host,
            listed,
            held: Mutex::default(),
            floor: AtomicU64::new(0),
            forget_at: AtomicUsize::new(FORGET_AT),
            closing: watch::Sender::new(false),
            underway: Tally::default(),
            now,
        })
    }

    /// What the claims of this owner say.
    pub fn signature(&self, label: &str, caps: Caps) -> Signature {
        if label.is_empty() && caps == Caps::default() {
            return self.plain_signature.clone();
        }
        signature(&self.host, label, caps)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HeldLocks> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a lock that nobody renews. `false` if it is freed instead, as all are that its owner holds.
    pub fn remember(
        self: &Arc<Self>,
        token: String,
        key: String,
        fence: u64,
        valid_until: Option<Moment>,
    ) -> bool {
        self.remember_with(token, key, fence, Keeper::Until(valid_until.unwrap_or_default()))
    }

    /// Remembers a lock that a task keeps.
    pub(super) fn remember_kept(
        self: &Arc<Self>,
        token: &str,
        key: &str,
        fence: u64,
        keeper: &mpsc::UnboundedSender<Ask>,
        valid_until: &Arc<AtomicU64>,
    ) {
        let keeper = Keeper::Task(keeper.downgrade(), Arc::clone(valid_until));
        self.remember_with(token.to_owned(), key.to_owned(), fence, keeper);
    }

    fn remember_with(self: &Arc<Self>, token: String, key: String, fence: u64, keeper: Keeper) -> bool {
        self.floor.fetch_max(fence, Ordering::Relaxed);
        let held = Held { key, fence, since: (self.now)(), listed: false, keeper };
        let mut all = self.held();
        if self.is_closing() {
            // Closing may have taken out already what it frees.
            drop(all);
            self.free_too_late(&token, held);
            return false;
        }
        // Tokens that were never released are forgotten now and then; those that the list has, when it is kept.
        if all.len() >= self.forget_at.load(Ordering::Relaxed) {
            all.retain(|_, held| held.listed || !held.is_over((self.now)()));
            self.forget_at.store(2 * all.len().max(FORGET_AT), Ordering::Relaxed);
        }
        all.insert(token, held);
        drop(all);
        if self.listed {
            self.index.changed(self);
        }
        true
    }

    fn measure(&self, held: &Held) {
        LOCKS.hold.observe(Duration::from_millis((self.now)().saturating_sub(held.since)));
    }

    /// A lock is not held any more. What is said of a token under another key says nothing about its lock.
    pub(super) fn forget(self: &Arc<Self>, key: &str, token: &str) {
        let gone = {
            let mut all = self.held();
            if all.get(token).is_some_and(|held| held.key == key) { all.remove(token) } else { None }
        };
        if let Some(held) = &gone {
            self.measure(held);
        }
        if let Some(Held { key, fence, listed: true, .. }) = gone {
            self.index.ended(self, key, fence);
        }
    }

    /// Takes the locks out that nobody keeps and whose time is over.
    pub(super) fn forget_expired(held: &mut HeldLocks, now: Moment) -> Vec<(String, u64)> {
        let mut listed = Vec::new();
        held.retain(|_, held| {
            let over = held.is_over(now);
            if over && held.listed {
                listed.push((std::mem::take(&mut held.key), held.fence));
            }
            !over
        });
        listed
    }

    /// Until when a lock that was acquired here is ours for certain, 0 for any other; and the task that keeps it, if there
    /// is one.
    fn holding(&self, key: &str, token: &str) -> (Moment, Option<mpsc::UnboundedSender<Ask>>) {
        match self.held().get(token) {
            Some(held) if held.key == key => match &held.keeper {
                Keeper::Until(moment) => (*moment, None),
                Keeper::Task(keeper, valid_until) => (valid_until.load(Ordering::Acquire), keeper.upgrade()),
            },
            _ => (0, None),
        }
    }

    /// What became of a lock that was to be released, and was ours until then for certain. Who else could have freed it?
    /// It has not expired, nobody else knows the token, and had it been released by force, the store would say so. So one
    /// that is gone was freed by the copy of our request whose answer was lost, unless another request of ours did it.
    pub(super) fn released(
        self: &Arc<Self>,
        key: &str,
        token: &str,
        valid_until: Moment,
        how: Release,
    ) -> Result<Ownership> {
        let ownership = match how {
            Release::Answered(ownership) => ownership,
            Release::Unclear(_) if self.held().contains_key(token) && (self.now)() < valid_until => {
                Ownership::Ours
            }
            Release::Unclear(error) => return Err(error),
        };
        self.forget(key, token);
        Ok(ownership)
    }

    /// Frees a lock, and calls `then`, mostly on the I/O thread.
    pub fn release(
        self: &Arc<Self>,
        key: String,
        token: String,
        then: impl FnOnce(Result<Ownership>) + Send + 'static,
    ) {
        let (valid_until, keeper) = self.holding(&key, &token);
        // Whoever renews it must not bring it back.
        if let Some(keeper) = keeper {
            drop(keeper.send(Ask::Abandon));
        }
        let this = Arc::clone(self);
        let is_ours = (self.now)() < valid_until;
        self.release_then((key, token), is_ours, move |(key, token), how| {
            if how.as_ref().is_err_and(|error| error.kind() == ErrorKind::OutcomeUnknown) {
                this.free_later(&key, &token, valid_until);
            }
            then(how.and_then(|how| this.released(&key, &token, valid_until, how)));
        });
    }

    /// Sets the time left of a lock.
    pub async fn extend(self: &Arc<Self>, key: &str, token: &str, ttl: Millis) -> Result<Ownership> {
        // Whoever keeps it must know until when it lasts.
        let (_, keeper) = self.holding(key, token);
        if let Some(keeper) = keeper {
            let (answer, answered) = oneshot::channel();
            let asked = keeper.send(Ask::Extend(ttl, answer)).is_ok();
            if asked && answered.await.unwrap_or(Ok(false))? {
                return Ok(Ownership::Ours);
            }
            return Ok(Ownership::Expired);
        }
        let asked_at = (self.now)();
        let outcome = self.store.extend(key, token, ttl, Extent::Exact).await;
        if outcome.as_ref().is_ok_and(|ownership| *ownership != Ownership::Ours) {
            self.forget(key, token);
        } else if let Some(Held { key: held, keeper: Keeper::Until(moment), .. }) = self.held().get_mut(token)
            && held == key
        {
            let until = expiry(asked_at, ttl);
            // Whether an extension without an answer arrived is not known, so the earlier of the two ends counts.
            *moment = if outcome.is_ok() { until } else { until.min(*moment) };
        }
        outcome
    }

    /// Sees, in the background, to a release that was asked for and not answered. Nothing to do if the lock is not ours
    /// any more.
    fn free_later(self: &Arc<Self>, key: &str, token: &str, valid_until: Moment) {
        let left = valid_until.saturating_sub((self.now)());
        if left > 0
            && let Some(claim) = Token::claim_of(token)
        {
            self.forget(key, token);
            self.withdraw_later(key.to_owned(), claim.to_owned(), Millis::new(left));
        }
    }

    /// Counts an acquisition or a withdrawal, for [`Locks::close`].
    pub(super) fn begin(&self) -> Underway {
        self.underway.begin()
    }

    /// Sees, in the background, that a claim comes to nothing: it may have been granted to nobody, and its TTL must
    /// not keep everyone else out. Tried until the server confirms it, or the lock has expired by itself.
    pub(super) fn withdraw_later(self: &Arc<Self>, key: String, claim: String, ttl: Millis) {
        let this = Arc::clone(self);
        // Also if it was not granted yet: an attempt may still be on its way.
        let expired_at = (self.now)() + ttl.get() + STRAY_ATTEMPT.get();
        let underway = self.begin();
        // Without an I/O thread there was no attempt either.
        let _ = io_thread::spawn(async move {
            let _underway = underway;
            while let Err(error) = this.store.withdraw(&key, &claim).await {
                if !withdraw_again(&error) || (this.now)() >= expired_at {
                    return;
                }
                sleep(WITHDRAW_RETRY).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawal_is_tried_until_it_is_answered_or_cannot_be() {
        let again = |kind| withdraw_again(&Error::new(kind, "failed"));
        for kind in [
            ErrorKind::OutcomeUnknown,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::QueueFull,
            ErrorKind::ServerNotReady,
        ] {
            assert!(again(kind), "{kind:?}");
        }
        for kind in [ErrorKind::Closed, ErrorKind::NoPermission, ErrorKind::WrongType, ErrorKind::Server] {
            assert!(!again(kind), "{kind:?}");
        }
    }
}
