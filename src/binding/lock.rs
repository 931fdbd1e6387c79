//! `NativeLocks`: the lock engine as TypeScript holds it.

use std::sync::Arc;

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::answer;
use super::connection::NativeConnection;
use super::handle::{Held, closed_error};
use crate::key::LockKeys;
use crate::lock::wait::{Patience, acquire};
use crate::lock::{self, LockStore};
use crate::runtime::Output;
use crate::time::Millis;

/// Locks under one prefix of one connection.
#[napi]
pub struct NativeLocks {
    held: Held<dyn LockStore>,
}

#[napi]
impl NativeLocks {
    /// Locks whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(lock::open(backend, LockKeys::new(key_prefix, &prefix)?))
        })?;
        Ok(Self { held })
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
        let (store, handle) = (self.held.get(), Arc::clone(self.held.handle()));
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
        let store = self.held.get();
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
        let store = self.held.get();
        answer(env, async move {
            let ttl = Millis::positive("ttl", ttl)?;
            store?.extend(&key, &token, ttl).await.map(Output::Bool)
        })
    }

    /// Resolves whether anybody holds the lock.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn is_locked<'env>(&self, env: &'env Env, key: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, async move { store?.is_locked(&key).await.map(Output::Bool) })
    }
}
