//! Sessions on a Redis server.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Condition, Record, SessionStore, Stored, Write, record_ttl, version_of};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKeys;
use crate::script::{OnLostReply, Script};
use crate::time::{Millis, unix_micros};

static READ: Script = Script::new(include_str!("lua/read_session.lua"));
static WRITE: Script = Script::new(include_str!("lua/write_session.lua"));
static TOUCH: Script = Script::new(include_str!("lua/touch_session.lua"));

/// What the script of a write answers if nobody can tell what became of an earlier copy.
const UNCLEAR: &str = "?";

/// Sessions on one server.
pub struct RedisSessions {
    client: Arc<Client>,
    keys: SessionKeys,
}

impl RedisSessions {
    /// Sessions with these keys.
    pub fn new(client: Arc<Client>, keys: SessionKeys) -> Self {
        Self { client, keys }
    }
}

fn number(reply: Reply) -> Result<u64> {
    let digits = reply.into_bytes()?.unwrap_or_default();
    std::str::from_utf8(&digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Error::new(ErrorKind::Server, "the server answered something else than a number"))
}

#[async_trait]
impl SessionStore for RedisSessions {
    async fn get(&self, user_id: &str) -> Result<Option<Stored>> {
        let session = self.keys.session(user_id)?;
        let keys = [session.as_str(), &self.keys.record(&session)];
        let reply = READ.run(self.client.call(), OnLostReply::Read, &keys, &[]).await;
        let parts = reply.and_then(Reply::into_list).map_err(|error| error.about(&session))?;
        let mut parts = parts.into_iter().map(Reply::into_bytes);
        let mut next = || parts.next().unwrap_or(Ok(None));
        let (json, record, left) = (next()?, next()?, next()?);
        let version = version_of(record.as_deref().and_then(Record::read));
        let ttl = left.and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok()).map(Millis::new);
        Ok(json.map(|json| Stored { json, version, ttl }))
    }

    async fn write(&self, write: Write) -> Result<Option<u64>> {
        let session = self.keys.session(&write.user_id)?;
        let record = self.keys.record(&session);
        let (condition, version) = match write.condition {
            Condition::Any => ("any", 0),
            Condition::Version(version) => ("version", version),
            Condition::Until => ("until", 0),
        };
        let (ttl, record_ttl) = (write.ttl.get().to_string(), record_ttl(write.ttl).get().to_string());
        let moment = write.moment.map(|moment| moment.to_string()).unwrap_or_default();
        let (version, now) = (version.to_string(), unix_micros().to_string());
        let call = self.client.call();
        // A copy is executed within the time of the call, or nobody hears of it any more.
        let longest = self.client.config().call_timeout().as_micros().to_string();
        let mut earlier: Option<Error> = None;
        let reply = loop {
            let since = if earlier.is_some() { longest.as_str() } else { "" };
            let arguments = [
                write.json.as_deref().unwrap_or_default(),
                ttl.as_bytes(),
                record_ttl.as_bytes(),
                condition.as_bytes(),
                version.as_bytes(),
                moment.as_bytes(),
                now.as_bytes(),
                write.name.as_bytes(),
                since.as_bytes(),
            ];
            let superseded = write.supersedes.iter().map(String::as_bytes);
            let arguments: Vec<_> = arguments.into_iter().chain(superseded).collect();
            let outcome = WRITE.run(call, OnLostReply::Report, &[&session, &record], &arguments).await;
            match (outcome, earlier) {
                (Err(error), _) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                    earlier = Some(error);
                }
                // What refuses this copy says nothing of the one before.
                (Err(_), Some(unknown)) => break Err(unknown),
                (Ok(Reply::Bytes(text)), Some(unknown)) if text == UNCLEAR.as_bytes() => break Err(unknown),
                (outcome, _) => break outcome,
            }
        };
        let version = reply.and_then(number).map_err(|error| error.about(&session))?;
        Ok((version > 0).then_some(version))
    }

    async fn touch(&self, user_id: &str, ttl: Millis) -> Result<bool> {
        let session = self.keys.session(user_id)?;
        let keys = [session.as_str(), &self.keys.record(&session)];
        let (ttl, record_ttl) = (ttl.get().to_string(), record_ttl(ttl).get().to_string());
        let arguments = [ttl.as_bytes(), record_ttl.as_bytes()];
        let reply = TOUCH.run(self.client.call(), OnLostReply::Repeat, &keys, &arguments).await;
        Ok(reply.and_then(Reply::into_int).map_err(|error| error.about(&session))? == 1)
    }

    async fn time(&self) -> Result<u64> {
        match self.client.call().command(Command::new("TIME").reads()).await {
            Ok(reply) => {
                let parts = reply.into_list()?.into_iter().map(number).collect::<Result<Vec<_>>>()?;
                Ok(parts.first().unwrap_or(&0) * 1_000_000 + parts.get(1).unwrap_or(&0))
            }
            // Its scripts then take the caller's time too.
            Err(error) if error.kind() == ErrorKind::NoPermission => Ok(unix_micros()),
            Err(error) => Err(error),
        }
    }
}
