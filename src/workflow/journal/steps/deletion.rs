//! Deleting a run. Its hash decides; all that belongs to it goes after, the index of its steps last. That index says
//! from before the decision that it is a deletion, so that one which broke off is finished by the next.

use super::SteppedJournal;
use super::places::{Listed, add, allowed, read, remove};
use super::scripts::DROP_RUN;
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::script::OnLostReply::{Repeat, Report};
use crate::workflow::journal::indexes::pending_member;
use crate::workflow::journal::redis::{texts, texts_or_none};

/// The score of the empty name in the index of a run that is being deleted.
const DELETED: &str = "-1";

fn delete(key: impl AsRef<[u8]>) -> Command {
    Command::new("DEL").arg(key).repeatable()
}

impl SteppedJournal {
    pub(super) async fn delete(&self, run_id: &str) -> Result<bool> {
        let (run, index) = (self.keys().run(run_id)?, self.keys().of("steps", run_id));
        let call = self.call();
        let mark = Command::new("ZSCORE").arg(&index).arg("").reads();
        let mut replies = call.commands([read(&run, &Listed::FIELDS), mark]).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
        let stored = next().and_then(Listed::of).map_err(|error| error.about(&run))?;
        let mark = next()?.into_bytes()?;
        let workflows = match &stored {
            Some(stored) => {
                if !self.drop_run(call, run_id, &run, &index, mark.is_some()).await? {
                    return Ok(false);
                }
                vec![stored.workflow.clone().into_bytes()]
            }
            // Another deletion got no further than this, or has yet to.
            None if mark.as_deref() == Some(DELETED.as_bytes()) => {
                let names = Command::new("ZRANGE").arg(self.keys().workflow_names()).arg("0").arg("-1");
                texts(call.command(names.reads()).await?)?
            }
            None => {
                self.drop_run_hash(self.call(), run_id, &run).await?;
                return Ok(false);
            }
        };
        // After a scan, the call has no time left.
        self.clear(self.call(), run_id, &index, &workflows).await.map(|()| true)
    }

    async fn drop_run(
        &self,
        call: Call<'_>,
        run_id: &str,
        run: &str,
        index: &str,
        indexed: bool,
    ) -> Result<bool> {
        let mut marks = vec![add(index, DELETED, "")];
        if !indexed {
            // A run that the original made.
            let names = self.plain.scan(&format!("step:{run_id}")).await?;
            marks.extend(names.iter().map(|name| add(index, "0", name)));
        }
        let call = if indexed { call } else { self.call() };
        let guard = self.plain.guard(run_id);
        self.prepare(call, guard.as_ref(), marks).await?;
        let dropped = self.drop_run_hash(call, run_id, run).await;
        if matches!(&dropped, Err(error) if error.kind() == ErrorKind::StaleFence) {
            // It is no deletion, and a run of the original has no index.
            call.commands([if indexed { add(index, "0", "") } else { delete(index) }]).await;
        }
        dropped
    }

    async fn drop_run_hash(&self, call: Call<'_>, run_id: &str, run: &str) -> Result<bool> {
        let guard = self.plain.guard(run_id);
        match self.plain.run_script(guard.as_ref(), call, &DROP_RUN, Report, &[run], &[]).await {
            // Whether the first or the second deleted it, it is gone.
            Err(unknown) if unknown.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                let again = self.plain.run_script(guard.as_ref(), call, &DROP_RUN, Repeat, &[run], &[]).await;
                again.map(|_| true).map_err(|_| unknown)
            }
            outcome => outcome.map(|reply| reply == Reply::Int(1)),
        }
    }

    /// Everything that belonged to the run.
    async fn clear(&self, call: Call<'_>, run_id: &str, index: &str, workflows: &[Vec<u8>]) -> Result<()> {
        let keys = self.keys();
        let mut names =
            texts(call.command(Command::new("ZRANGE").arg(index).arg("0").arg("-1").reads()).await?)?;
        names.retain(|name| !name.is_empty());
        let of =
            |kind: &str, name: &[u8]| keys.of(&format!("{kind}:{run_id}"), &String::from_utf8_lossy(name));
        let ids = names.iter().map(|name| read(&of("step", name), &["stepId", "runId"]));
        let ids = call.commands(ids).await;
        let pending = keys.runs(&["pending-steps"]);
        let mut histories = Vec::new();
        let mut removals: Vec<_> = ["run-state", "steps-in-flight", "lock"]
            .iter()
            .map(|kind| delete(keys.of(kind, run_id)))
            .collect();
        for (ids, name) in ids.into_iter().zip(&names) {
            let ids = ids.and_then(texts_or_none)?;
            // With a colon in it, the key may be of another run's step.
            if ids.get(1).cloned().flatten().is_none_or(|run| run == run_id.as_bytes()) {
                if let Some(id) = ids.into_iter().next().flatten() {
                    histories.push(delete(self.history_key(&id)));
                    histories.push(remove(&pending, pending_member(run_id, &id)));
                }
                removals.extend([delete(of("step", name)), delete(of("step-lock", name))]);
            }
        }
        // Where a history is, only its step says.
        self.prepare(call, None, histories).await?;
        let workflows: Vec<_> = workflows.iter().map(|name| String::from_utf8_lossy(name)).collect();
        removals.extend(workflows.iter().flat_map(|workflow| self.forget_run(run_id, workflow)));
        self.prepare(call, None, removals).await?;
        let mut last = vec![delete(index)];
        last.extend(workflows.iter().map(|workflow| self.runs_of(workflow)));
        let replies = call.commands(last).await;
        allowed(&replies)?;
        let empty: Vec<_> = workflows
            .iter()
            .zip(replies.into_iter().skip(1))
            .filter(|(_, exists)| *exists == Ok(Reply::Int(0)))
            .map(|(workflow, _)| workflow)
            .collect();
        self.drop_names(call, &empty).await;
        Ok(())
    }

    /// Whether there are runs of a workflow.
    pub(super) fn runs_of(&self, workflow: &str) -> Command {
        Command::new("EXISTS").arg(self.keys().runs(&["workflow", workflow])).reads()
    }

    /// Takes away names of workflows without runs, and puts back those that have got one in between.
    pub(super) async fn drop_names<W: AsRef<str>>(&self, call: Call<'_>, workflows: &[W]) {
        let names = self.keys().workflow_names();
        call.commands(workflows.iter().map(|workflow| remove(&names, workflow.as_ref()))).await;
        let replies = call.commands(workflows.iter().map(|workflow| self.runs_of(workflow.as_ref()))).await;
        let back = workflows.iter().zip(replies).filter(|(_, exists)| *exists == Ok(Reply::Int(1)));
        call.commands(back.map(|(workflow, _)| add(&names, "0", workflow.as_ref()))).await;
    }
}
