//! The journal in a cluster where its keys lie in several slots. Each operation has one key that decides, changed by a
//! script that knows no other; what is derived from it comes before or after (see `places`), and readers verify it
//! (see `lists`).

use std::sync::Arc;

use async_trait::async_trait;

mod deletion;
mod lists;
mod places;
mod reads;
mod scripts;
mod seen;
mod state;
mod sweeps;

use self::places::{Listed, add, read, remove};
use self::scripts::*;
use self::seen::Seen;
use super::indexes::pending_member;
use super::redis::{RedisJournal, pair, texts};
use super::{
    Claim, JournalStore, Moved, NewRun, NewStep, RunFilter, StatusChange, Step, StepChange, StepHistory,
    Transition, run_of_step,
};
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::fence::{Fence, Guard};
use crate::key::{JournalKeys, UUID_LENGTH, check_name};
use crate::script::OnLostReply::{Repeat, Report};
use crate::script::{REQUEST_KEPT, request_id};
use crate::workflow::{FINAL_RUN_STATUSES, Fields};

/// The journal with keys in several slots.
#[derive(Clone)]
pub struct SteppedJournal {
    /// What is about one key anyway is the same.
    plain: RedisJournal,
}

/// The step before and after, of a script that answered so from its second word on.
fn before_and_after(words: &mut impl Iterator<Item = Reply>, length: usize) -> Result<Option<[Seen; 2]>> {
    let mut next = || words.next().map_or(Ok(None), |step| Seen::of(step, length));
    let (before, after) = (next()?, next()?);
    Ok(before.zip(after).map(<[Seen; 2]>::from))
}

impl SteppedJournal {
    /// The same journal in steps.
    pub fn new(plain: RedisJournal) -> Self {
        Self { plain }
    }

    fn keys(&self) -> &JournalKeys {
        &self.plain.keys
    }

    fn call(&self) -> Call<'_> {
        self.plain.client.call()
    }

    /// What a write of this key of a run checks and raises: the fence of the run, and one beside the key, where it
    /// stops who has checked the former before a later holder came.
    fn guard(&self, run_id: &str, key: &str) -> Option<Guard> {
        let records = [self.keys().of("run", run_id), key.to_owned()];
        self.plain.fence.map(|fence| fence.guard(records, |record| self.keys().fence(record), None))
    }

    /// The run id in a step id, which is asked for if it cannot be told.
    async fn run_length(&self, call: Call<'_>, step_id: &str) -> Result<(String, usize)> {
        let (key, length) = self.keys().step_of_id(step_id)?;
        run_of_step(step_id, length, self.plain.fence)?;
        if length == UUID_LENGTH {
            return Ok((key, length));
        }
        let stored = call.command(Command::new("HGET").arg(&key).arg("runId").reads()).await?.into_bytes()?;
        Ok((key, stored.map_or(length, |run| run.len())))
    }

    /// The state of a run: its key, and what lists know of it.
    async fn listed(&self, call: Call<'_>, run_id: &str) -> Result<Option<Listed>> {
        let key = self.keys().run(run_id)?;
        let stored = call.command(read(&key, &Listed::FIELDS)).await;
        stored.and_then(Listed::of).map_err(|error| error.about(&key))
    }

    /// Additions before the record that decides: all of them, or the call fails. None under a fence that is too old
    /// already; one that becomes so meanwhile leaves what readers find to lead nowhere.
    async fn prepare(&self, call: Call<'_>, guard: Option<&Guard>, commands: Vec<Command>) -> Result<()> {
        if let Some(guard) = guard {
            guard.check(call).await?;
        }
        call.commands(commands).await.into_iter().try_for_each(|reply| reply.map(drop))
    }

    /// The steps of a run that wait to be dispatched, as additions to the index of these.
    async fn waiting_steps(&self, call: Call<'_>, run_id: &str) -> Result<Vec<Command>> {
        let names = self.names_of(call, run_id).await?;
        let steps = self.seen(call, run_id, &names).await?;
        let index = self.keys().runs(&["pending-steps"]);
        let waiting = steps.into_iter().flatten().filter(|step| step.status == "pending");
        Ok(waiting.map(|step| add(&index, &step.updated, pending_member(run_id, &step.id))).collect())
    }
}

