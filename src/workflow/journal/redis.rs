//! The journal on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::scripts::*;
use super::{
    Claim, JournalStore, Moved, NewRun, NewStep, RunFilter, StatusChange, Step, StepChange, StepHistory,
    Transition, run_of_step,
};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{Fence, Guard};
use crate::key::{JournalKeys, check_name};
use crate::script::OnLostReply::{Read, Repeat};
use crate::script::{REQUEST_KEPT, request_id};
use crate::workflow::Fields;

/// How many keys one step of a scan looks at, and so how long it holds up others.
const SCANNED_AT_ONCE: u64 = 1000;

/// The journal on one server.
#[derive(Clone)]
pub struct RedisJournal {
    pub(super) client: Arc<Client>,
    pub(super) keys: JournalKeys,
    pub(super) fence: Option<Fence>,
}

pub(super) fn texts(reply: Reply) -> Result<Vec<Vec<u8>>> {
    reply.into_list()?.into_iter().map(|text| Ok(text.into_bytes()?.unwrap_or_default())).collect()
}

pub(super) fn texts_or_none(reply: Reply) -> Result<Vec<Option<Vec<u8>>>> {
    reply.into_list()?.into_iter().map(Reply::into_bytes).collect()
}

pub(super) fn pair(reply: Reply) -> Result<[Reply; 2]> {
    <[Reply; 2]>::try_from(reply.into_list()?)
        .map_err(|_| Error::new(ErrorKind::Server, "a script answered something else than pairs"))
}

impl RedisJournal {
    /// The journal with these keys.
    pub fn new(client: Arc<Client>, keys: JournalKeys) -> Self {
        Self { client, keys, fence: None }
    }

    /// What a write of anything of a run checks and raises.
    pub(super) fn guard(&self, run_id: &str) -> Option<Guard> {
        let run = || self.keys.of("run", run_id);
        self.fence.map(|fence| fence.guard([run()], |run| self.keys.fence(run), None))
    }

    async fn fields(&self, key: &str) -> Result<Fields> {
        let command = Command::new("HGETALL").arg(key).reads();
        self.client.call().command(command).await.and_then(texts).map_err(|error| error.about(key))
    }

    /// The names that follow `{prefix}:{kind}:` in keys, each at least once. Looks at all keys of the database, in
    /// small steps that each have the time of a call; the server goes on serving others in between.
    pub(super) async fn scan(&self, kind: &str) -> Result<Vec<Vec<u8>>> {
        let (start, pattern) = self.keys.start_and_pattern(kind);
        let mut names = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let command = Command::new("SCAN").arg(&cursor).arg("MATCH").arg(&pattern);
            let command = command.arg("COUNT").number(SCANNED_AT_ONCE).reads();
            let [next, keys] = pair(self.client.call().command(command).await?)?;
            names.extend(texts(keys)?.into_iter().map(|key| key[start.len()..].to_vec()));
            cursor = next.into_bytes()?.unwrap_or_default();
            if cursor == b"0" {
                names.sort();
                names.dedup();
                return Ok(names);
            }
        }
    }

    /// Name and content of each step.
    async fn read_steps(&self, run_id: &str, what: &str, fields: &[&str]) -> Result<Vec<(Vec<u8>, Reply)>> {
        check_name("the run id", run_id)?;
        let index = self.keys.of("steps", run_id);
        let count = fields.len().to_string();
        let mut arguments = vec![run_id.as_bytes(), what.as_bytes(), b"0", count.as_bytes()];
        arguments.extend(fields.iter().map(|field| field.as_bytes()));
        let mut reply = self.script(None, &READ_STEPS, Read, &[&index], &arguments).await?;
        if reply == Reply::Nil {
            // A run that the original made.
            let names = self.scan(&format!("step:{run_id}")).await?;
            arguments[2] = b"1";
            arguments.extend(names.iter().map(Vec::as_slice));
            reply = self.script(None, &READ_STEPS, Read, &[&index], &arguments).await?;
        }
        let steps = reply.into_list()?.into_iter().map(|step| {
            let [name, content] = pair(step)?;
            Ok((name.into_bytes()?.unwrap_or_default(), content))
        });
        steps.collect()
    }
}

