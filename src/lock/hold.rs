//! Runs the machine while the lock is held: renews it, and notices its loss.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::Ownership;
use super::acquire::Acquisition;
use super::engine::Locks;
use super::machine::{Action, Event, Loss, Machine, Moment};
use crate::error::{Error, Result};
use crate::metrics::LOCKS;
use crate::runtime::io_thread;
use crate::runtime::suspension::Suspensions;
use crate::time::Millis;

/// What the keeper of a lock is asked to do.
pub enum Ask {
    /// Have the lock last this long from now on; says whether it is still held.
    Extend(Millis, oneshot::Sender<Result<bool>>),
    /// Free it, and say how that went.
    Release(oneshot::Sender<Result<Ownership>>),
    /// Somebody else frees it; stop renewing.
    Abandon,
    /// The same, and tell the owner that it is lost.
    Close,
}

/// Why a lock that was held is not any more.
#[derive(Debug)]
pub enum Ended {
    /// The engine lost it.
    Lost(Loss),
    /// All locks of its owner were closed.
    Closed,
    /// Its owner released it by its token. No loss, but there is nothing to watch any more.
    Released,
}

/// The owner of a lock, as its keeper sees it.
pub trait Owner: Send + Sync {
    /// Has the owner show a sign of life, by storing the moment in `alive_at`.
    fn probe(&self, alive_at: &Arc<AtomicU64>);
    /// The lock is not held any more, although its keeper was not asked to release it.
    fn ended(&self, ended: Ended);
}

/// A lock that is held, and kept by a task.
pub struct Hold {
    asks: mpsc::UnboundedSender<Ask>,
    /// Until when it is ours for certain; 0 when it is not.
    valid_until: Arc<AtomicU64>,
    alive_at: Arc<AtomicU64>,
    now: fn() -> Moment,
}

impl Hold {
    /// Begins to keep a lock that was just granted under `token`.
    pub fn keep(
        locks: &Arc<Locks>,
        acquisition: Acquisition,
        token: &str,
        fence: u64,
        owner: impl Owner + 'static,
    ) -> Result<Self> {
        let (asks, heard) = mpsc::unbounded_channel();
        let valid_until = Arc::new(AtomicU64::new(acquisition.machine.valid_until().unwrap_or(0)));
        let alive_at = Arc::new(AtomicU64::new((locks.now)()));
        locks.remember_kept(token, &acquisition.claim.key, fence, &asks, &valid_until);
        let keeper = Keeper {
            locks: Arc::clone(locks),
            machine: acquisition.machine,
            key: acquisition.claim.key,
            claim: acquisition.claim.id,
            ttl: acquisition.claim.ttl,
            token: token.to_owned(),
            valid_until: Arc::clone(&valid_until),
            alive_at: Arc::clone(&alive_at),
            owner: Box::new(owner),
            extension: None,
            asked: Vec::new(),
            promised: Vec::new(),
        };
        let hold = Self { asks, valid_until, alive_at, now: locks.now };
        io_thread::spawn(keeper.run(heard))?;
        Ok(hold)
    }

    /// Whether the lock is ours for certain. No I/O. A sign of life, too.
    pub fn is_held(&self) -> bool {
        self.left() > 0
    }

    /// How much longer it is ours for certain, if nothing extends it, in milliseconds.
    pub fn left(&self) -> u64 {
        let now = (self.now)();
        self.alive_at.fetch_max(now, Ordering::Relaxed);
        self.valid_until.load(Ordering::Acquire).saturating_sub(now)
    }

    /// Has the lock last this long from now on. `false` if it is lost.
    pub async fn extend(&self, ttl: Millis) -> Result<bool> {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask::Extend(ttl, answer)).is_err() {
            return Ok(false);
        }
        answered.await.unwrap_or(Ok(false))
    }

    /// Frees the lock. No extension reaches the server afterwards.
    pub async fn release(&self) -> Result<Ownership> {
        let (answer, answered) = oneshot::channel();
        if self.asks.send(Ask::Release(answer)).is_err() {
            return Ok(Ownership::Expired);
        }
        answered.await.unwrap_or(Ok(Ownership::Expired))
    }
}

type Extending = std::pin::Pin<Box<dyn Future<Output = Result<Ownership>> + Send>>;

struct Keeper {
    locks: Arc<Locks>,
    machine: Machine,
    key: String,
    claim: String,
    token: String,
    ttl: Millis,
    valid_until: Arc<AtomicU64>,
    alive_at: Arc<AtomicU64>,
    owner: Box<dyn Owner>,
    extension: Option<Extending>,
    /// Those who asked for an extension that is not sent yet, and those who wait for the answer.
    asked: Vec<oneshot::Sender<Result<bool>>>,
    promised: Vec<oneshot::Sender<Result<bool>>>,
}