#[async_trait]
impl JournalStore for SteppedJournal {
    fn under(&self, fence: Fence) -> Arc<dyn JournalStore> {
        Arc::new(Self { plain: RedisJournal { fence: Some(fence), ..self.plain.clone() } })
    }

    async fn ping(&self) -> Result<()> {
        self.plain.ping().await
    }

    async fn create_run(&self, run: NewRun) -> Result<()> {
        let (key, call) = (self.keys().run(&run.id)?, self.call());
        check_name("the workflow name", &run.workflow)?;
        let listed =
            Listed { workflow: run.workflow, status: "running".into(), created: run.now.to_string() };
        let mut additions = vec![add(&self.keys().of("steps", &run.id), "0", "")];
        additions.extend(self.list_run(&run.id, &listed));
        let guard = self.plain.guard(&run.id);
        let fields: Vec<_> = run.fields.iter().map(Vec::as_slice).collect();
        let created = match self.prepare(call, guard.as_ref(), additions).await {
            // Nobody else knows the id yet, so storing it twice is storing it once.
            Ok(()) => self.plain.run_script(guard.as_ref(), call, &PUT, Repeat, &[&key], &fields).await,
            Err(error) => Err(error),
        };
        if created.as_ref().is_err_and(|error| error.kind() != ErrorKind::OutcomeUnknown) {
            // The call has no time to wait for that. What stays is found to lead nowhere.
            let leftovers = self.forget_run(&run.id, &listed.workflow).into_iter();
            let index = Command::new("DEL").arg(self.keys().of("steps", &run.id));
            leftovers.chain([index]).for_each(|command| self.plain.client.tell(command));
        }
        created.map(drop)
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.plain.run(run_id).await
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let (key, call) = (self.keys().run(run_id)?, self.call());
        let stored = self.listed(call, run_id).await?;
        let goes_on = |status: &str| !FINAL_RUN_STATUSES.contains(&status) || status == change.status;
        let guard = self.plain.guard(run_id);
        let mut waiting = Vec::new();
        let listed = stored.as_ref().filter(|stored| goes_on(&stored.status)).cloned();
        let listed = listed.map(|stored| Listed { status: change.status.clone(), ..stored });
        if let Some(listed) = &listed {
            if change.status == "running" {
                // What waited with the run is looked for again.
                waiting = self.waiting_steps(call, run_id).await?;
            }
            let additions = [self.list_run(run_id, listed), waiting.clone()].concat();
            self.prepare(call, guard.as_ref(), additions).await?;
        }
        let now = change.now.to_string();
        let mut arguments = vec![change.status.as_bytes(), now.as_bytes()];
        for (field, value) in [("output", &change.output), ("error", &change.error)] {
            if let Some(value) = value {
                arguments.extend([field.as_bytes(), value]);
            }
        }
        let reply = self.plain.told(call, guard, &UPDATE_RUN_STATUS, &[&key], &arguments).await?;
        if let (Some(listed), Some(stored)) = (listed, stored) {
            // Again, for a reader may have taken them for leftovers in between.
            call.commands(waiting).await;
            self.settle_run(call, run_id, listed, &stored.status).await?;
        }
        Ok(match reply {
            Reply::Int(1) => Transition::Applied,
            Reply::Int(2) => Transition::Final,
            _ => Transition::Missing,
        })
    }

