//! Runs and steps in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{DONE_STEP_STATUSES, FINAL_RUN_STATUSES, Fields, StatusChange, Transition, WorkflowStore};
use crate::error::Result;
use crate::fence::{Fence, Guard, Outcome};
use crate::key::WorkflowKeys;
use crate::memory::{Database, Engine, Hash};

/// Every change is later than the one before it, as the scripts for a server make it.
pub(super) fn touch(hash: &mut Hash, now: u64) {
    let last = hash.get("updatedAt").and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
    hash.set("updatedAt", now.max(last.map_or(0, |last| last.saturating_add(1))).to_string());
}

/// Runs and steps in one embedded engine.
#[derive(Clone)]
pub struct MemoryWorkflows {
    engine: Arc<Engine>,
    keys: WorkflowKeys,
    fence: Option<Fence>,
}

impl MemoryWorkflows {
    /// Runs and steps with these keys.
    pub fn new(engine: Arc<Engine>, keys: WorkflowKeys) -> Self {
        Self { engine, keys, fence: None }
    }

    /// One write of a run, under the fence if there is one.
    fn write<T: Outcome>(&self, run_id: &str, write: impl FnOnce(&mut Database) -> Result<T>) -> Result<T> {
        let run = self.keys.run(run_id)?;
        let guard = self.fence.map(|fence| fence.guard([run], |run| self.keys.fence(run), None));
        self.engine.atomically(|db| Guard::around(guard.as_ref(), db, write))
    }

    fn fields(&self, key: &str) -> Result<Fields> {
        self.engine.atomically(|db| {
            Ok(db.hash(key)?.map_or_else(Vec::new, |hash| {
                hash.iter().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect()
            }))
        })
    }

    /// Moves a step that is not done. `apply` gets its status and says whether it moved the step.
    fn advance(
        &self,
        run_id: &str,
        step_name: &str,
        now: u64,
        apply: impl FnOnce(&[u8], &mut Hash) -> bool,
    ) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        let moved = self.write(run_id, |db| {
            let hash = db.hash_mut(&key)?;
            let status = hash.get("status").unwrap_or_default().to_vec();
            let done = DONE_STEP_STATUSES.iter().any(|done| done.as_bytes() == status);
            let moved = !done && apply(&status, hash);
            if moved {
                touch(hash, now);
            }
            Ok(moved)
        });
        moved.map(drop)
    }
}

#[async_trait]
impl WorkflowStore for MemoryWorkflows {
    fn under(&self, fence: Fence) -> Arc<dyn WorkflowStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn create_run(&self, run_id: &str, workflow: &str, input: &[u8], now: u64) -> Result<()> {
        let key = self.keys.run(run_id)?;
        self.write(run_id, |db| {
            let hash = db.hash_mut(&key)?;
            hash.set("id", run_id);
            hash.set("workflow", workflow);
            hash.set("status", "running");
            hash.set("input", input);
            hash.set("createdAt", now.to_string());
            hash.set("updatedAt", now.to_string());
            Ok(())
        })
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.fields(&self.keys.run(run_id)?)
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let key = self.keys.run(run_id)?;
        self.write(run_id, |db| {
            if !db.hash(&key)?.is_some_and(|hash| hash.contains("id")) {
                return Ok(Transition::Missing);
            }
            let hash = db.hash_mut(&key)?;
            let stored = hash.get("status").unwrap_or_default().to_vec();
            let payload = [("output", &change.output), ("error", &change.error)];
            if !change.reopen && FINAL_RUN_STATUSES.iter().any(|end| end.as_bytes() == stored) {
                let same = stored == change.status.as_bytes()
                    && payload.iter().all(|(field, value)| {
                        value.as_ref().is_none_or(|value| hash.get(field) == Some(value.as_slice()))
                    });
                return Ok(if same { Transition::Applied } else { Transition::Final });
            }
            hash.set("status", change.status.as_str());
            touch(hash, change.now);
            for (field, value) in payload {
                if let Some(value) = value {
                    hash.set(field, value.as_slice());
                }
            }
            if change.status != "failed" && change.error.is_none() {
                hash.remove("error");
            }
            Ok(Transition::Applied)
        })
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.fields(&self.keys.step(run_id, step_name)?)
    }

    async fn schedule_step(&self, run_id: &str, step_name: &str, now: u64) -> Result<()> {
        self.advance(run_id, step_name, now, |status, hash| {
            let moves = status != b"scheduled" && status != b"running";
            if moves {
                hash.set("status", "scheduled");
            }
            moves
        })
    }

    async fn complete_step(&self, run_id: &str, step_name: &str, result: &[u8], now: u64) -> Result<()> {
        self.advance(run_id, step_name, now, |_, hash| {
            hash.set("status", "done");
            hash.set("result", result);
            hash.remove("error");
            true
        })
    }

    async fn fail_step(&self, run_id: &str, step_name: &str, error: &[u8], now: u64) -> Result<()> {
        self.advance(run_id, step_name, now, |_, hash| {
            hash.set("status", "error");
            hash.set("error", error);
            hash.remove("result");
            true
        })
    }
}
