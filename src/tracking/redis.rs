//! Tracking on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Expect, Membership, Page, Replaced, Replacement, Statistics, TrackingStore, announcement, cut};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{OwnChannel, TrackingKeys, same_slot};
use crate::script::{OnLostReply, Script};
use crate::time::{Millis, unix_micros};

static REPLACE: Script = Script::new(include_str!("lua/replace_state.lua"));
static DROP_GHOSTS: Script = Script::new(include_str!("lua/drop_ghosts.lua"));
static PROVE_WRITABLE: Script = Script::new(include_str!("lua/prove_writable.lua"));
static TAKE_TICKET: Script = Script::new(include_str!("lua/take_ticket.lua"));
static MEET_INSTANCES: Script = Script::new(include_str!("lua/meet_instances.lua"));

/// How many states one command asks for: the server serves others in between.
const LOADED_AT_ONCE: usize = 500;

/// How long the string lasts that proves that the server can be written.
const PROOF_TTL: &[u8] = b"10000";

/// How long an instance is remembered that is not there any more, in milliseconds.
const INSTANCE_KEPT: &[u8] = b"60000";
/// How long it is remembered that there were several, in milliseconds: 30 days.
const MEETING_TTL: &[u8] = b"2592000000";

/// Executions on one server.
pub struct RedisTracking {
    client: Arc<Client>,
    keys: TrackingKeys,
    active: String,
    channel: OwnChannel,
}

impl RedisTracking {
    /// Executions with these keys.
    pub fn new(client: Arc<Client>, keys: TrackingKeys) -> Self {
        let (active, channel) = (keys.active(), keys.channel(client.config().db));
        Self { client, keys, active, channel }
    }

    fn membership(&self, execution_id: &str, active: bool) -> Command {
        Command::new(if active { "SADD" } else { "SREM" }).arg(&self.active).arg(execution_id).repeatable()
    }

    /// Where the script announces a change of this state, as a channel and as a sharded one. A script publishes to no
    /// other slot than its own.
    fn channels_of_script(&self, state: &str) -> (&str, &str) {
        let channel = &self.channel;
        if self.client.reaches_at_once([state, &channel.sharded]) {
            (&channel.name, self.client.sharded_name(channel))
        } else if self.client.announces_apart(channel) {
            ("", "")
        } else {
            (&channel.name, "")
        }
    }

    async fn attempt(
        &self,
        call: Call<'_>,
        replacement: &Replacement,
        keys: &[&str],
        channels: (&str, &str),
        again: bool,
    ) -> Result<Reply> {
        let expected = match &replacement.expect {
            Expect::Any => "any".to_owned(),
            Expect::Absent => "absent".to_owned(),
            Expect::Bytes(bytes) => sha1_smol::Sha1::from(bytes).digest().to_string(),
        };
        let ttl = replacement.ttl.get().to_string();
        let membership = match replacement.membership {
            Membership::Add => "add",
            Membership::Remove => "remove",
            Membership::Keep => "keep",
        };
        let arguments: [&[u8]; 8] = [
            replacement.json.as_deref().unwrap_or_default(),
            expected.as_bytes(),
            ttl.as_bytes(),
            membership.as_bytes(),
            replacement.execution_id.as_bytes(),
            channels.0.as_bytes(),
            if again { b"1" } else { b"0" },
            channels.1.as_bytes(),
        ];
        let on_lost_reply = if again { OnLostReply::Repeat } else { OnLostReply::Report };
        REPLACE.run(call, on_lost_reply, keys, &arguments).await
    }

    async fn ids(&self, call: Call<'_>) -> Result<Vec<String>> {
        let reply = call.command(Command::new("SMEMBERS").arg(&self.active).reads()).await;
        let members = reply.and_then(Reply::into_list).map_err(|error| error.about(&self.active))?;
        members
            .into_iter()
            // Others may have put there what is no text; it cannot be asked for either.
            .map(|id| Ok(String::from_utf8_lossy(&id.into_bytes()?.unwrap_or_default()).into_owned()))
            .collect()
    }

    async fn states(&self, call: Call<'_>, ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        // In a cluster they lie everywhere.
        let at_once = if self.client.is_cluster() { 1 } else { LOADED_AT_ONCE };
        let commands = ids.chunks(at_once).map(|chunk| {
            chunk.iter().fold(Command::new("MGET"), |command, id| command.arg(self.keys.state_of_member(id)))
        });
        let mut states = Vec::with_capacity(ids.len());
        for reply in call.commands(commands.map(Command::reads)).await {
            for state in reply?.into_list()? {
                states.push(state.into_bytes()?);
            }
        }
        Ok(states)
    }
}