#[async_trait]
impl JournalStore for RedisJournal {
    fn under(&self, fence: Fence) -> Arc<dyn JournalStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn create_run(&self, run: NewRun) -> Result<()> {
        let key = self.keys.run(&run.id)?;
        check_name("the workflow name", &run.workflow)?;
        let now = run.now.to_string();
        let mut arguments = vec![run.id.as_bytes(), run.workflow.as_bytes(), now.as_bytes()];
        arguments.extend(run.fields.iter().map(Vec::as_slice));
        // Nobody else knows the id yet, so storing it twice is storing it once.
        self.script(self.guard(&run.id), &CREATE_RUN, Repeat, &[&key], &arguments).await.map(drop)
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.fields(&self.keys.run(run_id)?).await
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let key = self.keys.run(run_id)?;
        let now = change.now.to_string();
        let mut arguments = vec![run_id.as_bytes(), change.status.as_bytes(), now.as_bytes()];
        for (field, value) in [("output", &change.output), ("error", &change.error)] {
            if let Some(value) = value {
                arguments.extend([field.as_bytes(), value]);
            }
        }
        let reply = self.script_told(self.guard(run_id), &UPDATE_RUN_STATUS, &[&key], &arguments).await?;
        Ok(match reply {
            Reply::Int(1) => Transition::Applied,
            Reply::Int(2) => Transition::Final,
            _ => Transition::Missing,
        })
    }

    async fn insert_step(&self, step: NewStep) -> Result<bool> {
        let key = self.keys.step(&step.run_id, &step.name)?;
        let now = step.now.to_string();
        let mut arguments: Vec<&[u8]> = vec![
            step.run_id.as_bytes(),
            step.name.as_bytes(),
            step.id.as_bytes(),
            now.as_bytes(),
            &step.entry,
        ];
        arguments.extend(step.fields.iter().map(Vec::as_slice));
        let reply = self.script_told(self.guard(&step.run_id), &INSERT_STEP, &[&key], &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.fields(&self.keys.step(run_id, step_name)?).await
    }

    async fn move_step(&self, step_id: &str, change: StepChange) -> Result<Moved> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        let (run_id, length) = (run_of_step(step_id, length, self.fence)?, length.to_string());
        let now = change.now.to_string();
        let mut arguments =
            vec![step_id.as_bytes(), length.as_bytes(), change.status.as_bytes(), now.as_bytes()];
        if let Some((field, json)) = &change.payload {
            arguments.extend([field.as_bytes(), json]);
        }
        let reply = self.script_told(self.guard(run_id), &MOVE_STEP, &[&key], &arguments).await?;
        Ok(match reply {
            Reply::Int(1) => Moved::Moved,
            Reply::Int(0) => Moved::Stayed,
            _ => Moved::Missing,
        })
    }

