//! Locks on a Redis server: a string that holds the owner's token.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Attempt, LockStore, ReleaseWatch};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::pubsub::Subscription;
use crate::error::{ErrorKind, Result};
use crate::key::LockKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static ACQUIRE: Script = Script::new(include_str!("lua/acquire_lock.lua"));
static RELEASE: Script = Script::new(include_str!("lua/release_lock.lua"));
static EXTEND: Script = Script::new(include_str!("lua/extend_lock.lua"));

/// Locks on one server.
pub struct RedisLocks {
    client: Arc<Client>,
    keys: LockKeys,
}

impl RedisLocks {
    /// Locks with these keys.
    pub fn new(client: Arc<Client>, keys: LockKeys) -> Self {
        Self { client, keys }
    }
}

/// What `acquire_lock.lua` answers instead of a time left.
const GRANTED: i64 = -3;
const NO_TTL: i64 = -1;

#[async_trait]
impl LockStore for RedisLocks {
    async fn try_acquire(&self, key: &str, token: &str, ttl: Millis) -> Result<Attempt> {
        let lock = self.keys.lock(key)?;
        let ttl = ttl.get().to_string();
        let arguments = [token.as_bytes(), ttl.as_bytes()];
        let reply = ACQUIRE
            .run(self.client.call(), OnLostReply::Repeat, &[&lock], &arguments)
            .await
            .map_err(|error| error.about(&lock))?;
        Ok(match reply.into_int()? {
            GRANTED => Attempt::Granted,
            NO_TTL => Attempt::Held { ttl_left: None },
            left => Attempt::Held { ttl_left: Some(Millis::new(left.max(0) as u64)) },
        })
    }

    async fn release(&self, key: &str, token: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        let channel = LockKeys::released(&lock);
        let arguments = [token.as_bytes(), channel.as_bytes()];
        let call = self.client.call();
        let keys = [lock.as_str()];
        let run = |on_lost_reply| RELEASE.run(call, on_lost_reply, &keys, &arguments);
        let unknown = match run(OnLostReply::Report).await {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => error,
            outcome => return Ok(outcome.map_err(|error| error.about(&lock))?.into_int()? == 1),
        };
        match run(OnLostReply::Repeat).await {
            Ok(reply) if reply.clone().into_int()? == 1 => Ok(true),
            // Not held any more: freed by the attempt whose reply was lost, or lost before it. Nobody can tell.
            _ => Err(unknown.about(&lock)),
        }
    }

    async fn extend(&self, key: &str, token: &str, ttl: Millis) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        let ttl = ttl.get().to_string();
        let arguments = [token.as_bytes(), ttl.as_bytes()];
        let reply = EXTEND
            .run(self.client.call(), OnLostReply::Repeat, &[&lock], &arguments)
            .await
            .map_err(|error| error.about(&lock))?;
        Ok(reply.into_int()? == 1)
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        let reply = self.client.call().command(Command::new("EXISTS").arg(&lock).reads()).await?;
        Ok(reply.into_int()? == 1)
    }

    async fn watch(&self, key: &str) -> Result<Box<dyn ReleaseWatch>> {
        let channel = LockKeys::released(&self.keys.lock(key)?);
        Ok(Box::new(RedisReleaseWatch(self.client.subscribe(&channel).await?)))
    }
}

struct RedisReleaseWatch(Subscription);

#[async_trait]
impl ReleaseWatch for RedisReleaseWatch {
    async fn released(&mut self) {
        // A message, a gap that may hide one, or the end of the connection: each is a reason to look.
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
