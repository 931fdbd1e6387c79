//! Runs and steps on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Fields, StatusChange, Transition, WorkflowStore};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::fence::{Fence, Guard};
use crate::key::WorkflowKeys;
use crate::script::{OnLostReply, Script};

static CREATE_RUN: Script = Script::new(include_str!("lua/create_run.lua"));
static UPDATE_RUN_STATUS: Script = Script::new(include_str!("lua/update_run_status.lua"));
static ADVANCE_STEP: Script = Script::new(include_str!("lua/advance_step.lua"));

/// Runs and steps on one server.
#[derive(Clone)]
pub struct RedisWorkflows {
    client: Arc<Client>,
    keys: WorkflowKeys,
    fence: Option<Fence>,
}

impl RedisWorkflows {
    /// Runs and steps with these keys.
    pub fn new(client: Arc<Client>, keys: WorkflowKeys) -> Self {
        Self { client, keys, fence: None }
    }

    fn guard(&self, run_id: &str) -> Result<Option<Guard>> {
        let Some(fence) = self.fence else { return Ok(None) };
        Ok(Some(fence.guard([self.keys.run(run_id)?], |run| self.keys.fence(run), None)))
    }

    /// In a cluster, the run's fence is checked before the step is written, in another slot. So the step has a fence of
    /// its own beside it: no later holder's write of the step can be overwritten in between.
    fn guard_of_step(&self, run_id: &str, step_name: &str) -> Result<Option<Guard>> {
        let (run, step) = (self.keys.run(run_id)?, self.keys.step(run_id, step_name)?);
        if self.client.reaches_at_once([run.as_str(), &step]) {
            return self.guard(run_id);
        }
        Ok(self.fence.map(|fence| fence.guard([run, step], |record| self.keys.fence(record), None)))
    }

    async fn fields(&self, key: &str) -> Result<Fields> {
        let reply = self
            .client
            .call()
            .command(Command::new("HGETALL").arg(key).reads())
            .await
            .map_err(|error| error.about(key))?;
        reply.into_list()?.into_iter().map(|field| Ok(field.into_bytes()?.unwrap_or_default())).collect()
    }

    /// `further` are the script's arguments after status and time.
    async fn advance(
        &self,
        call: Call<'_>,
        [run_id, step_name]: [&str; 2],
        status: &str,
        now: u64,
        further: &[&[u8]],
        on_lost_reply: OnLostReply,
    ) -> Result<Reply> {
        let (key, guard) = (self.keys.step(run_id, step_name)?, self.guard_of_step(run_id, step_name)?);
        let now = now.to_string();
        let arguments = [&[status.as_bytes(), now.as_bytes()], further].concat();
        ADVANCE_STEP
            .run_under(guard.as_ref(), call, on_lost_reply, &[&key], &arguments)
            .await
            .map_err(|error| error.about(&key))
    }
}

#[async_trait]
impl WorkflowStore for RedisWorkflows {
    fn under(&self, fence: Fence) -> Arc<dyn WorkflowStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn create_run(&self, run_id: &str, workflow: &str, input: &[u8], now: u64) -> Result<()> {
        let key = self.keys.run(run_id)?;
        let now = now.to_string();
        // Nobody else knows the id yet, so writing the same fields twice is writing them once.
        let now = now.as_bytes();
        let fields = [
            [b"id", run_id.as_bytes()],
            [b"workflow", workflow.as_bytes()],
            [b"status", b"running"],
            [b"input", input],
            [b"createdAt", now],
            [b"updatedAt", now],
        ];
        let (fields, call) = (fields.as_flattened(), self.client.call());
        let reply = match self.guard(run_id)? {
            None => {
                let command = fields.iter().fold(Command::new("HSET").arg(&key), Command::arg);
                call.command(command.repeatable()).await
            }
            guard => CREATE_RUN.run_under(guard.as_ref(), call, OnLostReply::Repeat, &[&key], fields).await,
        };
        reply.map(drop).map_err(|error| error.about(&key))
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.fields(&self.keys.run(run_id)?).await
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let key = self.keys.run(run_id)?;
        let now = change.now.to_string();
        let reopen: &[u8] = if change.reopen { b"1" } else { b"0" };
        let mut arguments = vec![change.status.as_bytes(), now.as_bytes(), reopen, b"0"];
        for (field, value) in [("output", &change.output), ("error", &change.error)] {
            if let Some(value) = value {
                arguments.extend([field.as_bytes(), value]);
            }
        }
        let (call, guard) = (self.client.call(), self.guard(run_id)?);
        let first =
            UPDATE_RUN_STATUS.run_under(guard.as_ref(), call, OnLostReply::Report, &[&key], &arguments).await;
        let reply = match first {
            // A later change by somebody else may lie between the two, which the script finds out.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                arguments[3] = b"1";
                match UPDATE_RUN_STATUS
                    .run_under(guard.as_ref(), call, OnLostReply::Repeat, &[&key], &arguments)
                    .await
                {
                    Ok(Reply::Int(3)) | Err(_) => Err(error),
                    reply => reply,
                }
            }
            outcome => outcome,
        };
        Ok(match reply.map_err(|error| error.about(&key))? {
            Reply::Int(1) => Transition::Applied,
            Reply::Int(2) => Transition::Final,
            _ => Transition::Missing,
        })
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.fields(&self.keys.step(run_id, step_name)?).await
    }

    async fn schedule_step(&self, run_id: &str, step_name: &str, now: u64) -> Result<()> {
        let call = self.client.call();
        let step = [run_id, step_name];
        let outcome = match self.advance(call, step, "scheduled", now, &[b"0"], OnLostReply::Report).await {
            // A worker may have run the step since, and failed; the script is told not to overwrite its error.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => self
                .advance(call, step, "scheduled", now, &[b"1"], OnLostReply::Repeat)
                .await
                .map_err(|_| error),
            outcome => outcome,
        };
        outcome.map(drop)
    }

    async fn complete_step(&self, run_id: &str, step_name: &str, result: &[u8], now: u64) -> Result<()> {
        let further = [b"result", result, b"error"];
        self.advance(self.client.call(), [run_id, step_name], "done", now, &further, OnLostReply::Repeat)
            .await
            .map(drop)
    }

    async fn fail_step(&self, run_id: &str, step_name: &str, error: &[u8], now: u64) -> Result<()> {
        let (call, step) = (self.client.call(), [run_id, step_name]);
        let further: [&[u8]; 4] = [b"error", error, b"result", b"1"];
        let outcome = match self.advance(call, step, "error", now, &further[..3], OnLostReply::Report).await {
            // A new attempt may have been scheduled between the two, which the script finds out.
            Err(unknown) if unknown.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                match self.advance(call, step, "error", now, &further, OnLostReply::Repeat).await {
                    Ok(Reply::Int(2)) | Err(_) => Err(unknown),
                    reply => reply,
                }
            }
            outcome => outcome,
        };
        outcome.map(drop)
    }
}
