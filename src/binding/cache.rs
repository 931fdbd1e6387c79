//! `NativeCache`: a cache as TypeScript holds it.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, done};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::cache::{self, CacheStore, Document};
use crate::key::CacheKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::time::Millis;

/// A cache under one prefix of one connection.
#[napi]
pub struct NativeCache {
    held: Held<dyn CacheStore>,
}

#[napi]
impl NativeCache {
    /// A cache whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(cache::open(backend, CacheKeys::new(key_prefix, &prefix)?))
        })?;
        Ok(Self { held })
    }

    /// The documents of these ids, in this order.
    #[napi(ts_return_type = "Promise<(string | null)[]>")]
    pub fn get_many<'env>(&self, env: &'env Env, ids: Vec<String>) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("cache.getMany"), async move {
            let documents = store?.get_many(&ids).await?;
            Ok(Output::List(documents.into_iter().map(Output::text_or_null).collect()))
        })
    }

    /// Caches a document. Resolves `false` if a newer one is there, which stays.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn set<'env>(
        &self,
        env: &'env Env,
        id: String,
        json: String,
        updated_at: Option<f64>,
        ttl: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, CacheStore::under);
        answer(env, operation!("cache.set"), async move {
            let ttl = Millis::positive("ttl", ttl)?;
            store?.set(Document { id, json: json.into_bytes(), updated_at, ttl }).await.map(Output::Bool)
        })
    }

    /// Forgets documents.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn delete_many<'env>(
        &self,
        env: &'env Env,
        ids: Vec<String>,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, CacheStore::under);
        answer(env, operation!("cache.deleteMany"), async move { store?.delete_many(&ids).await.map(done) })
    }

    /// Forgets everything under the prefix.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn clear<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("cache.clear"), async move { store?.clear().await.map(done) })
    }
}
