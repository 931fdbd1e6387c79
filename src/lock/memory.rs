//! Locks in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Attempt, LockStore, ReleaseWatch};
use crate::error::Result;
use crate::key::LockKeys;
use crate::memory::{Engine, Subscription};
use crate::time::Millis;

/// Locks in one embedded engine.
pub struct MemoryLocks {
    engine: Arc<Engine>,
    keys: LockKeys,
}

impl MemoryLocks {
    /// Locks with these keys.
    pub fn new(engine: Arc<Engine>, keys: LockKeys) -> Self {
        Self { engine, keys }
    }
}

#[async_trait]
impl LockStore for MemoryLocks {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Millis) -> Result<Attempt> {
        let lock = self.keys.lock(key)?;
        self.engine.atomically(|db| {
            let mine = match db.get(&lock)? {
                None => true,
                Some(holder) => holder == token.as_bytes(),
            };
            if mine {
                db.set(&lock, token.as_bytes().to_vec(), Some(ttl));
                return Ok(Attempt::Granted);
            }
            Ok(Attempt::Held { ttl_left: db.ttl(&lock).flatten() })
        })
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        let released = self.engine.atomically(|db| {
            Ok(db.get(&lock)?.is_some_and(|holder| holder == token.as_bytes()) && db.delete(&lock))
        })?;
        if released {
            self.engine.publish(LockKeys::released(&lock), b"");
        }
        Ok(released)
    }

    async fn extend(&self, key: &str, token: &str, ttl: Millis) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        self.engine.atomically(|db| {
            Ok(db.get(&lock)?.is_some_and(|holder| holder == token.as_bytes()) && db.expire(&lock, ttl))
        })
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        Ok(self.engine.atomically(|db| db.exists(&lock)))
    }

    async fn watch(&self, key: &str) -> Result<Box<dyn ReleaseWatch>> {
        let channel = LockKeys::released(&self.keys.lock(key)?);
        Ok(Box::new(MemoryReleaseWatch(self.engine.subscribe(channel))))
    }
}

struct MemoryReleaseWatch(Subscription);

#[async_trait]
impl ReleaseWatch for MemoryReleaseWatch {
    async fn released(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