    async fn set_step_field(&self, step_id: &str, field: &str, value: &str, now: u64) -> Result<bool> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        let run_id = run_of_step(step_id, length, self.fence)?;
        let now = now.to_string();
        let arguments = [step_id.as_bytes(), field.as_bytes(), value.as_bytes(), now.as_bytes()];
        let reply = self.script(self.guard(run_id), &SET_STEP_FIELD, Repeat, &[&key], &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn retry_step(&self, step_id: &str, status: &str, now: u64) -> Result<Fields> {
        let (key, length) = self.keys.step_of_id(step_id)?;
        let (run_id, length) = (run_of_step(step_id, length, self.fence)?, length.to_string());
        let now = now.to_string();
        let arguments = [step_id.as_bytes(), length.as_bytes(), status.as_bytes(), now.as_bytes()];
        texts(self.script_told(self.guard(run_id), &RETRY_STEP, &[&key], &arguments).await?)
    }

    async fn claim_step(
        &self,
        run_id: &str,
        step_name: &str,
        function: Option<&str>,
        now: u64,
    ) -> Result<Claim> {
        let (key, request) = (self.keys.step(run_id, step_name)?, self.keys.request(&request_id()));
        let (now, kept) = (now.to_string(), REQUEST_KEPT.get().to_string());
        let mut arguments = vec![run_id.as_bytes(), now.as_bytes(), kept.as_bytes()];
        arguments.extend(function.map(str::as_bytes));
        let keys = [key.as_str(), &request];
        // A request id, since the claim of another in the same millisecond would look like ours.
        let reply = self.script_told(self.guard(run_id), &CLAIM_STEP, &keys, &arguments).await?;
        let mut words = reply.into_list()?.into_iter();
        let outcome = words.next().map(Reply::into_bytes).transpose()?.flatten().unwrap_or_default();
        Ok(match (outcome.as_slice(), words.next()) {
            (b"claimed", Some(fields)) => Claim::Claimed(texts(fields)?),
            (b"taken", _) => Claim::Taken,
            (b"mismatch", _) => Claim::Mismatch,
            _ => Claim::Missing,
        })
    }

    async fn steps(&self, run_id: &str, fields: &[&str]) -> Result<Vec<Step>> {
        let steps = self.read_steps(run_id, "fields", fields).await?;
        steps.into_iter().map(|(name, content)| Ok(Step { name, fields: texts(content)? })).collect()
    }

    async fn history(&self, run_id: &str) -> Result<Vec<StepHistory>> {
        let steps = self.read_steps(run_id, "history", &[]).await?;
        let histories = steps.into_iter().map(|(name, content)| {
            let [from, entries] = pair(content)?;
            Ok(StepHistory { name, from: from.into_bytes()?.unwrap_or_default(), entries: texts(entries)? })
        });
        histories.collect()
    }

    async fn results(&self, run_id: &str, step_names: &[String]) -> Result<Vec<[Option<Vec<u8>>; 2]>> {
        let keys: Vec<_> =
            step_names.iter().map(|name| self.keys.step(run_id, name)).collect::<Result<_>>()?;
        let read = |key| Command::new("HMGET").arg(key).arg("status").arg("result").reads();
        let replies = self.client.call().commands(keys.iter().map(read)).await;
        let results = replies.into_iter().zip(&keys).map(|(reply, key)| {
            let [status, result] = reply.and_then(pair).map_err(|error| error.about(key))?;
            Ok([status.into_bytes()?, result.into_bytes()?])
        });
        results.collect()
    }

    async fn set_run_state(&self, run_id: &str, name: &str, json: &[u8], now: u64) -> Result<bool> {
        let (run, state) = (self.keys.run(run_id)?, self.keys.of("run-state", run_id));
        let now = now.to_string();
        let arguments = [name.as_bytes(), json, now.as_bytes()];
        let reply = self.script_told(self.guard(run_id), &SET_RUN_STATE, &[&run, &state], &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn run_state(&self, run_id: &str) -> Result<(Option<Vec<u8>>, Fields)> {
        let (run, state) = (self.keys.run(run_id)?, self.keys.of("run-state", run_id));
        let commands = [
            Command::new("HGET").arg(&run).arg("state").reads(),
            Command::new("HGETALL").arg(&state).reads(),
        ];
        let mut replies = self.client.call().commands(commands).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
        let (blob, fields) = (next().map_err(|error| error.about(&run))?, next());
        Ok((blob.into_bytes()?, fields.and_then(texts).map_err(|error| error.about(&state))?))
    }

    async fn add_version(&self, workflow: &str, graph_hash: &str, fields: Fields) -> Result<()> {
        let key = self.keys.version(workflow, graph_hash)?;
        let arguments: Vec<_> = fields.iter().map(Vec::as_slice).collect();
        self.script(None, &ADD_VERSION, Repeat, &[&key], &arguments).await.map(drop)
    }

    async fn set_version_status(&self, workflow: &str, graph_hash: &str, status: &str) -> Result<bool> {
        let key = self.keys.version(workflow, graph_hash)?;
        let (request, kept) = (self.keys.request(&request_id()), REQUEST_KEPT.get().to_string());
        let arguments = [status.as_bytes(), kept.as_bytes()];
        // A second copy knows the first, whatever others made of the version in between.
        let reply = self.script(None, &SET_VERSION_STATUS, Repeat, &[&key, &request], &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn version(&self, workflow: &str, graph_hash: &str) -> Result<Fields> {
        self.fields(&self.keys.version(workflow, graph_hash)?).await
    }

    async fn list_runs(&self, filter: RunFilter) -> Result<Option<Vec<Fields>>> {
        let index = self.keys.runs(&filter.index());
        let (offset, limit) = (filter.offset.to_string(), filter.limit.to_string());
        let status = filter.status.as_deref().unwrap_or_default();
        let arguments = [offset.as_bytes(), limit.as_bytes(), status.as_bytes()];
        match self.script(None, &LIST_RUNS, Read, &[&index], &arguments).await? {
            Reply::Nil => Ok(None),
            runs => runs.into_list()?.into_iter().map(texts).collect::<Result<_>>().map(Some),
        }
    }

    async fn workflow_names(&self) -> Result<Option<Vec<Vec<u8>>>> {
        let key = self.keys.workflow_names();
        let indexed = Command::new("EXISTS").arg(self.keys.runs(&[])).arg(self.keys.runs(&["indexed"]));
        let commands = [indexed.reads(), Command::new("ZRANGE").arg(&key).arg("0").arg("-1").reads()];
        let mut replies = self.client.call().commands(commands).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
        let (indexed, names) = (next()?, next().and_then(texts).map_err(|error| error.about(&key)));
        if indexed == Reply::Int(0) { Ok(None) } else { names.map(Some) }
    }

    async fn index_runs(&self) -> Result<u64> {
        let index = self.keys.runs(&[]);
        let mut found = 0;
        for ids in self.scan("run").await?.chunks(100) {
            let ids: Vec<_> = ids.iter().map(Vec::as_slice).collect();
            let reply = self.script(None, &INDEX_RUN, Repeat, &[&index], &ids).await?;
            found += u64::try_from(reply.into_int()?).unwrap_or_default();
        }
        let indexed = Command::new("SET").arg(self.keys.runs(&["indexed"])).arg("1").repeatable();
        self.client.call().command(indexed).await?;
        Ok(found)
    }

    async fn delete_run(&self, run_id: &str) -> Result<bool> {
        let (run, index) = (self.keys.run(run_id)?, self.keys.of("steps", run_id));
        let commands = [Command::new("EXISTS").arg(&run).reads(), Command::new("EXISTS").arg(&index).reads()];
        let mut exist = [false; 2];
        for (exists, reply) in exist.iter_mut().zip(self.client.call().commands(commands).await) {
            *exists = reply? == Reply::Int(1);
        }
        let names = match exist {
            [true, false] => self.scan(&format!("step:{run_id}")).await?,
            _ => Vec::new(),
        };
        let (request, kept) = (self.keys.request(&request_id()), REQUEST_KEPT.get().to_string());
        let mut arguments = vec![run_id.as_bytes(), kept.as_bytes()];
        arguments.extend(names.iter().map(Vec::as_slice));
        let keys = [run.as_str(), &index, &request];
        // A second copy knows the first.
        let reply = self.script(self.guard(run_id), &DELETE_RUN, Repeat, &keys, &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn stalled_runs(&self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>> {
        let index = self.keys.runs(&["idle"]);
        let (before, limit) = (before.to_string(), limit.to_string());
        let arguments = [before.as_bytes(), limit.as_bytes()];
        texts(self.script(None, &FIND_STALLED, Read, &[&index], &arguments).await?)
    }

    async fn undispatched_steps(&self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>> {
        let index = self.keys.runs(&["pending-steps"]);
        let (before, limit) = (before.to_string(), limit.to_string());
        let arguments = [before.as_bytes(), limit.as_bytes()];
        let reply = self.script(None, &FIND_UNDISPATCHED, Read, &[&index], &arguments).await?;
        let steps = reply.into_list()?.into_iter().map(|step| {
            let [run, id] = pair(step)?;
            Ok([run.into_bytes()?.unwrap_or_default(), id.into_bytes()?.unwrap_or_default()])
        });
        steps.collect()
    }
}
