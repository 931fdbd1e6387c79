//! Distributed locks: one key, one owner's token, a TTL. The engine under every lock that ferroflow offers.
//!
//! - [`LockStore`]: what a backend can do; [`redis`] and [`memory`] implement it
//! - [`wait`]: acquiring with patience, woken by the release

use std::sync::Arc;

use async_trait::async_trait;

pub mod memory;
pub mod redis;
pub mod wait;

use crate::connection::Backend;
use crate::error::Result;
use crate::key::LockKeys;
use crate::time::Millis;

/// The outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The lock is ours.
    Granted,
    /// Somebody else holds it.
    Held {
        /// Until it expires; `None` if it never does.
        ttl_left: Option<Millis>,
    },
}

/// Locks in one backend. A token names one acquisition and is never used again.
#[async_trait]
pub trait LockStore: Send + Sync {
    /// Takes the lock if it is free. Repeating an attempt whose answer was lost is recognised by its token.
    async fn try_acquire(&self, key: &str, token: &str, ttl: Millis) -> Result<Attempt>;

    /// Frees the lock if it is still held under `token`, and wakes those who wait. `false` if it is not.
    async fn release(&self, key: &str, token: &str) -> Result<bool>;

    /// Sets the time left to `ttl` if the lock is still held under `token`. `false` if it is not.
    async fn extend(&self, key: &str, token: &str, ttl: Millis) -> Result<bool>;

    /// Whether anybody holds the lock. Information, not permission: it may be out of date on arrival.
    async fn is_locked(&self, key: &str) -> Result<bool>;

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
pub fn open(backend: &Backend, keys: LockKeys) -> Arc<dyn LockStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisLocks::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemoryLocks::new(Arc::clone(engine), keys)),
    }
}
