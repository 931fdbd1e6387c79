//! `NativeLocks`: the lock engine as TypeScript holds it.

use std::sync::Arc;

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, thrown};
use super::connection::NativeConnection;
use super::handle::{Handle, closed_error};
use crate::error::Result;
use crate::key::LockKeys;
use crate::lock::wait::{Patience, acquire};
use crate::lock::{self, LockStore};
use crate::runtime::Output;
use crate::time::Millis;

/// Locks under one prefix of one connection.
#[napi]
pub struct NativeLocks {
    handle: Arc<Handle>,
    store: Arc<dyn LockStore>,
}

#[napi]
impl NativeLocks {
    /// Locks whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let handle = connection.handle();
        let open = || Ok(lock::open(handle.backend()?, LockKeys::new(handle.key_prefix(), &prefix)?));
        let store = open().map_err(|error| thrown(&env, &error))?;
        Ok(Self { handle: Arc::clone(handle), store })
    }

    fn store(&self) -> Result<Arc<dyn LockStore>> {
        self.handle.backend()?;
        Ok(Arc::clone(&self.store))
    }

    /// Acquires within `budget` milliseconds, trying at least every `poll`. Resolves whether the lock is ours.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn acquire<'env>(
        &self,
        env: &'env Env,
        key: String,
        token: String,
        ttl: f64,
        budget: f64,
        poll: f64,
    ) -> napi::Result<Unknown<'env>> {
        let (store, handle) = (self.store(), Arc::clone(&self.handle));
        answer(env, async move {
            let ttl = Millis::positive("ttl", ttl)?;
            let patience = Patience {
                budget: Millis::zero_or_more("the waiting time", budget)?,
                poll: Millis::positive("the retry delay", poll)?,
            };
            let closed = async {
                handle.until_closed().await;
                closed_error()
            };
            acquire(&store?, &key, &token, ttl, patience, closed).await.map(Output::Bool)
        })
    }

    /// Resolves whether the lock was held under this token, and is free now.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn release<'env>(&self, env: &'env Env, key: String, token: String) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move { store?.release(&key, &token).await.map(Output::Bool) })
    }

    /// Resolves whether the lock was held under this token, and has `ttl` milliseconds left now.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn extend<'env>(
        &self,
        env: &'env Env,
        key: String,
        token: String,
        ttl: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move {
            let ttl = Millis::positive("ttl", ttl)?;
            store?.extend(&key, &token, ttl).await.map(Output::Bool)
        })
    }

    /// Resolves whether anybody holds the lock.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn is_locked<'env>(&self, env: &'env Env, key: String) -> napi::Result<Unknown<'env>> {
        let store = self.store();
        answer(env, async move { store?.is_locked(&key).await.map(Output::Bool) })
    }
}
