//! A cache in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CacheStore, Document, updated_at};
use crate::error::Result;
use crate::fence::{Fence, Guard, Outcome};
use crate::key::CacheKeys;
use crate::memory::{Database, Engine};
use crate::time::Millis;

/// A cache in one embedded engine.
#[derive(Clone)]
pub struct MemoryCache {
    engine: Arc<Engine>,
    keys: CacheKeys,
    fence: Option<Fence>,
}

impl MemoryCache {
    /// A cache with these keys.
    pub fn new(engine: Arc<Engine>, keys: CacheKeys) -> Self {
        Self { engine, keys, fence: None }
    }

    /// One write of documents, under the fence if there is one.
    fn write<T: Outcome>(
        &self,
        documents: &[String],
        ttl: Option<Millis>,
        write: impl FnOnce(&mut Database) -> Result<T>,
    ) -> Result<T> {
        let documents = documents.iter().cloned();
        let guard = self.fence.map(|fence| fence.guard(documents, |key| self.keys.fence(key), ttl));
        self.engine.atomically(|db| Guard::around(guard.as_ref(), db, write))
    }
}

#[async_trait]
impl CacheStore for MemoryCache {
    fn under(&self, fence: Fence) -> Arc<dyn CacheStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

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
        self.write(std::slice::from_ref(&key), Some(document.ttl), |db| {
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
        let documents = ids.iter().map(|id| self.keys.document(id)).collect::<Result<Vec<_>>>()?;
        self.write(&documents, None, |db| {
            for document in &documents {
                db.delete(document);
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
