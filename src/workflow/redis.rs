//! Runs and steps on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Fields, StatusChange, Transition, WorkflowStore};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::connection::single::Client;
use crate::error::Result;
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

    /// `payload` is the field to write and its value; the field to remove goes with it.
    async fn advance(
        &self,
        key: &str,
        status: &str,
        payload: Option<(&str, &[u8], &str)>,
        now: u64,
        on_lost_reply: OnLostReply,
    ) -> Result<()> {
        let now = now.to_string();
        let mut arguments = vec![status.as_bytes(), now.as_bytes()];
        if let Some((field, value, obsolete)) = payload {
            arguments.extend([field.as_bytes(), value, obsolete.as_bytes()]);
        }
        ADVANCE_STEP
            .run(self.client.call(), on_lost_reply, &[key], &arguments)
            .await
            .map_err(|error| error.about(key))?;
        Ok(())
    }
}

#[async_trait]
impl WorkflowStore for RedisWorkflows {
    async fn ping(&self) -> Result<()> {
        self.client.call().command(Command::new("PING").reads()).await.map(drop)
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
        self.advance(&key, "scheduled", None, now, OnLostReply::Repeat).await
    }

    async fn complete_step(&self, run_id: &str, step_name: &str, result: &[u8], now: u64) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        self.advance(&key, "done", Some(("result", result, "error")), now, OnLostReply::Repeat).await
    }

    async fn fail_step(&self, run_id: &str, step_name: &str, error: &[u8], now: u64) -> Result<()> {
        let key = self.keys.step(run_id, step_name)?;
        // A new attempt may have been scheduled between two of these, so it is not repeated.
        self.advance(&key, "error", Some(("error", error, "result")), now, OnLostReply::Report).await
    }
}
