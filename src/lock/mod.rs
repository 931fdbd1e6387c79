//! Distributed locks: one key, one owner's token, a TTL. The engine under every lock that ferroflow offers.
//!
//! - [`LockStore`]: what a backend can do; [`redis`] and [`memory`] implement it
//! - [`token`]: what the value of a lock says
//! - [`machine`]: one acquisition as a state machine without I/O: waiting, holding, renewing, losing, releasing
//! - [`acquire`], [`hold`]: run the machine against a store, before and after the lock is granted
//! - `round`: what is asked of the store at the same time, and so together
//! - [`engine`]: the locks of one owner: what it holds, who waits, what closing means
//! - [`index`]: the list of what is held
//! - `simulation` (tests): thousands of random histories on a simulated clock and network

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::join_all;

pub mod acquire;
pub mod engine;
pub mod hold;
pub mod index;
pub mod machine;
pub mod memory;
pub mod redis;
mod round;
#[cfg(test)]
mod simulation;
pub mod token;
mod underway;

use crate::connection::Backend;
use crate::error::{Error, Result};
use crate::key::LockKeys;
use crate::time::Millis;

/// How long an attempt may be on its way after its claim was withdrawn: much longer than a call takes.
pub const STRAY_ATTEMPT: Millis = Millis::new(60_000);
/// How long a waiting claim keeps its place in a fair queue without a sign of life.
pub const QUEUE_LEASE: Millis = Millis::new(3_000);

/// An attempt to take a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The lock.
    pub key: String,
    /// What the token will start with. Repeating an attempt with the same claim has the effect of making it once.
    pub id: String,
    /// How long the lock lasts if nothing extends it.
    pub ttl: Millis,
    /// Counts the attempts with this claim. One that is overtaken by a later one fails.
    pub attempt: u32,
    /// How often this attempt was sent before, without an answer. The earlier copies may still arrive.
    pub repetition: u32,
    /// The highest fence known here: the new one will be higher, whatever the server forgot.
    pub floor: u64,
    /// Whether it waits in the order of arrival.
    pub fair: bool,
    /// How many replicas must know of the grant.
    pub replicas: Option<Replicas>,
}

impl Claim {
    /// Grows with every attempt, and with every repetition of one.
    pub fn number(&self) -> u64 {
        u64::from(self.attempt) * 1_000 + u64::from(self.repetition.min(999))
    }
}

/// What an extension does to the time that is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Sets it.
    Exact,
    /// Sets it, and is never sent twice: a copy that comes late would cut off a longer extension made since.
    ExactOnce,
    /// Leaves it if it is longer already, so that a copy that comes late does no harm.
    AtLeast,
}

/// A condition on a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many.
    pub count: u32,
    /// How long to wait for them.
    pub timeout: Millis,
}

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// The lock is ours, under this token.
    Granted {
        /// The claim and what the server added.
        token: String,
        /// Greater than that of any earlier grant.
        fence: u64,
    },
    /// Somebody else holds it, or is first in the queue.
    Held {
        /// When another attempt may succeed, if that is known.
        look_again: Option<Millis>,
        /// The holder's token, or whatever else is there.
        holder: Option<Vec<u8>>,
    },
    /// It was granted, but too few replicas know of it.
    NotReplicated {
        /// How many do.
        reached: u32,
    },
}

/// Whether a lock was changed that must be held for that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// It was held under the token, and the change is made.
    Ours,
    /// Nobody holds it: it expired, or was released before.
    Expired,
    /// Somebody else holds it, under this token.
    Taken(Vec<u8>),
}

/// How a release ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Release {
    /// The server said so.
    Answered(Ownership),
    /// It was sent again, and by then the lock was not held under the token, and had not been released by force: freed by
    /// the copy whose answer was lost, or lost before. The error is for a caller who does not know better.
    Unclear(Error),
}

