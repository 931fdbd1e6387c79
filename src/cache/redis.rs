//! A cache on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheStore, Document};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{Fence, Guard};
use crate::key::CacheKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static SET_DOCUMENT: Script = Script::new(include_str!("lua/set_document.lua"));
static DELETE_DOCUMENTS: Script = Script::new(include_str!("lua/delete_documents.lua"));

/// How many keys a step of [`CacheStore::clear`] asks for.
const CLEAR_STEP: u64 = 1000;

/// A cache on one server.
#[derive(Clone)]
pub struct RedisCache {
    client: Arc<Client>,
    keys: CacheKeys,
    fence: Option<Fence>,
}

impl RedisCache {
    /// A cache with these keys.
    pub fn new(client: Arc<Client>, keys: CacheKeys) -> Self {
        Self { client, keys, fence: None }
    }

    fn guard(&self, documents: &[String], ttl: Option<Millis>) -> Option<Guard> {
        self.fence.map(|fence| fence.guard(documents.iter().cloned(), |key| self.keys.fence(key), ttl))
    }

    fn documents(&self, ids: &[String]) -> Result<Vec<String>> {
        ids.iter().map(|id| self.keys.document(id)).collect()
    }

    /// Deletes some of the documents at once, under their part of the guard.
    async fn delete_under(
        &self,
        guard: &Guard,
        call: Call<'_>,
        group: &[usize],
        keys: &[String],
    ) -> Result<()> {
        let guard = guard.part(group);
        let keys: Vec<_> = group.iter().map(|place| keys[*place].as_str()).collect();
        DELETE_DOCUMENTS.run_under(Some(&guard), call, OnLostReply::Repeat, &keys, &[]).await.map(drop)
    }
}

/// A command about some of the keys.
fn with_keys(name: &str, group: &[usize], keys: &[impl AsRef<[u8]>]) -> Command {
    group.iter().fold(Command::new(name), |command, place| command.arg(&keys[*place]))
}

/// The outcome of writes that are one operation.
fn all_done(outcomes: Vec<Result<Reply>>) -> Result<()> {
    let some = outcomes.iter().any(Result::is_ok);
    let failed = outcomes.into_iter().find_map(Result::err);
    failed.map_or(Ok(()), |error| Err(if some { error.after_a_write() } else { error }))
}

#[async_trait]
impl CacheStore for RedisCache {
    fn under(&self, fence: Fence) -> Arc<dyn CacheStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn get_many(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.documents(ids)?;
        let groups = self.client.reached_together(&keys);
        let commands = groups.iter().map(|group| with_keys("MGET", group, &keys).reads());
        let mut values = vec![None; keys.len()];
        for (reply, group) in self.client.call().commands(commands).await.into_iter().zip(&groups) {
            for (value, place) in reply?.into_list()?.into_iter().zip(group) {
                values[*place] = value.into_bytes()?;
            }
        }
        Ok(values)
    }

    async fn set(&self, document: Document) -> Result<bool> {
        let key = self.keys.document(&document.id)?;
        let guard = self.guard(std::slice::from_ref(&key), Some(document.ttl));
        let ttl = document.ttl.get().to_string();
        let updated_at = document.updated_at.map(|time| time.to_string()).unwrap_or_default();
        let arguments = [&document.json, ttl.as_bytes(), updated_at.as_bytes()];
        let stored = SET_DOCUMENT
            .run_under(guard.as_ref(), self.client.call(), OnLostReply::Repeat, &[&key], &arguments)
            .await
            .and_then(Reply::into_int)
            .map_err(|error| error.about(&key))?;
        Ok(stored == 1)
    }

    async fn delete_many(&self, ids: &[String]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let (keys, call) = (self.documents(ids)?, self.client.call());
        let groups = self.client.reached_together(&keys);
        let Some(guard) = self.guard(&keys, None) else {
            let commands = groups.iter().map(|group| with_keys("DEL", group, &keys).repeatable());
            return all_done(call.commands(commands).await);
        };
        if let [group] = groups.as_slice() {
            return self.delete_under(&guard, call, group, &keys).await;
        }
        // All are claimed before the first is deleted, so that none is if one is refused, nor claimed without need.
        guard.check(call).await?;
        let (_, fences) = guard.by_slot(None);
        for fence in fences {
            fence.raise(call).await?;
        }
        let mut outcomes = Vec::with_capacity(groups.len());
        for group in &groups {
            outcomes.push(match self.delete_under(&guard, call, group, &keys).await {
                // Since it was claimed, a later holder has written: what is there is not what was to be deleted.
                Err(error) if error.kind() == ErrorKind::StaleFence => Ok(Reply::Nil),
                outcome => outcome.map(|()| Reply::Nil),
            });
        }
        all_done(outcomes)
    }

    async fn clear(&self) -> Result<()> {
        let pattern = self.keys.pattern();
        let mut cursor = b"0".to_vec();
        loop {
            // Each step has its own time: a large database takes many.
            let call = self.client.call();
            let scan = Command::new("SCAN")
                .arg(&cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .number(CLEAR_STEP)
                .reads();
            let Ok([next, keys]) = <[Reply; 2]>::try_from(call.command(scan).await?.into_list()?) else {
                return Err(Error::new(ErrorKind::Server, "SCAN answered something unexpected"));
            };
            let keys = keys.into_list()?;
            if !keys.is_empty() {
                let keys: Vec<_> = keys
                    .into_iter()
                    .map(|key| Ok(key.into_bytes()?.unwrap_or_default()))
                    .collect::<Result<_>>()?;
                let groups = self.client.reached_together(&keys);
                let commands = groups.iter().map(|group| with_keys("DEL", group, &keys).repeatable());
                all_done(call.commands(commands).await)?;
            }
            cursor = next.into_bytes()?.unwrap_or_default();
            if cursor == b"0" {
                return Ok(());
            }
        }
    }
}
