//! The indexes of the embedded journal, as `lua/shared.lua` keeps them on a server: which keys there are, and what is
//! in them, is said there.

use super::IN_FLIGHT;
use super::history::{self, Subject};
use crate::error::Result;
use crate::key::JournalKeys;
use crate::memory::{Database, Hash};

/// A stored step, as far as its transitions need it.
pub(super) struct Stored {
    pub(super) key: String,
    pub(super) id: Vec<u8>,
    pub(super) status: String,
    pub(super) run: String,
    pub(super) name: Vec<u8>,
    attempt: u64,
    retries: Option<Vec<u8>>,
    retry_delay: Option<Vec<u8>>,
}

/// A status of the documented service in the words of today's.
pub(super) fn today(status: &[u8]) -> String {
    match status {
        b"done" => "succeeded".to_owned(),
        b"error" => "failed".to_owned(),
        other => String::from_utf8_lossy(other).into_owned(),
    }
}

/// One section of the embedded engine, with what the journal knows of its keys.
pub(super) struct Section<'a> {
    pub(super) db: &'a mut Database,
    pub(super) keys: &'a JournalKeys,
}

impl Section<'_> {
    pub(super) fn field(&mut self, key: &str, field: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.db.hash(key)?.and_then(|hash| hash.get(field)).map(<[u8]>::to_vec))
    }

    pub(super) fn number(&mut self, key: &str, field: &str) -> Result<Option<f64>> {
        let text = self.field(key, field)?;
        Ok(text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()))
    }

    /// The step at a key. One of the documented service gets `id`.
    pub(super) fn load(&mut self, key: &str, run_length: usize, id: Option<&str>) -> Result<Option<Stored>> {
        if self.field(key, "stepId")?.is_none() {
            let (Some(_), Some(id)) = (self.field(key, "status")?, id) else { return Ok(None) };
            let hash = self.db.hash_mut(key)?;
            hash.set("stepId", id);
            hash.set("attemptCount", "1");
            hash.set("createdAt", id.rsplit(':').next().unwrap_or_default());
        }
        let Some(hash) = self.db.hash(key)? else { return Ok(None) };
        let text = |field: &str| hash.get(field).map(<[u8]>::to_vec);
        let id = text("stepId").unwrap_or_default();
        let end = id.iter().rposition(|byte| *byte == b':').unwrap_or(id.len());
        let length = hash.get("runId").map_or(run_length, <[u8]>::len).min(end);
        Ok(Some(Stored {
            key: key.to_owned(),
            status: hash.get("status").map_or_else(|| "pending".to_owned(), today),
            run: String::from_utf8_lossy(&id[..length]).into_owned(),
            name: id[(length + 1).min(end)..end].to_vec(),
            attempt: text("attemptCount")
                .and_then(|text| String::from_utf8_lossy(&text).parse().ok())
                .unwrap_or(1),
            retries: text("retries"),
            retry_delay: text("retryDelay"),
            id,
        }))
    }

    /// Stores a new status of the current attempt, with its result or error.
    pub(super) fn advance(
        &mut self,
        step: &Stored,
        status: &str,
        payload: Option<(&str, &[u8])>,
        now: u64,
    ) -> Result<()> {
        let hash = self.db.hash_mut(&step.key)?;
        hash.set("status", status);
        hash.set("updatedAt", now.to_string());
        if let Some((field, json)) = payload {
            hash.set(field, json);
            hash.remove(if field == "result" { "error" } else { "result" });
        }
        self.note(step, status, payload, now)?;
        self.place_step(&step.run, &step.name, &step.id, status, now)
    }

    fn note(&mut self, step: &Stored, status: &str, payload: Option<(&str, &[u8])>, now: u64) -> Result<()> {
        let key = self.history_key(&step.id);
        let entries = self.db.sorted_mut(key)?;
        let stored: Vec<_> = entries.at(step.attempt as f64).map(<[u8]>::to_vec).collect();
        let moved = stored.first().and_then(|entry| history::moved(entry, status, payload, now));
        let entry = match moved {
            Some(entry) => {
                for old in &stored {
                    entries.remove(old);
                }
                entry
            }
            // What is there is not ours to repair, and stays beside the new entry.
            None => {
                let entry = history::fresh(&subject(step), step.attempt, status, now);
                history::finished(entry, status, payload, now)
            }
        };
        entries.add(entry, step.attempt as f64);
        Ok(())
    }

    /// Begins the next attempt.
    pub(super) fn begin_attempt(&mut self, step: &Stored, status: &str, now: u64) -> Result<()> {
        let attempt = step.attempt + 1;
        let hash = self.db.hash_mut(&step.key)?;
        hash.set("status", status);
        hash.set("attemptCount", attempt.to_string());
        hash.set("updatedAt", now.to_string());
        let entry = history::fresh(&subject(step), attempt, status, now);
        self.db.sorted_mut(self.history_key(&step.id))?.add(entry, attempt as f64);
        self.place_step(&step.run, &step.name, &step.id, status, now)
    }

    pub(super) fn history_key(&self, step_id: &[u8]) -> String {
        self.keys.of("step-history", &String::from_utf8_lossy(step_id))
    }

    /// Puts a step into the index of its run, unless it is a run of the original, which has none.
    pub(super) fn index_step(&mut self, run: &str, name: &[u8]) -> Result<()> {
        let key = self.keys.of("steps", run);
        if !self.db.exists(&key) {
            if self.db.exists(self.keys.of("run", run)) {
                return Ok(());
            }
            self.db.sorted_mut(&key)?.add("", 0.0);
        }
        let index = self.db.sorted_mut(&key)?;
        index.add_if_absent(name, index.len() as f64);
        Ok(())
    }

    /// Brings all indexes up to what a step has become.
    pub(super) fn place_step(
        &mut self,
        run: &str,
        name: &[u8],
        id: &[u8],
        status: &str,
        now: u64,
    ) -> Result<()> {
        self.index_step(run, name)?;
        let pending = self.db.sorted_mut(self.keys.runs(&["pending-steps"]))?;
        let member = pending_member(run, id);
        if status == "pending" {
            pending.add(member, now as f64);
        } else {
            pending.remove(member);
        }
        let in_flight = self.db.sorted_mut(self.keys.of("steps-in-flight", run))?;
        if IN_FLIGHT.contains(&status) {
            in_flight.add(name, now as f64);
        } else {
            in_flight.remove(name);
        }
        self.place_idle(run, now)
    }

    /// Lists a run as idle or not.
    pub(super) fn place_idle(&mut self, run: &str, now: u64) -> Result<()> {
        let running = self.field(&self.keys.of("run", run), "status")?.as_deref() == Some(b"running");
        let busy = self.db.sorted(self.keys.of("steps-in-flight", run))?.is_some();
        let idle = self.db.sorted_mut(self.keys.runs(&["idle"]))?;
        if running && !busy {
            idle.add(run, now as f64);
        } else {
            idle.remove(run);
        }
        Ok(())
    }

    /// Lists a run where its workflow, status and age say, and no longer under its old status.
    pub(super) fn place_run(
        &mut self,
        run: &str,
        workflow: &str,
        created: f64,
        old: Option<&str>,
        status: &str,
    ) -> Result<()> {
        if let Some(old) = old.filter(|old| *old != status) {
            for list in [self.keys.runs(&["status", old]), self.keys.runs(&["status", old, workflow])] {
                self.db.sorted_mut(list)?.remove(run);
            }
        }
        for part in [&[][..], &["workflow", workflow], &["status", status], &["status", status, workflow]] {
            self.db.sorted_mut(self.keys.runs(part))?.add(run, created);
        }
        self.db.sorted_mut(self.keys.workflow_names())?.add(workflow, 0.0);
        Ok(())
    }

    /// Takes a run from all lists.
    pub(super) fn forget_run(&mut self, run: &str, workflow: &str) -> Result<()> {
        let of_workflow = self.keys.runs(&["workflow", workflow]);
        let mut lists = vec![self.keys.runs(&[]), self.keys.runs(&["idle"]), of_workflow.clone()];
        for status in ["running", "suspended", "completed", "failed", "cancelled"] {
            lists.push(self.keys.runs(&["status", status]));
            lists.push(self.keys.runs(&["status", status, workflow]));
        }
        for list in lists {
            self.db.sorted_mut(list)?.remove(run);
        }
        if !self.db.exists(of_workflow) {
            self.db.sorted_mut(self.keys.workflow_names())?.remove(workflow);
        }
        Ok(())
    }
}

fn subject(step: &Stored) -> Subject<'_> {
    Subject {
        id: &step.id,
        name: &step.name,
        retries: step.retries.as_deref(),
        retry_delay: step.retry_delay.as_deref(),
    }
}

pub(super) fn pending_member(run: &str, step_id: &[u8]) -> Vec<u8> {
    [format!("{}:", run.len()).as_bytes(), step_id].concat()
}

/// Fields and values, alternating.
pub(super) fn alternating(hash: Option<&Hash>) -> Vec<Vec<u8>> {
    hash.map_or_else(Vec::new, |hash| {
        hash.iter().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect()
    })
}

/// Sets alternating fields and values.
pub(super) fn set_all(hash: &mut Hash, fields: &[Vec<u8>]) {
    for pair in fields.chunks_exact(2) {
        hash.set(pair[0].clone(), pair[1].clone());
    }
}
