//! Sagas on a Redis server: one script a write, no WATCH. In a cluster where state and index lie apart, the script
//! writes the state alone, between two steps about the index.

use std::sync::Arc;

use async_trait::async_trait;

use super::index::IndexChange;
use super::{
    CorrelationIds, Envelope, Expect, SagaStore, Write, Written, correlation_id_of, no_correlation_id,
};
use crate::connection::client::{Call, Client};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{Fence, Guard};
use crate::key::SagaKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static WRITE: Script = Script::new(include_str!("lua/write_saga.lua"));
static REPLACE: Script = Script::new(include_str!("lua/replace_saga.lua"));

/// Sagas on one server.
#[derive(Clone)]
pub struct RedisSagas {
    pub(super) client: Arc<Client>,
    pub(super) keys: SagaKeys,
    pub(super) correlation_ids: CorrelationIds,
    fence: Option<Fence>,
}

impl RedisSagas {
    /// Sagas with these keys.
    pub fn new(client: Arc<Client>, keys: SagaKeys) -> Self {
        Self { client, keys, correlation_ids: CorrelationIds::new(), fence: None }
    }

    pub(super) fn guard(&self, state: &str, ttl: Option<Millis>) -> Option<Guard> {
        self.fence.map(|fence| fence.guard([state.to_owned()], |state| self.keys.fence(state), ttl))
    }

    pub(super) async fn get(&self, call: Call<'_>, key: &str) -> Result<Option<Vec<u8>>> {
        call.command(Command::new("GET").arg(key).reads())
            .await
            .and_then(Reply::into_bytes)
            .map_err(|error| error.about(key))
    }

    pub(super) async fn look_up(
        &self,
        call: Call<'_>,
        saga_name: &str,
        index: &str,
    ) -> Result<Option<String>> {
        let Some(stored) = self.get(call, index).await? else { return Ok(None) };
        correlation_id_of(&self.keys, saga_name, index, &stored).map(Some)
    }

    /// One attempt under a known correlation id. `outdated` is `=` and the content of an index that may be overwritten.
    async fn attempt(
        &self,
        call: Call<'_>,
        write: &Write,
        correlation_id: &str,
        outdated: &str,
    ) -> Result<Vec<Reply>> {
        let state = self.keys.state(&write.saga_name, correlation_id)?;
        let index = self.keys.index(&write.saga_name, &write.saga_id)?;
        let keys = [state.as_str(), index.as_str()];
        if self.client.reaches_at_once(keys) {
            let expect = match write.expect {
                Expect::Absent => "absent",
                Expect::Version(_) => "version",
                Expect::AbsentOrVersion(_) => "either",
            };
            return self.write_state(call, write, correlation_id, outdated, &keys, expect).await;
        }
        Box::pin(self.attempt_in_steps(call, write, correlation_id, outdated, keys)).await
    }

    pub(super) async fn exists(&self, call: Call<'_>, key: &str) -> Result<bool> {
        let exists = call.command(Command::new("EXISTS").arg(key).reads()).await;
        exists.map(|reply| reply == Reply::Int(1)).map_err(|error| error.about(key))
    }