impl Keeper {
    async fn run(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let mut suspensions = Suspensions::watch();
        let mut releasing = None;
        while !self.machine.has_ended() {
            let timer = self.machine.next_timer().unwrap_or(Moment::MAX);
            let pause = Duration::from_millis(timer.saturating_sub((self.locks.now)()));
            let event = tokio::select! {
                biased;
                ask = asks.recv() => match ask {
                    Some(Ask::Extend(ttl, answer)) => {
                        self.ttl = ttl;
                        self.asked.push(answer);
                        Event::AskedToExtend(ttl)
                    }
                    Some(Ask::Release(answer)) => {
                        releasing = Some((answer, self.valid_until.load(Ordering::Acquire)));
                        Event::AskedToRelease
                    }
                    Some(Ask::Close) => {
                        self.valid_until.store(0, Ordering::Release);
                        self.owner.ended(Ended::Closed);
                        Event::AskedToAbandon
                    }
                    Some(Ask::Abandon) => {
                        self.valid_until.store(0, Ordering::Release);
                        self.owner.ended(Ended::Released);
                        Event::AskedToAbandon
                    }
                    // Without an owner nobody could ever release it.
                    None => Event::AskedToAbandon,
                },
                answer = extended(&mut self.extension) => {
                    self.extension = None;
                    self.answer(&answer);
                    Event::Extended(answer)
                }
                () = suspensions.next() => Event::Elapsed,
                () = sleep(pause) => Event::Elapsed,
            };
            let alive_at = self.alive_at.load(Ordering::Relaxed);
            self.machine.on(alive_at, Event::Alive);
            for action in self.machine.on((self.locks.now)(), event) {
                self.carry_out(action);
            }
            self.valid_until.store(self.machine.valid_until().unwrap_or(0), Ordering::Release);
        }
        self.valid_until.store(0, Ordering::Release);
        // An extension that is still under way keeps its place before the release.
        if let Some((answer, valid_until)) = releasing {
            let released = self.locks.free(&self.key, &self.token).await;
            let outcome =
                released.and_then(|how| self.locks.released(&self.key, &self.token, valid_until, how));
            if outcome.is_err() {
                // Nobody will ask again, and until its TTL is over the lock would keep everyone out.
                self.locks.withdraw_later(self.key.clone(), self.claim.clone(), self.ttl);
            }
            self.locks.forget(&self.key, &self.token);
            drop(answer.send(outcome));
        } else {
            self.locks.forget(&self.key, &self.token);
        }
    }

    /// Answers those who asked for the extension that was just answered.
    fn answer(&mut self, answer: &Result<bool>) {
        for promised in self.promised.drain(..) {
            drop(promised.send(answer.clone()));
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Extend { ttl, extent } => {
                self.promised.append(&mut self.asked);
                let (locks, key, token) = (Arc::clone(&self.locks), self.key.clone(), self.token.clone());
                self.extension =
                    Some(Box::pin(async move { locks.store.extend(&key, &token, ttl, extent).await }));
            }
            Action::Probe => self.owner.probe(&self.alive_at),
            Action::Withdraw { .. } => {
                self.locks.withdraw_later(self.key.clone(), self.claim.clone(), self.ttl);
            }
            Action::Report(loss) => {
                self.valid_until.store(0, Ordering::Release);
                loss.count();
                self.owner.ended(Ended::Lost(loss));
            }
            // The release follows when the machine has ended; the others belong to the waiting.
            Action::Release | Action::Attempt { .. } | Action::Settle(_) => {}
        }
    }
}

async fn extended(extension: &mut Option<Extending>) -> Result<bool> {
    match extension {
        Some(extending) => extending.await.map(|ownership| ownership == Ownership::Ours),
        None => std::future::pending().await,
    }
}

impl Loss {
    fn count(&self) {
        let losses = match self {
            Self::Gone => &LOCKS.gone,
            Self::Expired(_) => &LOCKS.expired,
            Self::OwnerHung => &LOCKS.owner_hung,
            Self::HeldTooLong => &LOCKS.held_too_long,
        };
        losses.add(1);
    }

    /// In words, and with the error behind it.
    pub fn describe(&self) -> (String, Option<Error>) {
        match self {
            Self::Gone => ("it expired on the server, or was released or taken by force".to_owned(), None),
            Self::Expired(error) => {
                ("its time was over before an extension was confirmed".to_owned(), error.clone())
            }
            Self::OwnerHung => {
                ("the event loop of its owner was blocked for longer than jsLivenessMs".to_owned(), None)
            }
            Self::HeldTooLong => ("it was held for maxHoldMs".to_owned(), None),
        }
    }
}
