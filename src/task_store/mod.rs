//! State of task executions (contract of @idioteque/redis): a marker `{id}`, a hash `{id}-transactions` of the tasks
//! under way and a hash `{id}-results` of those done. Every write refreshes the time to live of all three.

use std::sync::Arc;

use async_trait::async_trait;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::key::TaskKeys;
use crate::time::Millis;

/// A change of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'change> {
    /// The execution begins.
    Begin,
    /// A task begins.
    BeginTask {
        /// Id of the task.
        task: &'change str,
    },
    /// A task is done: its result is stored and it is under way no more.
    Commit {
        /// Id of the task.
        task: &'change str,
        /// JSON.
        result: &'change [u8],
    },
}

/// What is stored where something is under way.
pub const MARK: &[u8] = b"true";

/// Executions in one backend.
#[async_trait]
pub trait TaskStore: Send + Sync {
    /// Applies a change: as one atomic step where the keys lie in one slot, otherwise in steps of which one decides.
    async fn apply(&self, execution: &str, change: Change<'_>, ttl: Option<Millis>) -> Result<()>;

    /// Whether the execution was begun and not disposed of.
    async fn is_in_progress(&self, execution: &str) -> Result<bool>;

    /// Whether the task was begun and not committed.
    async fn is_task_in_progress(&self, execution: &str, task: &str) -> Result<bool>;

    /// The JSON of a result.
    async fn result(&self, execution: &str, task: &str) -> Result<Option<Vec<u8>>>;

    /// Tasks and the JSON of their results, alternating.
    async fn results(&self, execution: &str) -> Result<Vec<Vec<u8>>>;

    /// Deletes all of it.
    async fn dispose(&self, execution: &str) -> Result<()>;
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: TaskKeys) -> Arc<dyn TaskStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisTasks::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemoryTasks::new(Arc::clone(engine), keys)),
    }
}
