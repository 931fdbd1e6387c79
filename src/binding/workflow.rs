//! `NativeWorkflows`: runs and steps as TypeScript holds them.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, done, texts, timestamp};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::key::WorkflowKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::workflow::{self, StatusChange, WorkflowStore};

/// Runs and steps under one prefix of one connection.
#[napi]
pub struct NativeWorkflows {
    held: Held<dyn WorkflowStore>,
}

#[napi]
impl NativeWorkflows {
    /// Runs and steps whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(workflow::open(backend, WorkflowKeys::new(key_prefix, &prefix)?))
        })?;
        Ok(Self { held })
    }

    /// Proves that the backend answers.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn ping<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("workflow.ping"), async move { store?.ping().await.map(done) })
    }

    /// Stores a new run.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn create_run<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        workflow: String,
        input: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, WorkflowStore::under);
        answer(env, operation!("workflow.createRun"), async move {
            store?.create_run(&run_id, &workflow, input.as_bytes(), timestamp(now)?).await.map(done)
        })
    }

    /// Fields and values of a run, alternating; empty if there is none.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn run<'env>(&self, env: &'env Env, run_id: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("workflow.run"), async move { store?.run(&run_id).await.map(texts) })
    }

    /// Changes the status of a run. Output and error are JSON.
    #[napi(ts_return_type = "Promise<'applied' | 'missing' | 'final'>")]
    #[allow(clippy::too_many_arguments)]
    pub fn update_run_status<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        status: String,
        output: Option<String>,
        error: Option<String>,
        reopen: bool,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, WorkflowStore::under);
        answer(env, operation!("workflow.updateRunStatus"), async move {
            let change = StatusChange {
                status,
                output: output.map(String::into_bytes),
                error: error.map(String::into_bytes),
                reopen,
                now: timestamp(now)?,
            };
            let transition = store?.update_run_status(&run_id, change).await?;
            Ok(Output::text(transition.name()))
        })
    }

    /// Fields and values of a step, alternating; empty if there is none.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        step_name: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(
            env,
            operation!("workflow.step"),
            async move { store?.step(&run_id, &step_name).await.map(texts) },
        )
    }

    /// Marks a step as scheduled, unless it is already further.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn schedule_step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        step_name: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, WorkflowStore::under);
        answer(env, operation!("workflow.scheduleStep"), async move {
            store?.schedule_step(&run_id, &step_name, timestamp(now)?).await.map(done)
        })
    }

    /// Stores a step's result as JSON. The first result stays.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn complete_step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        step_name: String,
        result: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, WorkflowStore::under);
        answer(env, operation!("workflow.completeStep"), async move {
            store?.complete_step(&run_id, &step_name, result.as_bytes(), timestamp(now)?).await.map(done)
        })
    }

    /// Stores a step's error as JSON, unless the step is done.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn fail_step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        step_name: String,
        error: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, WorkflowStore::under);
        answer(env, operation!("workflow.failStep"), async move {
            store?.fail_step(&run_id, &step_name, error.as_bytes(), timestamp(now)?).await.map(done)
        })
    }
}
