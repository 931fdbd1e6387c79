//! `NativeTasks`: task executions as TypeScript holds them.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, done, thrown};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::key::TaskKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::task_store::{self, Change, TaskStore};
use crate::time::Millis;

/// Executions under one prefix of one connection.
#[napi]
pub struct NativeTasks {
    held: Held<dyn TaskStore>,
    ttl: Option<Millis>,
}

#[napi]
impl NativeTasks {
    /// Executions whose keys start with `prefix`. `ttl` in milliseconds, 0 for none.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String, ttl: f64) -> napi::Result<Self> {
        let ttl = Millis::zero_or_more("ttl", ttl).map_err(|error| thrown(&env, &error))?;
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(task_store::open(backend, TaskKeys::new(key_prefix, &prefix)?))
        })?;
        Ok(Self { held, ttl: (ttl.get() > 0).then_some(ttl) })
    }

    /// Marks an execution as under way.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn begin<'env>(&self, env: &'env Env, execution: String) -> napi::Result<Unknown<'env>> {
        let (store, ttl) = (self.held.get(), self.ttl);
        answer(env, operation!("task.begin"), async move {
            store?.apply(&execution, Change::Begin, ttl).await.map(done)
        })
    }

    /// Resolves whether an execution is under way.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn is_in_progress<'env>(&self, env: &'env Env, execution: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("task.isInProgress"), async move {
            store?.is_in_progress(&execution).await.map(Output::Bool)
        })
    }

    /// Marks a task as under way.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn begin_task<'env>(
        &self,
        env: &'env Env,
        execution: String,
        task: String,
    ) -> napi::Result<Unknown<'env>> {
        let (store, ttl) = (self.held.get(), self.ttl);
        answer(env, operation!("task.beginTask"), async move {
            store?.apply(&execution, Change::BeginTask { task: &task }, ttl).await.map(done)
        })
    }

    /// Resolves whether a task is under way.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn is_task_in_progress<'env>(
        &self,
        env: &'env Env,
        execution: String,
        task: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("task.isTaskInProgress"), async move {
            store?.is_task_in_progress(&execution, &task).await.map(Output::Bool)
        })
    }

    /// Stores the result of a task as JSON; the task is under way no more.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn commit<'env>(
        &self,
        env: &'env Env,
        execution: String,
        task: String,
        result: String,
    ) -> napi::Result<Unknown<'env>> {
        let (store, ttl) = (self.held.get(), self.ttl);
        answer(env, operation!("task.commit"), async move {
            let change = Change::Commit { task: &task, result: result.as_bytes() };
            store?.apply(&execution, change, ttl).await.map(done)
        })
    }

    /// The JSON of a result, or `null`.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn result<'env>(
        &self,
        env: &'env Env,
        execution: String,
        task: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("task.result"), async move {
            store?.result(&execution, &task).await.map(Output::text_or_null)
        })
    }

    /// Tasks and the JSON of their results, alternating.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn results<'env>(&self, env: &'env Env, execution: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("task.results"), async move {
            let results = store?.results(&execution).await?;
            Ok(Output::List(results.into_iter().map(Output::Text).collect()))
        })
    }

    /// Deletes everything about an execution.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn dispose<'env>(&self, env: &'env Env, execution: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("task.dispose"), async move { store?.dispose(&execution).await.map(done) })
    }
}
