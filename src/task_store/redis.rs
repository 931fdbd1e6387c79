//! Executions on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Change, TaskStore};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::key::TaskKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static CHANGE_EXECUTION: Script = Script::new(include_str!("lua/change_execution.lua"));

/// Executions on one server.
pub struct RedisTasks {
    client: Arc<Client>,
    keys: TaskKeys,
}

impl RedisTasks {
    /// Executions with these keys.
    pub fn new(client: Arc<Client>, keys: TaskKeys) -> Self {
        Self { client, keys }
    }

    async fn read(&self, name: &str, key: &str, field: Option<&str>) -> Result<Reply> {
        let mut command = Command::new(name).arg(key);
        if let Some(field) = field {
            command.push(field.as_bytes());
        }
        self.client.call().command(command.reads()).await.map_err(|error| error.about(key))
    }
}

#[async_trait]
impl TaskStore for RedisTasks {
    async fn apply(&self, execution: &str, change: Change<'_>, ttl: Option<Millis>) -> Result<()> {
        let marker = self.keys.marker(execution)?;
        let (transactions, results) = (self.keys.transactions(execution)?, self.keys.results(execution)?);
        let ttl = ttl.map_or(0, Millis::get).to_string();
        let arguments: [&[u8]; 5] = match change {
            Change::Begin => [b"begin", ttl.as_bytes(), b"", b"", b"0"],
            Change::BeginTask { task } => [b"task", ttl.as_bytes(), task.as_bytes(), b"", b"1"],
            Change::Commit { task, result } => [b"commit", ttl.as_bytes(), task.as_bytes(), result, b"0"],
        };
        let on_lost_reply = match change {
            Change::BeginTask { .. } => OnLostReply::Report,
            // These write the same bytes whenever they run.
            Change::Begin | Change::Commit { .. } => OnLostReply::Repeat,
        };
        let (call, keys) = (self.client.call(), [&*marker, &*transactions, &*results]);
        let reply = match CHANGE_EXECUTION.run(call, on_lost_reply, &keys, &arguments[..4]).await {
            // By now the task may have been committed by whoever runs it, which the script finds out.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                match CHANGE_EXECUTION.run(call, OnLostReply::Repeat, &keys, &arguments).await {
                    Ok(Reply::Int(0)) | Err(_) => Err(error),
                    reply => reply,
                }
            }
            outcome => outcome,
        };
        reply.map(drop).map_err(|error| error.about(&marker))
    }

    async fn is_in_progress(&self, execution: &str) -> Result<bool> {
        let value = self.read("GET", &self.keys.marker(execution)?, None).await?.into_bytes()?;
        Ok(value.is_some_and(|value| !value.is_empty()))
    }

    async fn is_task_in_progress(&self, execution: &str, task: &str) -> Result<bool> {
        let value = self.read("HGET", &self.keys.transactions(execution)?, Some(task)).await?.into_bytes()?;
        Ok(value.is_some_and(|value| !value.is_empty()))
    }

    async fn result(&self, execution: &str, task: &str) -> Result<Option<Vec<u8>>> {
        self.read("HGET", &self.keys.results(execution)?, Some(task)).await?.into_bytes()
    }

    async fn results(&self, execution: &str) -> Result<Vec<Vec<u8>>> {
        let fields = self.read("HGETALL", &self.keys.results(execution)?, None).await?.into_list()?;
        fields.into_iter().map(|field| Ok(field.into_bytes()?.unwrap_or_default())).collect()
    }

    async fn dispose(&self, execution: &str) -> Result<()> {
        let command = Command::new("DEL")
            .arg(self.keys.marker(execution)?)
            .arg(self.keys.transactions(execution)?)
            .arg(self.keys.results(execution)?)
            .repeatable();
        self.client.call().command(command).await.map(drop)
    }
}
