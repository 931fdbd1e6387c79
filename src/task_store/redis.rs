//! Executions on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Change, MARK, TaskStore};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::TaskKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static CHANGE_EXECUTION: Script = Script::new(include_str!("lua/change_execution.lua"));
static SET_FIELD: Script = Script::new(include_str!("lua/set_field.lua"));

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

    /// The keys of an execution, and whether one script may touch them all.
    fn keys_of(&self, execution: &str) -> Result<([String; 3], bool)> {
        let keys =
            [self.keys.marker(execution)?, self.keys.transactions(execution)?, self.keys.results(execution)?];
        let together = self.client.reaches_at_once(keys.iter().map(String::as_str));
        Ok((keys, together))
    }

    /// A change where the keys lie in different slots. What decides is written at once: the marker, the mark of a
    /// task, or a result, which makes the task done whatever its mark still says. Before it, what is there already
    /// gets its time to live.
    async fn apply_in_steps(
        &self,
        [marker, transactions, results]: [String; 3],
        change: Change<'_>,
        ttl: Option<Millis>,
    ) -> Result<()> {
        let call = self.client.call();
        let about = |key: &str| {
            let key = key.to_owned();
            move |error: Error| error.about(&key)
        };
        let refresh = |keys: &[&String]| {
            let expire =
                |key: &&String, ttl: Millis| Command::new("PEXPIRE").arg(key).number(ttl.get()).repeatable();
            ttl.map(|ttl| keys.iter().map(|key| expire(key, ttl)).collect::<Vec<_>>()).unwrap_or_default()
        };
        let first = match change {
            Change::Begin => refresh(&[&transactions, &results]),
            Change::BeginTask { .. } => refresh(&[&marker, &results]),
            Change::Commit { .. } => refresh(&[&marker, &transactions]),
        };
        for outcome in call.commands(first).await {
            outcome.map_err(about(&marker))?;
        }
        match change {
            Change::Begin => {
                let mut set = Command::new("SET").arg(&marker).arg(MARK);
                if let Some(ttl) = ttl {
                    set = set.arg("PX").number(ttl.get());
                }
                call.command(set.repeatable()).await.map(drop).map_err(about(&marker))
            }
            Change::BeginTask { task } => {
                let arguments = [task.as_bytes(), MARK];
                self.set_field(call, OnLostReply::Report, &transactions, arguments, ttl).await
            }
            Change::Commit { task, result } => {
                self.set_field(call, OnLostReply::Repeat, &results, [task.as_bytes(), result], ttl).await?;
                let unmark = Command::new("HDEL").arg(&transactions).arg(task).repeatable();
                match call.command(unmark).await {
                    Err(error) if error.kind() == ErrorKind::WrongType => Err(error.about(&transactions)),
                    // The mark of a task with a result means nothing to readers.
                    _ => Ok(()),
                }
            }
        }
    }

    async fn set_field(
        &self,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        key: &str,
        [field, value]: [&[u8]; 2],
        ttl: Option<Millis>,
    ) -> Result<()> {
        let ttl = ttl.map_or(0, Millis::get).to_string();
        let arguments = [field, value, ttl.as_bytes()];
        let reply = SET_FIELD.run(call, on_lost_reply, &[key], &arguments).await;
        reply.map(drop).map_err(|error| error.about(key))
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
        let (keys, together) = self.keys_of(execution)?;
        if !together {
            return self.apply_in_steps(keys, change, ttl).await;
        }
        let [marker, transactions, results] = keys;
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
        let ([_, transactions, results], together) = self.keys_of(execution)?;
        let value = self.read("HGET", &transactions, Some(task)).await?.into_bytes()?;
        let marked = value.is_some_and(|value| !value.is_empty());
        if together || !marked {
            return Ok(marked);
        }
        let done = Command::new("HEXISTS").arg(&results).arg(task).reads();
        let done = self.client.call().command(done).await.map_err(|error| error.about(&results))?;
        Ok(done != Reply::Int(1))
    }

    async fn result(&self, execution: &str, task: &str) -> Result<Option<Vec<u8>>> {
        self.read("HGET", &self.keys.results(execution)?, Some(task)).await?.into_bytes()
    }

    async fn results(&self, execution: &str) -> Result<Vec<Vec<u8>>> {
        let fields = self.read("HGETALL", &self.keys.results(execution)?, None).await?.into_list()?;
        fields.into_iter().map(|field| Ok(field.into_bytes()?.unwrap_or_default())).collect()
    }

    async fn dispose(&self, execution: &str) -> Result<()> {
        let (keys, together) = self.keys_of(execution)?;
        let call = self.client.call();
        let delete = |keys: &[String]| keys.iter().fold(Command::new("DEL"), Command::arg).repeatable();
        if together {
            return call.command(delete(&keys)).await.map(drop);
        }
        // Without its marker the execution is gone for everybody who asks.
        let [marker, rest @ ..] = &keys;
        call.command(delete(std::slice::from_ref(marker))).await?;
        let rest = call.commands(rest.iter().map(|key| delete(std::slice::from_ref(key)))).await;
        rest.into_iter().try_for_each(|outcome| outcome.map(drop).map_err(Error::after_a_write))
    }
}