    async fn insert_step(&self, step: NewStep) -> Result<bool> {
        let (key, call) = (self.keys().step(&step.run_id, &step.name)?, self.call());
        let (index, now) = (self.keys().runs(&["pending-steps"]), step.now.to_string());
        let member = pending_member(&step.run_id, step.id.as_bytes());
        let guard = self.guard(&step.run_id, &key);
        self.prepare(call, guard.as_ref(), Vec::new()).await?;
        let (indexed, stored, prepared) = tokio::join!(
            self.index_step(call, &step.run_id, step.name.as_bytes(), false),
            self.listed(call, &step.run_id),
            self.prepare(call, None, vec![add(&index, &now, &member)]),
        );
        prepared?;
        if !indexed? && stored?.is_none() {
            self.index_step(call, &step.run_id, step.name.as_bytes(), true).await?;
        }
        let mut arguments = vec![step.id.as_bytes()];
        arguments.extend(step.fields.iter().map(Vec::as_slice));
        let reply = self.plain.told(call, guard, &INSERT_STEP, &[&key], &arguments).await?;
        let [outcome, detail] = pair(reply)?;
        if outcome == Reply::Int(1) {
            if let Ok(Some(stored)) = Seen::of(detail, step.run_id.len()) {
                self.settle_step(call, None, &stored).await?;
            }
            return Ok(true);
        }
        // Of the same millisecond, it is the id of the one that is there.
        if detail != Reply::text(&step.id) {
            call.commands([remove(&index, &member)]).await;
        }
        Ok(false)
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.plain.step(run_id, step_name).await
    }

    async fn move_step(&self, step_id: &str, change: StepChange) -> Result<Moved> {
        let call = self.call();
        let (key, length) = self.run_length(call, step_id).await?;
        let (text, now) = (length.to_string(), change.now.to_string());
        let mut arguments =
            vec![step_id.as_bytes(), text.as_bytes(), change.status.as_bytes(), now.as_bytes()];
        if let Some((field, json)) = &change.payload {
            arguments.extend([field.as_bytes(), json]);
        }
        let guard = self.guard(&step_id[..length], &key);
        let reply = self.plain.told(call, guard, &MOVE_STEP, &[&key], &arguments).await?;
        let Reply::List(words) = reply else { return Ok(Moved::Missing) };
        let mut words = words.into_iter();
        let outcome = words.next();
        if let Some([before, after]) = before_and_after(&mut words, length)? {
            self.settle_step(call, Some(&before), &after).await?;
        }
        Ok(if outcome == Some(Reply::Int(1)) { Moved::Moved } else { Moved::Stayed })
    }

    async fn set_step_field(&self, step_id: &str, field: &str, value: &str, now: u64) -> Result<bool> {
        let call = self.call();
        let (key, length) = self.run_length(call, step_id).await?;
        let now = now.to_string();
        let arguments = [step_id.as_bytes(), field.as_bytes(), value.as_bytes(), now.as_bytes()];
        let guard = self.guard(&step_id[..length], &key);
        let reply =
            self.plain.run_script(guard.as_ref(), call, &SET_STEP_FIELD, Repeat, &[&key], &arguments).await?;
        Ok(reply == Reply::Int(1))
    }

    async fn retry_step(&self, step_id: &str, status: &str, now: u64) -> Result<Fields> {
        let call = self.call();
        let (key, length) = self.run_length(call, step_id).await?;
        let (text, now) = (length.to_string(), now.to_string());
        let guard = self.guard(&step_id[..length], &key);
        let index = self.keys().runs(&["pending-steps"]);
        let member = pending_member(&step_id[..length], step_id.as_bytes());
        if status == "pending" {
            self.prepare(call, guard.as_ref(), vec![add(&index, &now, &member)]).await?;
        }
        let arguments = [step_id.as_bytes(), text.as_bytes(), status.as_bytes(), now.as_bytes()];
        let reply = self.plain.told(call, guard, &RETRY_STEP, &[&key], &arguments).await?;
        let mut words = reply.into_list()?.into_iter();
        let Some(fields) = words.next() else {
            call.commands([remove(&index, member)]).await;
            return Ok(Vec::new());
        };
        if let Some([before, after]) = before_and_after(&mut words, length)? {
            self.settle_step(call, Some(&before), &after).await?;
        }
        texts(fields)
    }

