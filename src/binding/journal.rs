//! `NativeJournal`: the journal of workflow runs as TypeScript holds it.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, bytes, count, done, texts, texts_or_null, timestamp};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::key::JournalKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::workflow::StatusChange;
use crate::workflow::journal::{
    self, Claim, JournalStore, Moved, NewRun, NewStep, RunFilter, Step, StepChange, StepHistory,
};

/// The journal of runs under one prefix of one connection.
#[napi]
pub struct NativeJournal {
    held: Held<dyn JournalStore>,
}

fn step(Step { name, fields }: Step) -> Output {
    Output::List(vec![Output::Text(name), texts(fields)])
}

fn history(StepHistory { name, from, entries }: StepHistory) -> Output {
    Output::List(vec![Output::Text(name), Output::Text(from), texts(entries)])
}

#[napi]
#[allow(clippy::too_many_arguments)] // as many as a step has, and the fence
impl NativeJournal {
    /// The journal whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            journal::open(backend, JournalKeys::new(key_prefix, &prefix)?)
        })?;
        Ok(Self { held })
    }

    /// Proves that the backend answers.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn ping<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.ping"), async move { store?.ping().await.map(done) })
    }

    /// Stores a run; `fields` alternates all its fields and values.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn create_run<'env>(
        &self,
        env: &'env Env,
        id: String,
        workflow: String,
        fields: Vec<String>,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.createRun"), async move {
            let run = NewRun { id, workflow, fields: bytes(fields), now: timestamp(now)? };
            store?.create_run(run).await.map(done)
        })
    }

    /// Fields and values of a run, alternating; empty if there is none.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn run<'env>(&self, env: &'env Env, run_id: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.run"), async move { store?.run(&run_id).await.map(texts) })
    }

    /// Changes the status of a run: `applied`, `missing` or `final`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn update_run_status<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        status: String,
        output: Option<String>,
        error: Option<String>,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.updateRunStatus"), async move {
            let change = StatusChange {
                status,
                output: output.map(String::into_bytes),
                error: error.map(String::into_bytes),
                reopen: false,
                now: timestamp(now)?,
            };
            let transition = store?.update_run_status(&run_id, change).await?;
            Ok(Output::text(transition.name()))
        })
    }

    /// Stores a step with its first entry of history; `false` if it is there already.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn insert_step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        name: String,
        id: String,
        fields: Vec<String>,
        entry: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.insertStep"), async move {
            let (fields, entry, now) = (bytes(fields), entry.into_bytes(), timestamp(now)?);
            store?.insert_step(NewStep { run_id, name, id, fields, entry, now }).await.map(Output::Bool)
        })
    }

    /// Fields and values of a step, alternating; empty if there is none.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn step<'env>(&self, env: &'env Env, run_id: String, name: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.step"), async move { store?.step(&run_id, &name).await.map(texts) })
    }

    /// Moves a step to a status, with the field `result` or `error` and its JSON: `moved`, `stayed` or `missing`.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn move_step<'env>(
        &self,
        env: &'env Env,
        step_id: String,
        status: String,
        field: Option<String>,
        json: Option<String>,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.moveStep"), async move {
            let payload = field.zip(json.map(String::into_bytes));
            let change = StepChange { status, payload, now: timestamp(now)? };
            Ok(Output::text(match store?.move_step(&step_id, change).await? {
                Moved::Moved => "moved",
                Moved::Stayed => "stayed",
                Moved::Missing => "missing",
            }))
        })
    }

    /// Sets a field of a step that has no part in its status; `false` if there is no such step.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn set_step_field<'env>(
        &self,
        env: &'env Env,
        step_id: String,
        field: String,
        value: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.setStepField"), async move {
            store?.set_step_field(&step_id, &field, &value, timestamp(now)?).await.map(Output::Bool)
        })
    }

    /// Begins the next attempt of a step. Its fields and values; empty if there is no such step.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn retry_step<'env>(
        &self,
        env: &'env Env,
        step_id: String,
        status: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.retryStep"), async move {
            store?.retry_step(&step_id, &status, timestamp(now)?).await.map(texts)
        })
    }

    /// Takes a step for execution: its fields and values, or `missing`, `mismatch` or `taken`.
    #[napi(ts_return_type = "Promise<string[] | 'missing' | 'mismatch' | 'taken'>")]
    pub fn claim_step<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        name: String,
        rpc_name: Option<String>,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.claimStep"), async move {
            Ok(match store?.claim_step(&run_id, &name, rpc_name.as_deref(), timestamp(now)?).await? {
                Claim::Claimed(fields) => texts(fields),
                Claim::Missing => Output::text("missing"),
                Claim::Mismatch => Output::text("mismatch"),
                Claim::Taken => Output::text("taken"),
            })
        })
    }

    /// The steps of a run in the order of their insertion, each with these fields or, if none is named, all.
    #[napi(ts_return_type = "Promise<[name: string, fields: string[]][]>")]
    pub fn steps<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        fields: Vec<String>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.steps"), async move {
            let fields: Vec<_> = fields.iter().map(String::as_str).collect();
            let steps = store?.steps(&run_id, &fields).await?;
            Ok(Output::List(steps.into_iter().map(step).collect()))
        })
    }

    /// The histories of the steps of a run: name, name of the step before (or nothing), entries.
    #[napi(ts_return_type = "Promise<[name: string, from: string, entries: string[]][]>")]
    pub fn history<'env>(&self, env: &'env Env, run_id: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.history"), async move {
            let histories = store?.history(&run_id).await?;
            Ok(Output::List(histories.into_iter().map(history).collect()))
        })
    }

    /// Status and result of each of these steps.
    #[napi(ts_return_type = "Promise<[status: string | null, result: string | null][]>")]
    pub fn results<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        names: Vec<String>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.results"), async move {
            let results = store?.results(&run_id, &names).await?;
            let pair = |pair: [Option<Vec<u8>>; 2]| Output::List(pair.map(Output::text_or_null).into());
            Ok(Output::List(results.into_iter().map(pair).collect()))
        })
    }

    /// Stores a named value of a run's state; `false` if there is no such run.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn set_run_state<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        name: String,
        json: String,
        now: f64,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.setRunState"), async move {
            store?.set_run_state(&run_id, &name, json.as_bytes(), timestamp(now)?).await.map(Output::Bool)
        })
    }

    /// The state of a run: what old versions stored as one JSON object, then names and JSON, alternating.
    #[napi(ts_return_type = "Promise<[blob: string | null, values: string[]]>")]
    pub fn run_state<'env>(&self, env: &'env Env, run_id: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.runState"), async move {
            let (blob, values) = store?.run_state(&run_id).await?;
            Ok(Output::List(vec![Output::text_or_null(blob), texts(values)]))
        })
    }

    /// Stores a version of a workflow, unless it is there.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn add_version<'env>(
        &self,
        env: &'env Env,
        workflow: String,
        graph_hash: String,
        fields: Vec<String>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.addVersion"), async move {
            store?.add_version(&workflow, &graph_hash, bytes(fields)).await.map(done)
        })
    }

    /// Changes the status of a version; `false` if there is none.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn set_version_status<'env>(
        &self,
        env: &'env Env,
        workflow: String,
        graph_hash: String,
        status: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.setVersionStatus"), async move {
            store?.set_version_status(&workflow, &graph_hash, &status).await.map(Output::Bool)
        })
    }

    /// Fields and values of a version, alternating; empty if there is none.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn version<'env>(
        &self,
        env: &'env Env,
        workflow: String,
        graph_hash: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.version"), async move {
            store?.version(&workflow, &graph_hash).await.map(texts)
        })
    }

    /// Fields and values of runs, newest first; `null` if runs were never listed.
    #[napi(ts_return_type = "Promise<string[][] | null>")]
    pub fn list_runs<'env>(
        &self,
        env: &'env Env,
        workflow: Option<String>,
        status: Option<String>,
        offset: f64,
        limit: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.listRuns"), async move {
            let filter = RunFilter { workflow, status, offset: count(offset), limit: count(limit) };
            let runs = store?.list_runs(filter).await?;
            Ok(runs.map_or(Output::Null, |runs| Output::List(runs.into_iter().map(texts).collect())))
        })
    }

    /// Names of workflows that have runs, sorted; `null` if runs were never listed.
    #[napi(ts_return_type = "Promise<string[] | null>")]
    pub fn workflow_names<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.workflowNames"), async move {
            store?.workflow_names().await.map(texts_or_null)
        })
    }

    /// Lists the runs that are not listed yet, and says how many they were.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn index_runs<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.indexRuns"), async move {
            Ok(Output::Number(store?.index_runs().await? as f64))
        })
    }

    /// Deletes a run with everything that belongs to it; `false` if there is none.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn delete_run<'env>(
        &self,
        env: &'env Env,
        run_id: String,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, JournalStore::under);
        answer(env, operation!("journal.deleteRun"), async move {
            store?.delete_run(&run_id).await.map(Output::Bool)
        })
    }

    /// Ids of running runs with no step in flight in which nothing happened since `before`.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn stalled_runs<'env>(&self, env: &'env Env, before: f64, limit: f64) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.stalledRuns"), async move {
            store?.stalled_runs(timestamp(before)?, count(limit)).await.map(texts)
        })
    }

    /// Run id and step id of steps of running runs that have been pending since `before`.
    #[napi(ts_return_type = "Promise<[runId: string, stepId: string][]>")]
    pub fn undispatched_steps<'env>(
        &self,
        env: &'env Env,
        before: f64,
        limit: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("journal.undispatchedSteps"), async move {
            let steps = store?.undispatched_steps(timestamp(before)?, count(limit)).await?;
            Ok(Output::List(steps.into_iter().map(|step| texts(step.into())).collect()))
        })
    }
}
