//! A cache of JSON documents with a version of their own: an older document never replaces a newer one.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::fence::Fence;
use crate::key::CacheKeys;
use crate::time::Millis;

/// A document to cache.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its id.
    pub id: String,
    /// The document.
    pub json: Vec<u8>,
    /// Its field `updatedAt`, if it has a number there.
    pub updated_at: Option<f64>,
    /// How long it stays.
    pub ttl: Millis,
}

/// A cache in one backend.
#[async_trait]
pub trait CacheStore: Send + Sync {
    /// The same cache, written under a fence: one lower than what a document was last written under is `StaleFence`.
    /// `clear` asks for none: it is about documents of many locks.
    fn under(&self, fence: Fence) -> Arc<dyn CacheStore>;

    /// The documents of these ids, in this order.
    async fn get_many(&self, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Caches a document. `false` if a newer one is there, which stays.
    async fn set(&self, document: Document) -> Result<bool>;

    /// Forgets documents. Under a fence all or none, and what is not there is refused to earlier holders all the same.
    async fn delete_many(&self, ids: &[String]) -> Result<()>;

    /// Forgets everything under this cache's prefix, and nothing else.
    async fn clear(&self) -> Result<()>;
}

/// The cache of a backend.
pub fn open(backend: &Backend, keys: CacheKeys) -> Arc<dyn CacheStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisCache::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemoryCache::new(Arc::clone(engine), keys)),
    }
}

#[derive(Deserialize)]
struct Dated {
    #[serde(rename = "updatedAt")]
    updated_at: f64,
}

/// `updatedAt` of a stored document; `None` if it has none, or is not JSON.
fn updated_at(json: &[u8]) -> Option<f64> {
    serde_json::from_slice::<Dated>(json).ok().map(|dated| dated.updated_at)
}
