//! A cache in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheStore, Document, updated_at};
use crate::error::Result;
use crate::key::CacheKeys;
use crate::memory::Engine;

/// A cache in one embedded engine.
pub struct MemoryCache {
    engine: Arc<Engine>,
    keys: CacheKeys,
}

impl MemoryCache {
    /// A cache with these keys.
    pub fn new(engine: Arc<Engine>, keys: CacheKeys) -> Self {
        Self { engine, keys }
    }
}

#[async_trait]
impl CacheStore for MemoryCache {
    async fn get_many(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.engine.atomically(|db| {
            // As with MGET, an entry of another type is no value.
            ids.iter()
                .map(|id| {
                    let key = self.keys.document(id)?;
                    Ok(db.get(&key).ok().flatten().map(<[u8]>::to_vec))
                })
                .collect()
        })
    }

    async fn set(&self, document: Document) -> Result<bool> {
        let key = self.keys.document(&document.id)?;
        self.engine.atomically(|db| {
            if let Some(new) = document.updated_at
                && db.get(&key)?.and_then(updated_at).is_some_and(|stored| stored > new)
            {
                return Ok(false);
            }
            db.set(&key, document.json, Some(document.ttl));
            Ok(true)
        })
    }

    async fn delete_many(&self, ids: &[String]) -> Result<()> {
        self.engine.atomically(|db| {
            for id in ids {
                db.delete(self.keys.document(id)?);
            }
            Ok(())
        })
    }

    async fn clear(&self) -> Result<()> {
        let pattern = self.keys.pattern().into_bytes();
        let keys = self.engine.command(&[b"KEYS".to_vec(), pattern])?.into_list()?;
        self.engine.atomically(|db| {
            for key in keys {
                db.delete(key.into_bytes()?.unwrap_or_default());
            }
            Ok(())
        })
    }
}
