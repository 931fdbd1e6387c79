//! A cache on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheStore, Document};
use crate::connection::client::Client;
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

    fn with_keys(&self, name: &str, ids: &[String]) -> Result<Command> {
        ids.iter().try_fold(Command::new(name), |command, id| Ok(command.arg(self.keys.document(id)?)))
    }
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
        let command = self.with_keys("MGET", ids)?.reads();
        let values = self.client.call().command(command).await?.into_list()?;
        values.into_iter().map(Reply::into_bytes).collect()
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
        if self.fence.is_some() {
            let documents = ids.iter().map(|id| self.keys.document(id)).collect::<Result<Vec<_>>>()?;
            let keys: Vec<_> = documents.iter().map(String::as_str).collect();
            let (guard, call) = (self.guard(&documents, None), self.client.call());
            let deleted = DELETE_DOCUMENTS.run_under(guard.as_ref(), call, OnLostReply::Repeat, &keys, &[]);
            return deleted.await.map(drop);
        }
        let command = self.with_keys("DEL", ids)?.repeatable();
        self.client.call().command(command).await.map(drop)
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
                let mut delete = Command::new("DEL");
                for key in keys {
                    delete.push(&key.into_bytes()?.unwrap_or_default());
                }
                call.command(delete.repeatable()).await?;
            }
            cursor = next.into_bytes()?.unwrap_or_default();
            if cursor == b"0" {
                return Ok(());
            }
        }
    }
}
