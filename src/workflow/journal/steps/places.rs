//! What is derived from runs and steps: the history, and the indexes over both. All of it is written by commands that
//! may be repeated, as additions before the record that decides and as removals after it. After a removal the record
//! is read again: if somebody has changed it in between, what was removed is put back.
//!
//! What fails here is no error of the call, whose record is stored by then. Readers verify what an index says, and
//! complete the history; later writers bring both up to date. Only a right that is missing is told: nothing would ever
//! bring them up to date, and nobody would know.

use super::SteppedJournal;
use super::scripts::{INDEX_STEP, NOTE};
use super::seen::Seen;
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::script::OnLostReply::Repeat;
use crate::time::unix_micros;
use crate::workflow::journal::IN_FLIGHT;
use crate::workflow::journal::indexes::pending_member;
use crate::workflow::journal::redis::texts_or_none;

/// For so long, in milliseconds, an entry of an index that does not fit its record may belong to a call that is about
/// to write the record.
pub(super) const GRACE: f64 = 60_000.0;

/// How often a place is put right that others keep changing.
const ROUNDS: usize = 4;

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    unix_micros() / 1000
}

pub(super) fn add(key: &str, score: impl AsRef<[u8]>, member: impl AsRef<[u8]>) -> Command {
    Command::new("ZADD").arg(key).arg(score).arg(member).repeatable()
}

pub(super) fn remove(key: &str, member: impl AsRef<[u8]>) -> Command {
    Command::new("ZREM").arg(key).arg(member).repeatable()
}

pub(super) fn read(key: &str, fields: &[&str]) -> Command {
    let mut command = Command::new("HMGET").arg(key);
    fields.iter().for_each(|field| command.push(field.as_bytes()));
    command.reads()
}

/// Fails if one of these was refused for a right that is missing.
pub(super) fn allowed<'reply>(replies: impl IntoIterator<Item = &'reply Result<Reply>>) -> Result<()> {
    let mut errors = replies.into_iter().filter_map(|reply| reply.as_ref().err());
    errors.find(|error| error.kind() == ErrorKind::NoPermission).map_or(Ok(()), |error| Err(error.clone()))
}

fn text(value: Option<Vec<u8>>) -> String {
    value.map_or_else(String::new, |value| String::from_utf8_lossy(&value).into_owned())
}

/// What lists need to know of a run.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    pub(super) workflow: String,
    pub(super) status: String,
    /// Milliseconds since 1970, as text.
    pub(super) created: String,
}

impl Listed {
    pub(super) const FIELDS: [&str; 4] = ["id", "status", "workflow", "createdAt"];

    /// From the values of these fields; `None` if there is no such run.
    pub(super) fn of(reply: Reply) -> Result<Option<Self>> {
        let mut values = texts_or_none(reply)?.into_iter();
        let mut next = || values.next().flatten();
        if next().is_none() {
            return Ok(None);
        }
        let (status, workflow, created) = (text(next()), text(next()), text(next()));
        let created = if created.parse::<f64>().is_ok() { created } else { "0".to_owned() };
        Ok(Some(Self { workflow, status, created }))
    }
}

impl SteppedJournal {
    pub(super) fn history_key(&self, step_id: &[u8]) -> String {
        self.keys().of("step-history", &String::from_utf8_lossy(step_id))
    }

    /// Adds a run to the lists where its workflow, status and age say.
    pub(super) fn list_run(&self, run: &str, listed: &Listed) -> Vec<Command> {
        let Listed { workflow, status, created } = listed;
        let parts = [&[][..], &["workflow", workflow], &["status", status], &["status", status, workflow]];
        let mut commands: Vec<_> =
            parts.iter().map(|part| add(&self.keys().runs(part), created, run)).collect();
        commands.push(add(&self.keys().workflow_names(), "0", workflow));
        if status == "running" {
            commands.push(add(&self.keys().runs(&["idle"]), now().to_string(), run));
        }
        commands
    }

    fn unlist_run(&self, run: &str, workflow: &str, status: &str) -> [Command; 2] {
        [&["status", status][..], &["status", status, workflow]]
            .map(|part| remove(&self.keys().runs(part), run))
    }

    /// Takes a run from all lists.
    pub(super) fn forget_run(&self, run: &str, workflow: &str) -> Vec<Command> {
        let mut commands: Vec<_> = [&[][..], &["idle"], &["workflow", workflow]]
            .iter()
            .map(|part| remove(&self.keys().runs(part), run))
            .collect();
        for status in ["running", "suspended", "completed", "failed", "cancelled"] {
            commands.extend(self.unlist_run(run, workflow, status));
        }
        commands
    }

