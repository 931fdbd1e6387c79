//! The journal in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::indexes::{Section, alternating, pending_member, set_all};
use super::{
    Claim, JournalStore, Moved, NewRun, NewStep, RunFilter, StatusChange, Step, StepChange, StepHistory,
    Transition, run_of_step,
};
use crate::error::Result;
use crate::fence::{Fence, Guard, Outcome};
use crate::key::{JournalKeys, check_name};
use crate::memory::{Database, Engine};
use crate::workflow::memory::touch;
use crate::workflow::{FINAL_RUN_STATUSES, Fields};

/// The journal in one embedded engine.
#[derive(Clone)]
pub struct MemoryJournal {
    engine: Arc<Engine>,
    keys: JournalKeys,
    fence: Option<Fence>,
}

impl MemoryJournal {
    /// The journal with these keys.
    pub fn new(engine: Arc<Engine>, keys: JournalKeys) -> Self {
        Self { engine, keys, fence: None }
    }

    fn section<T>(&self, work: impl FnOnce(&mut Section<'_>) -> Result<T>) -> Result<T> {
        self.engine.atomically(|db| work(&mut Section { db, keys: &self.keys }))
    }

    /// A section that writes what belongs to a run, under the fence if there is one.
    fn write<T: Outcome>(&self, run_id: &str, work: impl FnOnce(&mut Section<'_>) -> Result<T>) -> Result<T> {
        let run = || self.keys.of("run", run_id);
        let guard = self.fence.map(|fence| fence.guard([run()], |run| self.keys.fence(run), None));
        let work = |db: &mut Database| work(&mut Section { db, keys: &self.keys });
        self.engine.atomically(|db| Guard::around(guard.as_ref(), db, work))
    }

    fn fields(&self, key: &str) -> Result<Fields> {
        self.engine.atomically(|db| Ok(alternating(db.hash(key)?)))
    }
}

#[async_trait]
impl JournalStore for MemoryJournal {
    fn under(&self, fence: Fence) -> Arc<dyn JournalStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn create_run(&self, run: NewRun) -> Result<()> {
        let key = self.keys.run(&run.id)?;
        check_name("the workflow name", &run.workflow)?;
        self.write(&run.id, |section| {
            set_all(section.db.hash_mut(&key)?, &run.fields);
            section.db.sorted_mut(section.keys.of("steps", &run.id))?.add("", 0.0);
            section.place_run(&run.id, &run.workflow, run.now as f64, None, "running")?;
            section.place_idle(&run.id, run.now)
        })
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.fields(&self.keys.run(run_id)?)
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let key = self.keys.run(run_id)?;
        self.write(run_id, |section| {
            let Some(hash) = section.db.hash(&key)?.filter(|hash| hash.contains("id")) else {
                return Ok(Transition::Missing);
            };
            let text = |field| String::from_utf8_lossy(hash.get(field).unwrap_or_default()).into_owned();
            let (old, workflow, created) = (text("status"), text("workflow"), text("createdAt"));
            if FINAL_RUN_STATUSES.contains(&old.as_str()) {
                return Ok(if old == change.status { Transition::Applied } else { Transition::Final });
            }
            let hash = section.db.hash_mut(&key)?;
            hash.set("status", change.status.as_str());
            touch(hash, change.now);
            for (field, value) in [("output", &change.output), ("error", &change.error)] {
                if let Some(value) = value {
                    hash.set(field, value.as_slice());
                }
            }
            if change.status != "failed" && change.error.is_none() {
                hash.remove("error");
            }
            let created = created.parse().unwrap_or(change.now as f64);
            section.place_run(run_id, &workflow, created, Some(&old), &change.status)?;
            section.place_idle(run_id, change.now)?;
            if change.status == "running" {
                for (_, key) in section.steps_of(run_id)? {
                    let since = section.number(&key, "updatedAt")?.unwrap_or(change.now as f64);
                    let status = section.field(&key, "status")?;
                    if let (Some(id), Some(b"pending")) = (section.field(&key, "stepId")?, status.as_deref())
                    {
                        let index = section.db.sorted_mut(section.keys.runs(&["pending-steps"]))?;
                        index.add(pending_member(run_id, &id), since);
                    }
                }
            }
            Ok(Transition::Applied)
        })
    }

    async fn insert_step(&self, step: NewStep) -> Result<bool> {
        let key = self.keys.step(&step.run_id, &step.name)?;
        self.write(&step.run_id, |section| {
            let ended = section
                .field(&key, "status")?
                .is_some_and(|status| matches!(&status[..], b"done" | b"error"));
            if ended || section.field(&key, "stepId")?.is_some() {
                section.index_step(&step.run_id, step.name.as_bytes())?;
                return Ok(false);
            }
            section.db.delete(&key);
            set_all(section.db.hash_mut(&key)?, &step.fields);
            let history = section.history_key(step.id.as_bytes());
            section.db.sorted_mut(history)?.add(step.entry, 1.0);
            section.place_step(
                &step.run_id,
                step.name.as_bytes(),
                step.id.as_bytes(),
                "pending",
                step.now,
            )?;
            Ok(true)
        })
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.fields(&self.keys.step(run_id, step_name)?)
    }

    async fn move_step(&self, step_id: &str, change: StepChange) -> Result<Moved> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        self.write(run_of_step(step_id, length, self.fence)?, |section| {
            let step = section.load(&key, length, Some(step_id))?;
            let Some(step) = step.filter(|step| step.id == step_id.as_bytes()) else {
                return Ok(Moved::Missing);
            };
            let may_move = match (step.status.as_str(), change.status.as_str()) {
                ("succeeded", _) => false,
                (from, "scheduled") => from == "pending",
                (from, "running") => matches!(from, "pending" | "scheduled" | "failed"),
                _ => true,
            };
            if !may_move {
                return Ok(Moved::Stayed);
            }
            let payload = change.payload.as_ref().map(|(field, json)| (field.as_str(), json.as_slice()));
            section.advance(&step, &change.status, payload, change.now)?;
            Ok(Moved::Moved)
        })
    }

    async fn set_step_field(&self, step_id: &str, field: &str, value: &str, now: u64) -> Result<bool> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        self.write(run_of_step(step_id, length, self.fence)?, |section| {
            let found = section.field(&key, "stepId")?.as_deref() == Some(step_id.as_bytes());
            if found {
                let hash = section.db.hash_mut(&key)?;
                hash.set(field, value);
                hash.set("updatedAt", now.to_string());
            }
            Ok(found)
        })
    }