    /// Writes the state, and the index if it is among the keys.
    pub(super) async fn write_state(
        &self,
        call: Call<'_>,
        write: &Write,
        correlation_id: &str,
        outdated: &str,
        keys: &[&str],
        expect: &str,
    ) -> Result<Vec<Reply>> {
        let version = match write.expect {
            Expect::Absent => 0.0,
            Expect::Version(version) | Expect::AbsentOrVersion(version) => version,
        };
        let version = version.to_string();
        let ttl = write.ttl.map_or(0, |ttl| ttl.get()).to_string();
        let mut arguments = [
            expect.as_bytes(),
            write.saga_id.as_bytes(),
            correlation_id.as_bytes(),
            version.as_bytes(),
            &write.json,
            write.json_if_absent.as_deref().unwrap_or_default(),
            ttl.as_bytes(),
            b"0",
            outdated.as_bytes(),
        ];
        let guard = self.guard(keys[0], write.ttl);
        let guard = guard.as_ref();
        let first = WRITE.run_under(guard, call, OnLostReply::Report, keys, &arguments).await;
        let reply = match first {
            // Told that it may have happened already, the script can tell our write from another's.
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                arguments[7] = b"1";
                let again = WRITE.run_under(guard, call, OnLostReply::Repeat, keys, &arguments).await;
                match again.and_then(Reply::into_list) {
                    Ok(words) if !surpassed(&words, &write.json, keys[0]) => Ok(words),
                    _ => Err(error),
                }
            }
            outcome => outcome.and_then(Reply::into_list),
        };
        reply.map_err(|error| error.about(keys[0]))
    }

    /// What the script could not decide because it cannot read the stored JSON.
    async fn write_over_opaque(
        &self,
        call: Call<'_>,
        write: &Write,
        correlation_id: &str,
        stored: &[u8],
    ) -> Result<Option<Written>> {
        let state = self.keys.state(&write.saga_name, correlation_id)?;
        let envelope = Envelope::read(stored, &state)?;
        let expected = match write.expect {
            Expect::Absent => return Ok(Some(Written::Exists)),
            Expect::Version(_) if !envelope.is_of(&write.saga_id) => return Ok(Some(Written::Missing)),
            Expect::AbsentOrVersion(_) if !envelope.is_of(&write.saga_id) => {
                return Ok(Some(Written::Exists));
            }
            Expect::Version(version) | Expect::AbsentOrVersion(version) => version,
        };
        let actual = envelope.version();
        if actual != expected {
            return Ok(Some(Written::Conflict { actual }));
        }
        let index = self.keys.index(&write.saga_name, &write.saga_id)?;
        let keys = [state.as_str(), &index];
        let together = self.client.reaches_at_once(keys);
        let keys = if together { &keys[..] } else { &keys[..1] };
        let replaced = self.replace(call, keys, stored, correlation_id, write).await?;
        if replaced && !together {
            let change = IndexChange::new(call, &self.keys, &index, correlation_id);
            change.follow(write.ttl, "").await;
        }
        Ok(replaced.then_some(Written::Updated))
    }

    /// `false` if the state is another by now.
    async fn replace(
        &self,
        call: Call<'_>,
        keys: &[&str],
        stored: &[u8],
        correlation_id: &str,
        write: &Write,
    ) -> Result<bool> {
        let digest = sha1_smol::Sha1::from(stored).digest().to_string();
        let guard = self.guard(keys[0], write.ttl);
        let guard = guard.as_ref();
        let ttl = write.ttl.map_or(0, |ttl| ttl.get()).to_string();
        let mut arguments = [digest.as_bytes(), correlation_id.as_bytes(), &write.json, ttl.as_bytes(), b"0"];
        let first = REPLACE.run_under(guard, call, OnLostReply::Report, keys, &arguments).await;
        let reply = match first {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                arguments[4] = b"1";
                match REPLACE.run_under(guard, call, OnLostReply::Repeat, keys, &arguments).await {
                    Ok(Reply::Int(1)) => Ok(Reply::Int(1)),
                    // Replaced by the first attempt and changed since, or changed before it: nobody can tell.
                    _ => Err(error),
                }
            }
            outcome => outcome,
        };
        reply.and_then(Reply::into_int).map(|done| done == 1).map_err(|error| error.about(keys[0]))
    }

    /// Whether an index still leads to a state of the saga.
    async fn index_holds(&self, call: Call<'_>, write: &Write, correlation_id: &str) -> Result<bool> {
        let state = self.keys.state(&write.saga_name, correlation_id)?;
        let Some(stored) = self.get(call, &state).await? else { return Ok(false) };
        Ok(Envelope::read(&stored, &state)?.is_of(&write.saga_id))
    }
}

/// Whether a repetition found a version beyond the one that it writes: then the first attempt may have happened, and
/// others have gone on from there, so that a conflict would deny it.
fn surpassed(words: &[Reply], json: &[u8], state: &str) -> bool {
    let [Reply::Bytes(outcome), Reply::Bytes(actual)] = words else { return false };
    let actual = std::str::from_utf8(actual).ok().and_then(|text| text.parse::<f64>().ok());
    let written = Envelope::read(json, state).map(|envelope| envelope.version());
    outcome == b"conflict" && actual.zip(written.ok()).is_none_or(|(actual, written)| actual > written)
}

