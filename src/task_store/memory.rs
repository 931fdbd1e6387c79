//! Executions in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Change, MARK, TaskStore};
use crate::error::Result;
use crate::key::TaskKeys;
use crate::memory::Engine;
use crate::time::Millis;

/// Executions in one embedded engine.
pub struct MemoryTasks {
    engine: Arc<Engine>,
    keys: TaskKeys,
}

impl MemoryTasks {
    /// Executions with these keys.
    pub fn new(engine: Arc<Engine>, keys: TaskKeys) -> Self {
        Self { engine, keys }
    }
}

#[async_trait]
impl TaskStore for MemoryTasks {
    async fn apply(&self, execution: &str, change: Change<'_>, ttl: Option<Millis>) -> Result<()> {
        let marker = self.keys.marker(execution)?;
        let (transactions, results) = (self.keys.transactions(execution)?, self.keys.results(execution)?);
        self.engine.atomically(|db| {
            match change {
                Change::Begin => db.set(&marker, MARK.to_vec(), None),
                Change::BeginTask { task } => drop(db.hash_mut(&transactions)?.set(task, MARK)),
                Change::Commit { task, result } => {
                    db.hash_mut(&results)?.set(task, result);
                    db.hash_mut(&transactions)?.remove(task);
                }
            }
            if let Some(ttl) = ttl {
                for key in [&marker, &transactions, &results] {
                    db.expire(key, ttl);
                }
            }
            Ok(())
        })
    }

    async fn is_in_progress(&self, execution: &str) -> Result<bool> {
        let marker = self.keys.marker(execution)?;
        self.engine.atomically(|db| Ok(db.get(&marker)?.is_some_and(|value| !value.is_empty())))
    }

    async fn is_task_in_progress(&self, execution: &str, task: &str) -> Result<bool> {
        let transactions = self.keys.transactions(execution)?;
        self.engine.atomically(|db| {
            let hash = db.hash(&transactions)?;
            Ok(hash.and_then(|hash| hash.get(task)).is_some_and(|value| !value.is_empty()))
        })
    }

    async fn result(&self, execution: &str, task: &str) -> Result<Option<Vec<u8>>> {
        let results = self.keys.results(execution)?;
        self.engine
            .atomically(|db| Ok(db.hash(&results)?.and_then(|hash| hash.get(task)).map(<[u8]>::to_vec)))
    }

    async fn results(&self, execution: &str) -> Result<Vec<Vec<u8>>> {
        let results = self.keys.results(execution)?;
        self.engine.atomically(|db| {
            Ok(db.hash(&results)?.map_or_else(Vec::new, |hash| {
                hash.iter().flat_map(|(task, result)| [task.to_vec(), result.to_vec()]).collect()
            }))
        })
    }

    async fn dispose(&self, execution: &str) -> Result<()> {
        let keys =
            [self.keys.marker(execution)?, self.keys.transactions(execution)?, self.keys.results(execution)?];
        self.engine.atomically(|db| {
            for key in keys {
                db.delete(key);
            }
        });
        Ok(())
    }
}
