//! `NativeCache`: a cache as TypeScript holds it.

use std::sync::Arc;

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, thrown};
use super::connection::NativeConnection;
use super::handle::Handle;
use crate::cache::{self, CacheStore, Document};
use crate::error::Result;
use crate::key::CacheKeys;
use crate::runtime::Output;
use crate::time::Millis;

/// A cache under one prefix of one connection.
#[napi]
pub struct NativeCache {
    handle: Arc<Handle>,
    store: Arc<dyn CacheStore>,
}

#[napi]
impl NativeCache {
    /// A cache whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let handle = connection.handle();
        let open = || Ok(cache::open(handle.backend()?, CacheKeys::new(handle.key_prefix(), &prefix)?));
        let store = open().map_err(|error| thrown(&env, &error))?;
        Ok(Self { handle: Arc::clone(handle), store })
    }

    fn store(&self) -> Result<Arc<dyn CacheStore>> {
        self.handle.backend()?;
        Ok(Arc::clone(&self.store))
    }

    /// The documents of these ids, in this order.
    #[napi(ts_return_type = "Promise<(string | null)[]>")]
    pub fn get_many<'env>(&self, env: &'env Env, ids: Vec<String>) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move {
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
    ) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move {
            let ttl = Millis::positive("ttl", ttl)?;
            store?.set(Document { id, json: json.into_bytes(), updated_at, ttl }).await.map(Output::Bool)
        })
    }

    /// Forgets documents.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn delete_many<'env>(&self, env: &'env Env, ids: Vec<String>) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move { store?.delete_many(&ids).await.map(|()| Output::Undefined) })
    }

    /// Forgets everything under the prefix.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn clear<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move { store?.clear().await.map(|()| Output::Undefined) })
    }
}