    async fn retry_step(&self, step_id: &str, status: &str, now: u64) -> Result<Fields> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        self.write(run_of_step(step_id, length, self.fence)?, |section| {
            let step = section.load(&key, length, Some(step_id))?;
            let Some(step) = step.filter(|step| step.id == step_id.as_bytes()) else {
                return Ok(Vec::new());
            };
            if step.status != "succeeded" {
                section.begin_attempt(&step, status, now)?;
            }
            Ok(alternating(section.db.hash(&key)?))
        })
    }

    async fn claim_step(
        &self,
        run_id: &str,
        step_name: &str,
        function: Option<&str>,
        now: u64,
    ) -> Result<Claim> {
        let key = self.keys.step(run_id, step_name)?;
        self.write(run_id, |section| {
            let step = section.load(&key, run_id.len(), None)?;
            let Some(step) = step.filter(|step| step.run == run_id) else { return Ok(Claim::Missing) };
            if section.field(&key, "rpcName")?.as_deref() != function.map(str::as_bytes) {
                return Ok(Claim::Mismatch);
            }
            match step.status.as_str() {
                "failed" => section.begin_attempt(&step, "running", now)?,
                "pending" | "scheduled" => section.advance(&step, "running", None, now)?,
                _ => return Ok(Claim::Taken),
            }
            Ok(Claim::Claimed(alternating(section.db.hash(&key)?)))
        })
    }

    async fn steps(&self, run_id: &str, fields: &[&str]) -> Result<Vec<Step>> {
        self.section(|section| {
            let mut steps = Vec::new();
            for (name, key) in section.steps_of(run_id)? {
                let mut stored = alternating(section.db.hash(&key)?);
                if !fields.is_empty() {
                    let wanted = |field: &[u8]| fields.iter().any(|name| name.as_bytes() == field);
                    stored =
                        stored.chunks_exact(2).filter(|pair| wanted(&pair[0])).flatten().cloned().collect();
                }
                steps.push(Step { name, fields: stored });
            }
            Ok(steps)
        })
    }

    async fn history(&self, run_id: &str) -> Result<Vec<StepHistory>> {
        self.section(|section| {
            let mut histories = Vec::new();
            for (name, key) in section.steps_of(run_id)? {
                let from = section.field(&key, "fromStepName")?.unwrap_or_default();
                let id = section.field(&key, "stepId")?.unwrap_or_default();
                let history = section.history_key(&id);
                let entries = section.db.sorted(history)?.map_or_else(Vec::new, |entries| {
                    entries.iter().map(|(entry, _)| entry.to_vec()).collect()
                });
                histories.push(StepHistory { name, from, entries });
            }
            Ok(histories)
        })
    }

    async fn results(&self, run_id: &str, step_names: &[String]) -> Result<Vec<[Option<Vec<u8>>; 2]>> {
        self.section(|section| {
            let results = step_names.iter().map(|name| {
                let key = section.keys.step(run_id, name)?;
                Ok([section.field(&key, "status")?, section.field(&key, "result")?])
            });
            results.collect()
        })
    }

    async fn set_run_state(&self, run_id: &str, name: &str, json: &[u8], now: u64) -> Result<bool> {
        let run = self.keys.run(run_id)?;
        self.write(run_id, |section| {
            if section.field(&run, "id")?.is_none() {
                return Ok(false);
            }
            section.db.hash_mut(section.keys.of("run-state", run_id))?.set(name, json);
            touch(section.db.hash_mut(&run)?, now);
            Ok(true)
        })
    }

    async fn run_state(&self, run_id: &str) -> Result<(Option<Vec<u8>>, Fields)> {
        let run = self.keys.run(run_id)?;
        self.section(|section| {
            let blob = section.field(&run, "state")?;
            Ok((blob, alternating(section.db.hash(section.keys.of("run-state", run_id))?)))
        })
    }

    async fn add_version(&self, workflow: &str, graph_hash: &str, fields: Fields) -> Result<()> {
        let key = self.keys.version(workflow, graph_hash)?;
        self.section(|section| {
            if section.field(&key, "graph")?.is_none() {
                set_all(section.db.hash_mut(&key)?, &fields);
            }
            Ok(())
        })
    }

    async fn set_version_status(&self, workflow: &str, graph_hash: &str, status: &str) -> Result<bool> {
        let key = self.keys.version(workflow, graph_hash)?;
        self.section(|section| {
            let found = section.db.exists(&key);
            if found {
                section.db.hash_mut(&key)?.set("status", status);
            }
            Ok(found)
        })
    }

    async fn version(&self, workflow: &str, graph_hash: &str) -> Result<Fields> {
        self.fields(&self.keys.version(workflow, graph_hash)?)
    }

    async fn delete_run(&self, run_id: &str) -> Result<bool> {
        let run = self.keys.run(run_id)?;
        self.write(run_id, |section| {
            if section.field(&run, "id")?.is_none() {
                return Ok(false);
            }
            let workflow = section.field(&run, "workflow")?.unwrap_or_default();
            for (name, key) in section.steps_of(run_id)? {
                if let Some(id) = section.field(&key, "stepId")? {
                    section.db.delete(section.history_key(&id));
                    let pending = section.db.sorted_mut(section.keys.runs(&["pending-steps"]))?;
                    pending.remove(pending_member(run_id, &id));
                }
                section.db.delete(key);
                section
                    .db
                    .delete(section.keys.of(&format!("step-lock:{run_id}"), &String::from_utf8_lossy(&name)));
            }
            for kind in ["run", "steps", "run-state", "steps-in-flight", "lock"] {
                section.db.delete(section.keys.of(kind, run_id));
            }
            section.forget_run(run_id, &String::from_utf8_lossy(&workflow))?;
            Ok(true)
        })
    }

    async fn list_runs(&self, filter: RunFilter) -> Result<Option<Vec<Fields>>> {
        self.section(|section| section.list_runs(&filter))
    }

    async fn workflow_names(&self) -> Result<Option<Vec<Vec<u8>>>> {
        self.section(|section| section.workflow_names())
    }

    async fn index_runs(&self) -> Result<u64> {
        self.section(|section| section.index_runs())
    }

    async fn stalled_runs(&self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>> {
        self.section(|section| section.stalled_runs(before, limit))
    }

    async fn undispatched_steps(&self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>> {
        self.section(|section| section.undispatched_steps(before, limit))
    }
}
