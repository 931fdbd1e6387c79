//! A cache on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheStore, Document};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::CacheKeys;
use crate::script::{OnLostReply, Script};

static SET_DOCUMENT: Script = Script::new(include_str!("lua/set_document.lua"));

/// How many keys a step of [`CacheStore::clear`] asks for.
const CLEAR_STEP: u64 = 1000;

/// A cache on one server.
pub struct RedisCache {
    client: Arc<Client>,
    keys: CacheKeys,
}

impl RedisCache {
    /// A cache with these keys.
    pub fn new(client: Arc<Client>, keys: CacheKeys) -> Self {
        Self { client, keys }
    }

    fn with_keys(&self, name: &str, ids: &[String]) -> Result<Command> {
        ids.iter().try_fold(Command::new(name), |command, id| Ok(command.arg(self.keys.document(id)?)))
    }
}

#[async_trait]
impl CacheStore for RedisCache {
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
        let ttl = document.ttl.get().to_string();
        let updated_at = document.updated_at.map(|time| time.to_string()).unwrap_or_default();
        let arguments = [&document.json, ttl.as_bytes(), updated_at.as_bytes()];
        let stored = SET_DOCUMENT
            .run(self.client.call(), OnLostReply::Repeat, &[&key], &arguments)
            .await
            .and_then(Reply::into_int)
            .map_err(|error| error.about(&key))?;
        Ok(stored == 1)
    }

    async fn delete_many(&self, ids: &[String]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
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