#[async_trait]
impl SagaStore for RedisSagas {
    fn under(&self, fence: Fence) -> Arc<dyn SagaStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        self.client.ping().await
    }

    async fn write(&self, write: &Write) -> Result<Written> {
        let call = self.client.call();
        let index = self.keys.index(&write.saga_name, &write.saga_id)?;
        let known = write.correlation_id.clone().or_else(|| self.correlation_ids.recall(&index));
        let mut correlation_id = match known {
            Some(known) => known,
            None => match (self.look_up(call, &write.saga_name, &index).await?, write.expect) {
                (Some(found), _) => found,
                (None, Expect::Version(_)) => return Ok(Written::Missing),
                (None, _) => return Err(no_correlation_id(&write.saga_id)),
            },
        };
        let mut outdated = String::new();
        loop {
            let reply = self.attempt(call, write, &correlation_id, &outdated).await?;
            let mut words = reply.into_iter();
            let outcome = words.next().map(Reply::into_bytes).transpose()?.flatten().unwrap_or_default();
            let detail = words.next().map(Reply::into_bytes).transpose()?.flatten().unwrap_or_default();
            let written = match outcome.as_slice() {
                b"updated" => Written::Updated,
                b"inserted" => Written::Inserted,
                b"exists" => Written::Exists,
                b"missing" => Written::Missing,
                b"conflict" => {
                    let actual = String::from_utf8_lossy(&detail).parse().unwrap_or(-1.0);
                    Written::Conflict { actual }
                }
                b"opaque" => {
                    match Box::pin(self.write_over_opaque(call, write, &correlation_id, &detail)).await? {
                        Some(written) => written,
                        None => continue,
                    }
                }
                b"indexed" => {
                    let indexed = correlation_id_of(&self.keys, &write.saga_name, &index, &detail)?;
                    if !self.index_holds(call, write, &indexed).await? {
                        // Its state expired or was evicted before it.
                        outdated = format!("={indexed}");
                        continue;
                    }
                    if write.correlation_id.is_some() {
                        self.correlation_ids.remember(&index, &indexed);
                        return Ok(match write.expect {
                            Expect::Version(_) => Written::Missing,
                            _ => Written::Exists,
                        });
                    }
                    // What we remembered is out of date.
                    correlation_id = indexed;
                    continue;
                }
                other => {
                    let text = format!("unexpected outcome {:?} of a script", String::from_utf8_lossy(other));
                    return Err(Error::new(ErrorKind::Server, text));
                }
            };
            match written {
                Written::Updated | Written::Inserted => {
                    self.correlation_ids.remember(&index, &correlation_id)
                }
                Written::Missing => self.correlation_ids.forget(&index),
                Written::Exists | Written::Conflict { .. } => {}
            }
            return Ok(written);
        }
    }

    async fn by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<Option<Vec<u8>>> {
        let state = self.keys.state(saga_name, correlation_id)?;
        let stored = self.get(self.client.call(), &state).await?;
        if let Some(json) = &stored
            && let Some(saga_id) = Envelope::read(json, &state)?.saga_id()
            && let Ok(index) = self.keys.index(saga_name, saga_id)
        {
            self.correlation_ids.remember(&index, correlation_id);
        }
        Ok(stored)
    }

    async fn by_id(&self, saga_name: &str, saga_id: &str) -> Result<Option<Vec<u8>>> {
        let call = self.client.call();
        let index = self.keys.index(saga_name, saga_id)?;
        let Some(correlation_id) = self.look_up(call, saga_name, &index).await? else { return Ok(None) };
        let state = self.keys.state(saga_name, &correlation_id)?;
        let Some(stored) = self.get(call, &state).await? else { return Ok(None) };
        if !Envelope::read(&stored, &state)?.is_of(saga_id) {
            return Ok(None);
        }
        self.correlation_ids.remember(&index, &correlation_id);
        Ok(Some(stored))
    }

    async fn delete(&self, saga_name: &str, id: &str) -> Result<bool> {
        let call = self.client.call();
        Ok(self.delete_indexed(call, saga_name, id).await?
            || self.delete_stored(call, saga_name, id, None).await?)
    }

    async fn delete_by_id(&self, saga_name: &str, saga_id: &str) -> Result<bool> {
        self.delete_indexed(self.client.call(), saga_name, saga_id).await
    }

    async fn delete_by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<bool> {
        self.delete_stored(self.client.call(), saga_name, correlation_id, None).await
    }
}