#[async_trait]
impl TrackingStore for RedisTracking {
    async fn replace(&self, replacement: Replacement) -> Result<Replaced> {
        let id = replacement.execution_id.as_str();
        let state = self.keys.state(id)?;
        let call = self.client.call();
        let together = !self.client.is_cluster() || same_slot([state.as_str(), &self.active]);
        let keys: &[&str] = if together { &[&state, &self.active] } else { &[&state] };
        let mut added = false;
        if !together && replacement.membership == Membership::Add {
            // First: an execution without a state is dropped on sight, a state that nobody finds is not.
            added = call.command(self.membership(id, true)).await?.into_int()? == 1;
        }
        let channels = self.channels_of_script(&state);
        let reply = match self.attempt(call, &replacement, keys, channels, false).await {
            // Told that it may have happened already, the script knows its own bytes.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                match self.attempt(call, &replacement, keys, channels, true).await {
                    Ok(Reply::Int(1)) => Ok(Reply::Int(1)),
                    _ => Err(error),
                }
            }
            outcome => outcome,
        };
        let replaced = match reply.map_err(|error| error.about(&state))? {
            Reply::Int(_) => Replaced::Stored,
            other => Replaced::Differs(other.into_bytes()?),
        };
        if replaced == Replaced::Stored && channels.0.is_empty() {
            self.client.announce(&self.channel, announcement(id, replacement.json.as_deref()));
        }
        // An execution that ended meanwhile must not be active again. One that began anew is, with its next change.
        let undone = added && replaced != Replaced::Stored;
        let removed = replaced == Replaced::Stored && replacement.membership == Membership::Remove;
        if !together && (undone || removed) {
            call.command(self.membership(id, false)).await?;
        }
        Ok(replaced)
    }

    async fn load(&self, execution_ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        for id in execution_ids {
            self.keys.state(id)?;
        }
        if let [id] = execution_ids {
            let state = self.keys.state(id)?;
            let reply = self.client.call().command(Command::new("GET").arg(&state).reads()).await;
            return Ok(vec![reply.and_then(Reply::into_bytes).map_err(|error| error.about(&state))?]);
        }
        self.states(self.client.call(), execution_ids).await
    }

    async fn refresh(&self, execution_id: &str, ttl: Millis) -> Result<bool> {
        let state = self.keys.state(execution_id)?;
        let call = self.client.call();
        let left = call.command(Command::new("PTTL").arg(&state).reads()).await?.into_int()?;
        if left == -2 || left == -1 || u64::try_from(left).is_ok_and(|left| left >= ttl.get()) {
            return Ok(left != -2);
        }
        let expire = Command::new("PEXPIRE").arg(&state).number(ttl.get()).repeatable();
        Ok(call.command(expire).await?.into_int()? == 1)
    }

    async fn set_active(&self, execution_id: &str, active: bool) -> Result<()> {
        self.keys.state(execution_id)?;
        let outcome = self.client.call().command(self.membership(execution_id, active)).await;
        outcome.map(drop).map_err(|error| error.about(&self.active))
    }

    async fn active(&self) -> Result<Vec<String>> {
        let mut ids = self.ids(self.client.call()).await?;
        ids.sort_unstable();
        Ok(ids)
    }

    async fn page(&self, after: Option<String>, limit: usize) -> Result<Page> {
        let call = self.client.call();
        let (total, ids, more) = cut(self.ids(call).await?, after.as_deref(), limit);
        let states = self.states(call, &ids).await?;
        Ok(Page { total, rows: ids.into_iter().zip(states).collect(), more })
    }

    async fn statistics(&self) -> Result<Statistics> {
        let call = self.client.call();
        let ids = self.ids(call).await?;
        let states = self.states(call, &ids).await?;
        let mut statistics = Statistics::default();
        for (id, state) in ids.into_iter().zip(states) {
            statistics.count(id, state.as_deref());
        }
        Ok(statistics)
    }

    async fn drop_ghosts(&self, execution_ids: &[String]) -> Result<u64> {
        let call = self.client.call();
        if !self.client.is_cluster() {
            let states: Vec<_> = execution_ids.iter().map(|id| self.keys.state_of_member(id)).collect();
            let keys: Vec<_> =
                [self.active.as_str()].into_iter().chain(states.iter().map(String::as_str)).collect();
            let ids: Vec<_> = execution_ids.iter().map(String::as_bytes).collect();
            let reply = DROP_GHOSTS.run(call, OnLostReply::Repeat, &keys, &ids).await?;
            return Ok(reply.into_int()?.unsigned_abs());
        }
        let mut dropped = 0;
        for id in execution_ids {
            dropped += call.command(self.membership(id, false)).await?.into_int()?.unsigned_abs();
            let state = self.keys.state_of_member(id);
            // It may have been started in this moment.
            let kind = call.command(Command::new("TYPE").arg(state).reads()).await?.into_bytes()?;
            if kind.as_deref() == Some(b"string") {
                call.command(self.membership(id, true)).await?;
                dropped -= 1;
            }
        }
        Ok(dropped)
    }

    async fn prove_writable(&self, instance: &str) -> Result<()> {
        let proof = self.keys.proof(instance)?;
        let written = announcement(instance, None);
        let arguments = [written.as_slice(), PROOF_TTL];
        let reply =
            PROVE_WRITABLE.run(self.client.call(), OnLostReply::Repeat, &[&proof], &arguments).await?;
        if reply.into_bytes()? == Some(written) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Server, "the server did not keep what was written"))
    }

    async fn meet_instances(&self, instance: Option<&str>) -> Result<bool> {
        let key = self.keys.instances();
        let now = (unix_micros() / 1000).to_string();
        let arguments = [instance.unwrap_or_default().as_bytes(), INSTANCE_KEPT, MEETING_TTL, now.as_bytes()];
        let reply = MEET_INSTANCES.run(self.client.call(), OnLostReply::Repeat, &[&key], &arguments).await;
        Ok(reply.and_then(Reply::into_int).map_err(|error| error.about(&key))? == 1)
    }

    async fn issue_ticket(&self, ticket: &str, json: Vec<u8>, ttl: Millis) -> Result<()> {
        let key = self.keys.ticket(ticket)?;
        let set = Command::new("SET").arg(&key).arg(json).arg("PX").number(ttl.get()).repeatable();
        self.client.call().command(set).await.map(drop).map_err(|error| error.about(&key))
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Vec<u8>>> {
        let key = self.keys.ticket(ticket)?;
        // Nobody gets it twice, and whoever does not know whether it is taken asks for another one.
        let reply = TAKE_TICKET.run(self.client.call(), OnLostReply::Report, &[&key], &[]).await;
        reply.and_then(Reply::into_bytes).map_err(|error| error.about(&key))
    }

    fn channel(&self) -> &str {
        &self.channel.name
    }
}