/// The state of a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The holder's token, or whatever is there; `None` if nobody holds it.
    pub holder: Option<Vec<u8>>,
    /// Until it expires; `None` if it never does, or nobody holds it.
    pub ttl_left: Option<Millis>,
    /// Claims in the fair queue.
    pub queued: u64,
    /// Connections that listen for the release.
    pub listening: u64,
}

/// A lock in the list of those that are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key, without prefix.
    pub key: String,
    /// The holder's token.
    pub token: Vec<u8>,
    /// Until it expires; `None` if it never does.
    pub ttl_left: Option<Millis>,
}

/// Some of the held locks, in the order of acquisition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The locks.
    pub locks: Vec<Listed>,
    /// Where the next page begins: after this fence. `None` if this is the last.
    pub next: Option<u64>,
}

/// Locks in one backend.
#[async_trait]
pub trait LockStore: Send + Sync {
    /// Takes the lock if it is free, and if it is this claim's turn. Repeating an attempt whose answer was lost is
    /// recognised by its claim.
    async fn try_acquire(&self, claim: &Claim) -> Result<Attempt>;

    /// Whether asking for several things at once costs less than asking for one after the other.
    fn gains_by_rounds(&self) -> bool {
        false
    }

    /// Makes several attempts, each for itself, and answers in their order.
    async fn try_acquire_all(&self, claims: &[Claim]) -> Vec<Result<Attempt>> {
        join_all(claims.iter().map(|claim| self.try_acquire(claim))).await
    }

    /// Frees the lock if it is held under `token`, and wakes those who wait.
    async fn release(&self, key: &str, token: &str) -> Result<Release>;

    /// The same for a token of which nobody here knows how long it lasts, and so what a lost answer means: the store may
    /// leave a note of the release for its repetition.
    async fn release_from_elsewhere(&self, key: &str, token: &str) -> Result<Release> {
        self.release(key, token).await
    }

    /// Frees the lock if it is held under a token of this claim, takes the claim out of the queue, and makes every
    /// attempt with it fail that arrives later.
    async fn withdraw(&self, key: &str, claim: &str) -> Result<()>;

    /// Releases several locks, each with its token, and answers in their order.
    async fn release_all(&self, locks: &[(String, String)]) -> Vec<Result<Release>> {
        join_all(locks.iter().map(|(key, token)| self.release(key, token))).await
    }

    /// Changes the time left to `ttl` if the lock is held under `token`.
    async fn extend(&self, key: &str, token: &str, ttl: Millis, extent: Extent) -> Result<Ownership>;

    /// Whether anybody holds the lock. Information, not permission: it may be out of date on arrival.
    async fn is_locked(&self, key: &str) -> Result<bool>;

    /// Who holds the lock, and how many wait.
    async fn inspect(&self, key: &str) -> Result<Inspection>;

    /// Frees the lock, whoever holds it, and returns the token under which it was held.
    async fn force_release(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// Puts locks into the list, by key and fence, and takes others out.
    async fn list_changes(&self, held: &[(String, u64)], ended: &[(String, u64)]) -> Result<()>;

    /// The held locks of the list whose fence is greater than `after`.
    async fn list(&self, after: u64, limit: usize) -> Result<Page>;

    /// Notices every release from the moment this resolves.
    async fn watch(&self, key: &str) -> Result<Box<dyn ReleaseWatch>>;
}

/// Waits for releases of one lock.
#[async_trait]
pub trait ReleaseWatch: Send {
    /// Resolves when the lock was released, or may have been.
    async fn released(&mut self);
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: LockKeys) -> Result<Arc<dyn LockStore>> {
    Ok(match backend {
        Backend::Server(client) => {
            let keys = if client.is_cluster() { keys.in_cluster()? } else { keys };
            Arc::new(redis::RedisLocks::new(Arc::clone(client), keys))
        }
        Backend::Memory(engine) => Arc::new(memory::MemoryLocks::new(Arc::clone(engine), keys)),
    })
}