    async fn claim_step(
        &self,
        run_id: &str,
        step_name: &str,
        function: Option<&str>,
        now: u64,
    ) -> Result<Claim> {
        let (key, call) = (self.keys().step(run_id, step_name)?, self.call());
        let request = self.keys().request_about(&key, &request_id());
        let (now, kept) = (now.to_string(), REQUEST_KEPT.get().to_string());
        let mut arguments = vec![run_id.as_bytes(), now.as_bytes(), kept.as_bytes()];
        arguments.extend(function.map(str::as_bytes));
        let (keys, guard) = ([key.as_str(), &request], self.guard(run_id, &key));
        // A request id, since the claim of another in the same millisecond would look like ours.
        let reply = self.plain.told(call, guard, &CLAIM_STEP, &keys, &arguments).await?;
        let mut words = reply.into_list()?.into_iter();
        let outcome = words.next().map(Reply::into_bytes).transpose()?.flatten().unwrap_or_default();
        let fields = words.next();
        if let Ok(Some([before, after])) = before_and_after(&mut words, run_id.len()) {
            // Whoever has it must learn that, or nobody would run the step. What is refused here is so with its result.
            let _ = self.settle_step(call, Some(&before), &after).await;
        }
        Ok(match (outcome.as_slice(), fields) {
            (b"claimed", Some(fields)) => Claim::Claimed(texts(fields)?),
            (b"taken", _) => Claim::Taken,
            (b"mismatch", _) => Claim::Mismatch,
            _ => Claim::Missing,
        })
    }

    async fn steps(&self, run_id: &str, fields: &[&str]) -> Result<Vec<Step>> {
        self.read_steps(run_id, fields).await
    }

    async fn history(&self, run_id: &str) -> Result<Vec<StepHistory>> {
        self.read_history(run_id).await
    }

    async fn results(&self, run_id: &str, step_names: &[String]) -> Result<Vec<[Option<Vec<u8>>; 2]>> {
        self.plain.results(run_id, step_names).await
    }

    async fn set_run_state(&self, run_id: &str, name: &str, json: &[u8], now: u64) -> Result<bool> {
        self.put_state(run_id, name, json, now).await
    }

    async fn run_state(&self, run_id: &str) -> Result<(Option<Vec<u8>>, Fields)> {
        self.plain.run_state(run_id).await
    }

    async fn add_version(&self, workflow: &str, graph_hash: &str, fields: Fields) -> Result<()> {
        self.plain.add_version(workflow, graph_hash, fields).await
    }

    async fn set_version_status(&self, workflow: &str, graph_hash: &str, status: &str) -> Result<bool> {
        let key = self.keys().version(workflow, graph_hash)?;
        let (request, kept) =
            (self.keys().request_about(&key, &request_id()), REQUEST_KEPT.get().to_string());
        let arguments = [status.as_bytes(), kept.as_bytes()];
        let both = [key.as_str(), &request];
        // A name that is odd enough has nothing beside it.
        let (keys, lost) = match self.plain.client.reaches_at_once(both) {
            true => (&both[..], Repeat),
            false => (&both[..1], Report),
        };
        let script = &super::scripts::SET_VERSION_STATUS;
        Ok(self.plain.run_script(None, self.call(), script, lost, keys, &arguments).await? == Reply::Int(1))
    }

    async fn version(&self, workflow: &str, graph_hash: &str) -> Result<Fields> {
        self.plain.version(workflow, graph_hash).await
    }

    async fn list_runs(&self, filter: RunFilter) -> Result<Option<Vec<Fields>>> {
        self.page_of_runs(filter).await
    }

    async fn workflow_names(&self) -> Result<Option<Vec<Vec<u8>>>> {
        self.names_of_workflows().await
    }

    async fn index_runs(&self) -> Result<u64> {
        self.list_all_runs().await
    }

    async fn delete_run(&self, run_id: &str) -> Result<bool> {
        self.delete(run_id).await
    }

    async fn stalled_runs(&self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>> {
        self.find_stalled(before, limit).await
    }

    async fn undispatched_steps(&self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>> {
        self.find_undispatched(before, limit).await
    }
}
