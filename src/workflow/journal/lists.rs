//! What the embedded journal finds in its indexes.

use super::indexes::{Section, alternating, today};
use super::{Fields, RunFilter};
use crate::error::Result;
use crate::key::check_name;
use crate::memory::SortedSet;

impl Section<'_> {
    /// The steps of a run: name and key of each that is there.
    pub(super) fn steps_of(&mut self, run_id: &str) -> Result<Vec<(Vec<u8>, String)>> {
        check_name("the run id", run_id)?;
        let (start, _) = self.keys.start_and_pattern(&format!("step:{run_id}"));
        let indexed = self.db.exists(self.keys.of("steps", run_id));
        let mut names: Vec<Vec<u8>> = match self.db.sorted(self.keys.of("steps", run_id))? {
            Some(index) => index.iter().map(|(name, _)| name.to_vec()).collect(),
            None => Vec::new(),
        };
        // A run that the original made.
        if !indexed && self.db.exists(self.keys.of("run", run_id)) {
            names.extend(
                self.db.keys().filter_map(|(key, _)| Some(key.strip_prefix(start.as_bytes())?.to_vec())),
            );
            names.sort();
        }
        let mut steps = Vec::with_capacity(names.len());
        for name in names {
            let key = format!("{start}{}", String::from_utf8_lossy(&name));
            let hash = self.db.hash(&key)?;
            let is_step = hash.is_some_and(|hash| {
                let ended = hash.get("status").is_some_and(|status| matches!(status, b"done" | b"error"));
                // With a colon in it, the key may be of another run's step.
                (hash.contains("stepId") || ended)
                    && hash.get("runId").is_none_or(|run| run == run_id.as_bytes())
            });
            if is_step {
                steps.push((name, key));
            }
        }
        Ok(steps)
    }

    /// Whether all runs that there were have been listed once.
    fn is_indexed(&mut self) -> bool {
        self.db.exists(self.keys.runs(&["indexed"])) || self.db.exists(self.keys.runs(&[]))
    }

    pub(super) fn list_runs(&mut self, filter: &RunFilter) -> Result<Option<Vec<Fields>>> {
        let index = self.keys.runs(&filter.index());
        let bound = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let (offset, limit) = (bound(filter.offset), bound(filter.limit));
        if !self.is_indexed() {
            return Ok(None);
        }
        let ids: Vec<String> = self.db.sorted(&index)?.map_or_else(Vec::new, |runs| {
            let newest_first = runs.iter().rev().map(|(id, _)| String::from_utf8_lossy(id).into_owned());
            newest_first.skip(offset).collect()
        });
        let mut runs = Vec::new();
        for id in ids {
            if runs.len() == limit {
                break;
            }
            let key = self.keys.of("run", &id);
            let Ok(hash) = self.db.hash(&key) else {
                runs.push(vec![id.into_bytes()]);
                continue;
            };
            let stored = hash.filter(|hash| hash.contains("id"));
            let status = stored.and_then(|hash| hash.get("status")).unwrap_or_default();
            let status = String::from_utf8_lossy(status).into_owned();
            match (stored, &filter.status) {
                (None, _) => {
                    self.db.sorted_mut(&index)?.remove(id);
                }
                (Some(_), Some(wanted)) if *wanted != status => {
                    let workflow = self.field(&key, "workflow")?.unwrap_or_default();
                    let created = self.number(&key, "createdAt")?.unwrap_or_default();
                    self.db.sorted_mut(&index)?.remove(&id);
                    self.place_run(&id, &String::from_utf8_lossy(&workflow), created, Some(wanted), &status)?;
                }
                (hash, _) => runs.push(alternating(hash)),
            }
        }
        Ok(Some(runs))
    }

    pub(super) fn workflow_names(&mut self) -> Result<Option<Vec<Vec<u8>>>> {
        if !self.is_indexed() {
            return Ok(None);
        }
        let names = self.db.sorted(self.keys.workflow_names())?;
        Ok(Some(names.map_or_else(Vec::new, |names| names.iter().map(|(name, _)| name.to_vec()).collect())))
    }

    pub(super) fn index_runs(&mut self) -> Result<u64> {
        let (start, _) = self.keys.start_and_pattern("run");
        let id = |key: &[u8]| {
            let id = key.strip_prefix(start.as_bytes())?;
            Some(String::from_utf8_lossy(id).into_owned())
        };
        let ids: Vec<String> = self.db.keys().filter_map(|(key, _)| id(key)).collect();
        let mut found = 0;
        for id in ids {
            let key = self.keys.of("run", &id);
            let runs = self.db.sorted(self.keys.runs(&[]))?;
            let listed = runs.is_some_and(|runs| runs.score(&id).is_some());
            // What is no hash is no run.
            let is_run = self.field(&key, "id").is_ok_and(|stored| stored.as_deref() == Some(id.as_bytes()));
            if listed || !is_run {
                continue;
            }
            let created = self.number(&key, "createdAt")?.unwrap_or_default();
            let mut text = |field| -> Result<String> {
                Ok(String::from_utf8_lossy(&self.field(&key, field)?.unwrap_or_default()).into_owned())
            };
            let (workflow, status) = (text("workflow")?, text("status")?);
            self.place_run(&id, &workflow, created, None, &status)?;
            found += 1;
        }
        self.db.set(self.keys.runs(&["indexed"]), b"1".to_vec(), None);
        Ok(found)
    }

    pub(super) fn stalled_runs(&mut self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>> {
        let index = self.keys.runs(&["idle"]);
        let mut found = Vec::new();
        for id in below(self.db.sorted(&index)?, before) {
            if found.len() as u64 == limit {
                break;
            }
            let key = self.keys.of("run", &String::from_utf8_lossy(&id));
            let updated = self.number(&key, "updatedAt")?.unwrap_or_default();
            if self.field(&key, "status")?.as_deref() != Some(b"running") {
                self.db.sorted_mut(&index)?.remove(id);
            } else if updated >= before as f64 {
                self.db.sorted_mut(&index)?.add(id, updated);
            } else {
                found.push(id);
            }
        }
        Ok(found)
    }

    pub(super) fn undispatched_steps(&mut self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>> {
        let index = self.keys.runs(&["pending-steps"]);
        let mut found = Vec::new();
        for member in below(self.db.sorted(&index)?, before) {
            if found.len() as u64 == limit {
                break;
            }
            let text = String::from_utf8_lossy(&member).into_owned();
            let Some((length, id)) = text.split_once(':') else { continue };
            let run = id.get(..length.parse().unwrap_or_default()).unwrap_or_default();
            let (step, _) = self.keys.step_of_id(id)?;
            let current = self.field(&step, "stepId")?.as_deref() == Some(id.as_bytes())
                && self.field(&step, "status")?.is_some_and(|status| today(&status) == "pending")
                && self.field(&self.keys.of("run", run), "status")?.as_deref() == Some(b"running");
            if current {
                found.push([run.as_bytes().to_vec(), id.as_bytes().to_vec()]);
            } else {
                self.db.sorted_mut(&index)?.remove(member);
            }
        }
        Ok(found)
    }
}

/// The members of lower scores, copied because the index may change meanwhile.
fn below(index: Option<&SortedSet>, before: u64) -> Vec<Vec<u8>> {
    index.map_or_else(Vec::new, |index| index.below(before as f64).map(<[u8]>::to_vec).collect())
}
