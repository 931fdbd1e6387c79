//! The journal of workflow runs that a replaying engine keeps: runs, steps with the history of their attempts, named
//! state, versions of workflows. Keys and fields are those that @pikku/redis writes for @pikku/core 0.12; JSON passes
//! through as bytes.
//!
//! - [`redis`]: one script an operation, in `lua/`, all of them after `shared.lua`
//! - `steps`: the same in a cluster where the keys lie in several slots, in ordered steps of one key each, of which one
//!   decides; the scripts are in `lua/steps/`
//! - [`memory`]: the same in the embedded engine, with `indexes` and `lists` as its parts
//! - [`history`]: the entries of a step's history, changed as text
//!
//! Beside what the original stores, the journal keeps indexes, so that nothing is ever looked for in all keys of the
//! database. Runs that the original made have none and are read without.

use std::sync::Arc;

use async_trait::async_trait;

pub mod history;
mod indexes;
mod lists;
pub mod memory;
pub mod redis;
mod scripts;
mod steps;

use super::{Fields, StatusChange, Transition};
use crate::connection::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{Fence, Outcome};
use crate::key::{JournalKeys, UUID_LENGTH};

/// A run to be stored.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Its id, which the caller made and names no other run.
    pub id: String,
    /// The name of its workflow.
    pub workflow: String,
    /// All fields and values of the hash, alternating.
    pub fields: Fields,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// A step to be stored.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// The run that it belongs to.
    pub run_id: String,
    /// Its name in the run.
    pub name: String,
    /// `{run_id}:{name}:{now}`
    pub id: String,
    /// All fields and values of the hash, alternating.
    pub fields: Fields,
    /// The entry of the history, JSON.
    pub entry: Vec<u8>,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// A status for the current attempt of a step.
#[derive(Debug, Clone)]
pub struct StepChange {
    /// `scheduled`, `running`, `succeeded` or `failed`.
    pub status: String,
    /// `result` or `error` with its JSON, for the last two.
    pub payload: Option<(String, Vec<u8>)>,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// What became of a [`StepChange`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It is stored.
    Moved,
    /// The step is further, and stays there.
    Stayed,
    /// There is no such step.
    Missing,
}

impl Outcome for Moved {}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// There is no such step.
    Missing,
    /// The step is for another function.
    Mismatch,
    /// The step has succeeded, or somebody else runs it.
    Taken,
    /// The step is the caller's; its fields.
    Claimed(Fields),
}

impl Outcome for Claim {
    fn mistaken(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

/// A step as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: Vec<u8>,
    /// Its fields and values, alternating.
    pub fields: Fields,
}

/// The history of a step as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepHistory {
    /// The name of the step.
    pub name: Vec<u8>,
    /// The step that it followed; empty for none.
    pub from: Vec<u8>,
    /// The entries, oldest first.
    pub entries: Vec<Vec<u8>>,
}

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Only those of this workflow.
    pub workflow: Option<String>,
    /// Only those with this status.
    pub status: Option<String>,
    /// How many of the newest to leave out.
    pub offset: u64,
    /// How many at most.
    pub limit: u64,
}

impl RunFilter {
    /// The part of the index that holds the runs.
    fn index(&self) -> Vec<&str> {
        match (&self.status, &self.workflow) {
            (None, None) => vec![],
            (None, Some(workflow)) => vec!["workflow", workflow],
            (Some(status), None) => vec!["status", status],
            (Some(status), Some(workflow)) => vec!["status", status, workflow],
        }
    }
}

/// The run of a step id, whose first `length` bytes are its id. Without a UUID there, a second colon makes that a guess,
/// which the stored step corrects; but a fence must be looked up under the right run from the start.
fn run_of_step(step_id: &str, length: usize, fence: Option<Fence>) -> Result<&str> {
    let (run_id, rest) = step_id.split_at(length);
    if fence.is_some() && length != UUID_LENGTH && rest.matches(':').count() > 2 {
        let text = "under a fence, a step id must be that of a run whose id is a UUID: this one does not say where the \
                    run id ends";
        return Err(Error::new(ErrorKind::InvalidArgument, text));
    }
    Ok(run_id)
}

/// Statuses of a step that somebody is expected to complete.
const IN_FLIGHT: [&str; 3] = ["scheduled", "running", "suspended"];

