//! State of workflow runs and their steps: two kinds of hashes whose fields are those that
//! @pikku-workflows/redis writes. JSON passes through as bytes.

use std::sync::Arc;

use async_trait::async_trait;

pub mod journal;
pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::fence::{Fence, Outcome};
use crate::key::WorkflowKeys;

/// A change of a run's status.
#[derive(Debug, Clone)]
pub struct StatusChange {
    /// The new status.
    pub status: String,
    /// JSON; `None` leaves the stored one.
    pub output: Option<Vec<u8>>,
    /// JSON; `None` leaves the stored one of a run that fails, and removes that of any other.
    pub error: Option<Vec<u8>>,
    /// Allows a run to leave a final status.
    pub reopen: bool,
    /// Milliseconds since 1970.
    pub now: u64,
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// It is stored, now or already.
    Applied,
    /// There is no such run.
    Missing,
    /// The run has ended, and what it ended with stays.
    Final,
}

impl Transition {
    /// The word that TypeScript sees.
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Missing => "missing",
            Self::Final => "final",
        }
    }
}

impl Outcome for Transition {}

/// Statuses that a run does not leave by itself. A failed run may: its queue tries again.
pub const FINAL_RUN_STATUSES: [&str; 2] = ["completed", "cancelled"];
/// Statuses of a step that is done, in the vocabulary of either generation.
pub const DONE_STEP_STATUSES: [&str; 2] = ["done", "succeeded"];

/// Fields of a stored hash with their values, alternating; empty if there is none.
pub type Fields = Vec<Vec<u8>>;

impl Outcome for Fields {}

/// Runs and steps in one backend.
#[async_trait]
pub trait WorkflowStore: Send + Sync {
    /// The same runs, written under a fence: one lower than what a run or one of its steps was last written under is
    /// `StaleFence`.
    fn under(&self, fence: Fence) -> Arc<dyn WorkflowStore>;

    /// Proves that the backend answers.
    async fn ping(&self) -> Result<()>;

    /// Stores a new run with the status `running`. `run_id` was made by the caller and names no other run.
    async fn create_run(&self, run_id: &str, workflow: &str, input: &[u8], now: u64) -> Result<()>;

    /// The stored run.
    async fn run(&self, run_id: &str) -> Result<Fields>;

    /// Changes the status of an existing run.
    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition>;

    /// The stored step.
    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields>;

    /// Marks a step as scheduled, unless it is already further.
    async fn schedule_step(&self, run_id: &str, step_name: &str, now: u64) -> Result<()>;

    /// Stores a step's result. The first result of a step stays.
    async fn complete_step(&self, run_id: &str, step_name: &str, result: &[u8], now: u64) -> Result<()>;

    /// Stores a step's error, unless the step is done.
    async fn fail_step(&self, run_id: &str, step_name: &str, error: &[u8], now: u64) -> Result<()>;
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: WorkflowKeys) -> Arc<dyn WorkflowStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisWorkflows::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemoryWorkflows::new(Arc::clone(engine), keys)),
    }
}
