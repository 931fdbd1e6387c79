//! Runs and steps on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Fields, StatusChange, Transition, WorkflowStore};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::key::WorkflowKeys;
use crate::script::{OnLostReply, Script};

static UPDATE_RUN_STATUS: Script = Script::new(include_str!("lua/update_run_status.lua"));
static ADVANCE_STEP: Script = Script::new(include_str!("lua/advance_step.lua"));

/// Runs and steps on one server.
pub struct RedisWorkflows {
    client: Arc<Client>,
    keys: WorkflowKeys,
}

impl RedisWorkflows {
    /// Runs and steps with these keys.
    pub fn new(client: Arc<Client>, keys: WorkflowKeys) -> Self {
        Self { client, keys }
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
        key: &str,
        status: &str,
        now: u64,
        further: &[&[u8]],
        on_lost_reply: OnLostReply,
    ) -> Result<()> {
        let now = now.to_string();
        let arguments = [&[status.as_bytes(), now.as_bytes()], further].concat();
        ADVANCE_STEP
            .run(call, on_lost_reply, &[key], &arguments)
            .await
            .map(drop)
            .map_err(|error| error.about(key))
    }
}

#[async_trait]
impl WorkflowStore for RedisWorkflows {
    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn create_run(&self, run_id: &str, workflow: &str, input: &[u8], now: u64) -> Result<()> {
        let key = self.keys.run(run_id)?;
        let now = now.to_string();
        // Nobody else knows the id yet, so writing the same fields twice is writing them once.
        let command = Command::new("HSET")
            .arg(&key)
            .arg("id")
            .arg(run_id)
            .arg("workflow")
            .arg(workflow)
            .arg("status")
            .arg("running")
            .arg("input")
            .arg(input)
            .arg("createdAt")
            .arg(&now)
            .arg("updatedAt")
            .arg(&now)
            .repeatable();
        self.client.call().command(command).await.map(drop).map_err(|error| error.about(&key))
    }

    async fn run(&self, run_id: &str) -> Result<Fields> {
        self.fields(&self.keys.run(run_id)?).await
    }

    async fn update_run_status(&self, run_id: &str, change: StatusChange) -> Result<Transition> {
        let key = self.keys.run(run_id)?;
        let now = change.now.to_string();
        let mut arguments =
            vec![change.status.as_bytes(), now.as_bytes(), if change.reopen { b"1" } else { b"0" }];
        for (field, value) in [("output", &change.output), ("error", &change.error)] {
            if let Some(value) = value {
                arguments.extend([field.as_bytes(), value]);
            }
        }
        // Not repeated after a lost reply: a later change by somebody else may lie between the two.
        let reply = UPDATE_RUN_STATUS
            .run(self.client.call(), OnLostReply::Report, &[&key], &arguments)
            .await
            .map_err(|error| error.about(&key))?;
        Ok(match reply {
            Reply::Int(1) => Transition::Applied,
            Reply::Int(2) => Transition::Final,
            _ => Transition::Missing,
        })
    }

    async fn step(&self, run_id: &str, step_name: &str) -> Result<Fields> {
        self.fields(&self.keys.step(run_id, step_name)?).await
    }

    async fn schedule_step(&self, run_id: &str, step_name: &str, now: u64) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        let call = self.client.call();
        match self.advance(call, &key, "scheduled", now, &[b"0"], OnLostReply::Report).await {
            // A worker may have run the step since, and failed; the script is told not to overwrite its error.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => self
                .advance(call, &key, "scheduled", now, &[b"1"], OnLostReply::Repeat)
                .await
                .map_err(|_| error),
            outcome => outcome,
        }
    }

    async fn complete_step(&self, run_id: &str, step_name: &str, result: &[u8], now: u64) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        let further = [b"result", result, b"error"];
        self.advance(self.client.call(), &key, "done", now, &further, OnLostReply::Repeat).await
    }

    async fn fail_step(&self, run_id: &str, step_name: &str, error: &[u8], now: u64) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        let further = [b"error", error, b"result"];
        // A new attempt may have been scheduled between two of these, so it is not repeated.
        self.advance(self.client.call(), &key, "error", now, &further, OnLostReply::Report).await
    }
}