    /// After a run has left a status: lists it where it is by now, and no longer where it was.
    pub(super) async fn settle_run(
        &self,
        call: Call<'_>,
        run: &str,
        mut listed: Listed,
        left: &str,
    ) -> Result<()> {
        let mut left = left.to_owned();
        for _ in 0..ROUNDS {
            let mut commands = self.list_run(run, &listed);
            if left != listed.status {
                commands.extend(self.unlist_run(run, &listed.workflow, &left));
            }
            if listed.status != "running" {
                commands.push(remove(&self.keys().runs(&["idle"]), run));
            }
            allowed(&call.commands(commands).await)?;
            let key = self.keys().of("run", run);
            let stored = call.command(read(&key, &Listed::FIELDS)).await;
            allowed([&stored])?;
            match stored.and_then(Listed::of) {
                Ok(Some(actual)) if actual.status != listed.status => {
                    left = std::mem::replace(&mut listed, actual).status;
                }
                Ok(None) => {
                    return allowed(&call.commands(self.forget_run(run, &listed.workflow)).await);
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts a step into the index of its run, unless it is a run of the original, which has none. `true` if it is there.
    pub(super) async fn index_step(
        &self,
        call: Call<'_>,
        run: &str,
        name: &[u8],
        make: bool,
    ) -> Result<bool> {
        let index = self.keys().of("steps", run);
        let make: &[u8] = if make { b"1" } else { b"0" };
        let reply = self.plain.run_script(None, call, &INDEX_STEP, Repeat, &[&index], &[name, make]).await?;
        Ok(reply == Reply::Int(1))
    }

    /// Completes the history of a step up to what it was seen to be, last before and at this moment.
    pub(super) async fn note(
        &self,
        call: Call<'_>,
        before: Option<&Seen>,
        step: &Seen,
        new: bool,
    ) -> Result<()> {
        let mut words = step.subject();
        if let Some(before) = before {
            words.extend(before.change(false));
        }
        words.extend(step.change(new));
        let words: Vec<_> = words.iter().map(Vec::as_slice).collect();
        let history = self.history_key(&step.id);
        self.plain.run_script(None, call, &NOTE, Repeat, &[&history], &words).await.map(drop)
    }

    /// Brings history and indexes up to what a step has become.
    pub(super) async fn settle_step(&self, call: Call<'_>, before: Option<&Seen>, step: &Seen) -> Result<()> {
        let keys = self.keys();
        let (pending, idle) = (keys.runs(&["pending-steps"]), keys.runs(&["idle"]));
        let in_flight = keys.of("steps-in-flight", &step.run);
        let (run, now) = (keys.of("run", &step.run), now().to_string());
        let member = pending_member(&step.run, &step.id);
        let is_pending = step.status == "pending";
        let left_pending = !is_pending && before.is_none_or(|before| before.status == "pending");
        let mut commands = vec![
            read(&run, &Listed::FIELDS),
            // A run that is idle or not stays listed while it is running: readers find out what is in flight.
            Command::new("ZADD").arg(&idle).arg("XX").arg(&now).arg(&step.run).repeatable(),
            Command::new("ZSCORE").arg(&idle).arg(&step.run).reads(),
            match IN_FLIGHT.contains(&step.status.as_str()) {
                true => add(&in_flight, &now, &step.name),
                false => remove(&in_flight, &step.name),
            },
        ];
        if is_pending {
            commands.push(add(&pending, &step.updated, &member));
        } else if left_pending {
            commands.push(remove(&pending, &member));
        }
        let changed = before.is_none_or(|before| before != step);
        let (noted, indexed, replies) = tokio::join!(
            self.note(call, before.filter(|_| changed), step, changed),
            self.index_step(call, &step.run, &step.name, false),
            call.commands(commands),
        );
        let scripts = [noted.map(|()| Reply::Nil), indexed.clone().map(|_| Reply::Nil)];
        let refused = allowed(replies.iter().chain(&scripts));
        let mut replies = replies.into_iter();
        let stored = replies.next().unwrap_or(Ok(Reply::Nil)).and_then(Listed::of);
        let mut again = Vec::new();
        if let Ok(Some(stored)) = &stored
            && stored.status == "running"
            && replies.nth(1) == Some(Ok(Reply::Nil))
        {
            again.push(add(&idle, &now, &step.run));
        }
        if let (Ok(None), Ok(false)) = (stored, indexed) {
            // Nobody waits for more than this.
            let _ = self.index_step(call, &step.run, &step.name, true).await;
        }
        if left_pending && let Some(key) = self.key_of(step) {
            match call.command(read(&key, &["stepId", "status"])).await.and_then(texts_or_none).as_deref() {
                Ok([Some(id), Some(status)]) if *id == step.id && status == b"pending" => {
                    again.push(add(&pending, &now, &member));
                }
                _ => {}
            }
        }
        call.commands(again).await;
        refused
    }

    fn key_of(&self, step: &Seen) -> Option<String> {
        self.keys().step(&step.run, std::str::from_utf8(&step.name).ok()?).ok()
    }
}