/// The journal in one backend.
#[async_trait]
pub trait JournalStore: Send + Sync {
    /// The same journal, written under a fence: one lower than what a run or anything of it was last written under is
    /// `StaleFence`. Versions of workflows and indexes belong to no run, and ask for none.
    fn under(&self, fence: Fence) -> Arc<dyn JournalStore>;

    /// Proves that the backend answers.
    async fn ping(&self) -> Result<()>;

    /// Stores a run.
    async fn create_run(&self, run: NewRun) -> Result<()>;

    /// The fields of a run; none if there is no such run.
    async fn run(&self, run_id: &str) -> Result<Fields>;

    /// Changes the status of an existing run, unless it has completed or was cancelled.
    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition>;

    /// Stores a step, and says whether it did: one that is there stays.
    async fn insert_step(&self, step: NewStep) -> Result<bool>;

    /// The fields of a step; none if there is no such step.
    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields>;

    /// Moves a step forward.
    async fn move_step(&self, step_id: &str, change: StepChange) -> Result<Moved>;

    /// Sets a field that has no part in the status; `false` if there is no such step.
    async fn set_step_field(&self, step_id: &str, field: &str, value: &str, now: u64) -> Result<bool>;

    /// Begins the next attempt of a step that has not succeeded. Its fields; none if there is no such step.
    async fn retry_step(&self, step_id: &str, status: &str, now: u64) -> Result<Fields>;

    /// Takes a step for execution by a function (or by none).
    async fn claim_step(
        &self,
        run_id: &str,
        step_name: &str,
        function: Option<&str>,
        now: u64,
    ) -> Result<Claim>;

    /// The steps of a run in the order of their insertion, with these of their fields or, if none is named, all.
    async fn steps(&self, run_id: &str, fields: &[&str]) -> Result<Vec<Step>>;

    /// The histories of the steps of a run.
    async fn history(&self, run_id: &str) -> Result<Vec<StepHistory>>;

    /// Status and result of each of these steps.
    async fn results(&self, run_id: &str, step_names: &[String]) -> Result<Vec<[Option<Vec<u8>>; 2]>>;

    /// Stores a named value of a run's state as JSON; `false` if there is no such run.
    async fn set_run_state(&self, run_id: &str, name: &str, json: &[u8], now: u64) -> Result<bool>;

    /// The state of a run: what old versions stored as one JSON object, then names and JSON, alternating.
    async fn run_state(&self, run_id: &str) -> Result<(Option<Vec<u8>>, Fields)>;

    /// Stores a version of a workflow, unless it is there.
    async fn add_version(&self, workflow: &str, graph_hash: &str, fields: Fields) -> Result<()>;

    /// Changes the status of a version; `false` if there is none.
    async fn set_version_status(&self, workflow: &str, graph_hash: &str, status: &str) -> Result<bool>;

    /// The fields of a version; none if there is no such version.
    async fn version(&self, workflow: &str, graph_hash: &str) -> Result<Fields>;

    /// Runs, newest first; of one that cannot be read only the id. `None` if runs were never listed.
    async fn list_runs(&self, filter: RunFilter) -> Result<Option<Vec<Fields>>>;

    /// The names of workflows that have runs, sorted. `None` if runs were never listed.
    async fn workflow_names(&self) -> Result<Option<Vec<Vec<u8>>>>;

    /// Lists all runs that are not listed yet, and says how many they were. Looks through all keys.
    async fn index_runs(&self) -> Result<u64>;

    /// Deletes a run with everything that belongs to it; `false` if there is no such run.
    async fn delete_run(&self, run_id: &str) -> Result<bool>;

    /// Ids of running runs with no step in flight in which nothing happened since `before`, longest first.
    async fn stalled_runs(&self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>>;

    /// Run id and step id of steps of running runs that have been pending since `before`, longest first.
    async fn undispatched_steps(&self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>>;
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: JournalKeys) -> Result<Arc<dyn JournalStore>> {
    Ok(match backend {
        Backend::Server(client) => {
            let together = keys.lie_together();
            let journal = redis::RedisJournal::new(Arc::clone(client), keys);
            if client.is_cluster() && !together {
                Arc::new(steps::SteppedJournal::new(journal))
            } else {
                Arc::new(journal)
            }
        }
        Backend::Memory(engine) => Arc::new(memory::MemoryJournal::new(Arc::clone(engine), keys)),
    })
}
