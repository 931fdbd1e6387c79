//! The server: the store of the embedded engine, on a clock that can be set.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use super::Mutation;
use crate::error::Result;
use crate::key::LockKeys;
use crate::lock::memory::MemoryLocks;
use crate::lock::{Attempt, Claim, Extent, LockStore, Ownership, Release};
use crate::memory::{Engine, Subscription};
use crate::time::Millis;

const START: u64 = 1_700_000_000_000;

/// What a client sends.
#[derive(Debug, Clone)]
pub enum Request {
    Acquire(Claim),
    Extend { key: String, token: String, ttl: Millis, extent: Extent },
    Release { key: String, token: String },
    Withdraw { key: String, claim: String },
    Force { key: String },
}

/// What the server answers.
#[derive(Debug, Clone)]
pub enum Answer {
    Attempt(Attempt),
    Ownership(Ownership),
    Done,
}

/// One server, which outlives the loss of its data.
pub struct Server {
    /// One clock for deadlines and for the date, as in Redis: setting it moves both.
    clock: Arc<AtomicU64>,
    offset: i64,
    pub engine: Arc<Engine>,
    pub keys: LockKeys,
    store: MemoryLocks,
    listening: Vec<Subscription>,
    mutation: Mutation,
}

impl Server {
    pub fn new(locks: usize, mutation: Mutation) -> Self {
        let clock = Arc::new(AtomicU64::new(START));
        let keys = LockKeys::new("", "l:").unwrap();
        let engine = Self::start(&clock);
        let store = MemoryLocks::new(Arc::clone(&engine), keys.clone());
        let mut server = Self { clock, offset: 0, engine, keys, store, listening: Vec::new(), mutation };
        server.listen(locks);
        server
    }

    fn start(clock: &Arc<AtomicU64>) -> Arc<Engine> {
        let clock = Arc::clone(clock);
        Engine::with_clock(Arc::new(move || Millis::new(clock.load(Ordering::Relaxed))))
    }

    fn listen(&mut self, locks: usize) {
        self.listening = (0..locks)
            .map(|lock| {
                let lock = self.keys.lock(&super::lock_name(lock)).unwrap();
                self.engine.subscribe(LockKeys::released(&lock))
            })
            .collect();
    }

    /// Milliseconds by the server's clock, at this microsecond of the true time.
    pub fn set_time(&mut self, now: u64) -> u64 {
        let time = (START + now / 1000).saturating_add_signed(self.offset);
        self.clock.store(time, Ordering::Relaxed);
        time
    }

    pub fn step_clock(&mut self, by: i64) {
        self.offset += by;
    }

    /// Starts again with nothing.
    pub fn lose_data(&mut self) {
        let locks = self.listening.len();
        self.engine = Self::start(&self.clock);
        self.store = MemoryLocks::new(Arc::clone(&self.engine), self.keys.clone());
        self.listen(locks);
    }

    /// Carries out what arrived.
    pub fn run(&self, request: &Request) -> Result<Answer> {
        match request {
            Request::Acquire(claim) => self.acquire(claim).map(Answer::Attempt),
            Request::Extend { key, token, ttl, extent } => {
                let extent = if self.mutation == Mutation::RenewalsShorten { Extent::Exact } else { *extent };
                at_once(self.store.extend(key, token, *ttl, extent)).map(Answer::Ownership)
            }
            Request::Release { key, token } => {
                if self.mutation == Mutation::ReleaseWithoutCompare {
                    at_once(self.store.force_release(key))?;
                    return Ok(Answer::Ownership(Ownership::Ours));
                }
                at_once(self.store.release(key, token)).and_then(|how| match how {
                    Release::Answered(ownership) => Ok(Answer::Ownership(ownership)),
                    Release::Unclear(error) => Err(error),
                })
            }
            Request::Withdraw { key, claim } => {
                at_once(self.store.withdraw(key, claim))?;
                if self.mutation == Mutation::NoTombstones {
                    self.engine.atomically(|db| db.delete(self.keys.tombstone("", claim)));
                }
                Ok(Answer::Done)
            }
            Request::Force { key } => at_once(self.store.force_release(key)).map(|_| Answer::Done),
        }
    }

    fn acquire(&self, claim: &Claim) -> Result<Attempt> {
        let mut claim = claim.clone();
        match self.mutation {
            Mutation::CopiesNotBarred => claim.repetition = 0,
            Mutation::LastComeFirstServed => self.engine.atomically(|db| {
                db.delete(self.keys.queue(&claim.key));
                db.delete(self.keys.leases(&claim.key));
            }),
            _ => {}
        }
        let attempt = at_once(self.store.try_acquire(&claim))?;
        if self.mutation == Mutation::FencesOnlyCounted
            && let Attempt::Granted { token, .. } = attempt
        {
            let fence = self.engine.atomically(|db| {
                let last = db
                    .get("counted")
                    .unwrap()
                    .map_or(0, |digits| std::str::from_utf8(digits).unwrap().parse::<u64>().unwrap());
                db.set("counted", (last + 1).to_string().into_bytes(), None);
                last + 1
            });
            return Ok(Attempt::Granted { token, fence });
        }
        Ok(attempt)
    }

    /// The least that the next fence will be by the counter alone.
    pub fn counter(&self) -> u64 {
        self.engine.atomically(|db| {
            let digits = db.get(self.keys.fence_counter("")).unwrap();
            digits.map_or(0, |digits| std::str::from_utf8(digits).unwrap().parse().unwrap_or(0) + 1)
        })
    }

    pub fn is_locked(&self, key: &str) -> bool {
        at_once(self.store.is_locked(key)).unwrap()
    }

    /// Whether a release of this lock was announced.
    pub fn announced(&mut self, lock: usize) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(_)) =
            pin!(self.listening[lock].recv()).poll(&mut Context::from_waker(Waker::noop()))
        {
            any = true;
        }
        any
    }

    /// All keys but the counter.
    pub fn leftovers(&self) -> Vec<String> {
        let counter = self.keys.fence_counter("");
        self.engine.atomically(|db| {
            let keys = db.keys().map(|(key, _)| String::from_utf8_lossy(key).into_owned());
            keys.filter(|key| *key != counter && key != "counted").collect()
        })
    }
}

/// The embedded engine never waits.
fn at_once<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the embedded engine waited"),
    }
}
