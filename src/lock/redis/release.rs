//! Releases: alone or with others, and again where the reply was lost.

use futures_util::future::join_all;
use rustc_hash::{FxBuildHasher, FxHashSet};

use super::RedisLocks;
use super::bulk::{complete, may_concern_one, release_all};
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::lock::{LockStore, Ownership, Release};
use crate::script::{OnLostReply, REQUEST_KEPT, Script, request_id};

static RELEASE: Script = Script::new(include_str!("../lua/release_lock.lua"));

/// What `release_lock.lua` answers of a repetition that cannot tell.
const UNCLEAR: i64 = -1;
/// What `release_locks.lua` answers of a lock that must be released alone.
const ALONE: i64 = -1;

/// What a release leaves or looks for on the server, because a copy of it may have been sent.
enum Trace<'key> {
    None,
    /// Of somebody who released the lock by force.
    Forced(&'key str),
    /// Of the release itself.
    Note(&'key str),
}

async fn run_release(
    call: Call<'_>,
    lock: &str,
    trace: Trace<'_>,
    token: &str,
    on_lost_reply: OnLostReply,
) -> Result<Reply> {
    let channel = LockKeys::announced(lock);
    let note_kept;
    let (keys, kept): (&[&str], _) = match &trace {
        Trace::None => (&[lock], ""),
        Trace::Forced(key) => (&[lock, key], ""),
        Trace::Note(key) => {
            note_kept = REQUEST_KEPT.get().to_string();
            (&[lock, key], note_kept.as_str())
        }
    };
    let arguments = [token, &channel.name, call.client().sharded_name(&channel), kept].map(str::as_bytes);
    RELEASE.run(call, on_lost_reply, keys, &arguments).await
}

/// The answer of a script that changes a lock that must be held under a token.
pub(super) fn ownership(reply: Reply) -> Result<Ownership> {
    match reply {
        Reply::Int(1) => Ok(Ownership::Ours),
        Reply::Int(_) => Ok(Ownership::Expired),
        reply => Ok(Ownership::Taken(reply.into_bytes()?.unwrap_or_default())),
    }
}

/// Whether a lock is released twice: the second time it is not held any more.
fn any_twice(releases: &[(String, String)]) -> bool {
    let mut seen = FxHashSet::with_capacity_and_hasher(releases.len(), FxBuildHasher);
    releases.iter().any(|(key, _)| !seen.insert(key.as_str()))
}

impl RedisLocks {
    /// Frees a lock. Where the reply is lost, again.
    pub(super) async fn release_alone(&self, call: Call<'_>, key: &str, token: &str) -> Result<Release> {
        let lock = self.keys.lock(key)?;
        match run_release(call, &lock, Trace::None, token, OnLostReply::Report).await {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                self.release_again(call, key, &lock, token, error).await
            }
            reply => {
                let answered = reply.and_then(ownership).map(Release::Answered);
                answered.map_err(|error| error.about(&lock))
            }
        }
    }

    /// Frees a lock, and leaves a note of it for the case that the reply is lost.
    pub(super) async fn release_noted(&self, key: &str, token: &str) -> Result<Release> {
        let (lock, note) = (self.keys.lock(key)?, self.keys.request(key, &request_id()));
        let (call, trace) = (self.client.call(), Trace::Note(&note));
        let reply = run_release(call, &lock, trace, token, OnLostReply::Repeat).await;
        reply.and_then(ownership).map(Release::Answered).map_err(|error| error.about(&lock))
    }

    /// Frees several locks. Where the reply is lost, each again.
    pub(super) async fn release_together(&self, all: &[(String, String)]) -> Vec<Result<Release>> {
        let call = self.client.call();
        let locks: Result<Vec<_>> = all.iter().map(|(key, _)| self.keys.lock(key)).collect();
        let together = all.len() > 1 && self.gains_by_rounds() && !any_twice(all);
        let each_alone =
            async || join_all(all.iter().map(|(key, token)| self.release_alone(call, key, token))).await;
        let (true, Ok(locks)) = (together, locks) else { return each_alone().await };
        let tokens: Vec<_> = all.iter().map(|(_, token)| token.as_str()).collect();
        match release_all(call, &locks, &tokens).await {
            Ok(None) => all.iter().map(|_| Ok(Release::Answered(Ownership::Ours))).collect(),
            Ok(Some(replies)) => {
                let answers = replies.into_iter().map(|reply| match reply {
                    Reply::Int(ALONE) => None,
                    reply => Some(ownership(reply).map(Release::Answered)),
                });
                let answers = answers.collect();
                complete(answers, all, |(key, token)| Box::pin(self.release_alone(call, key, token))).await
            }
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown => {
                let again = all
                    .iter()
                    .zip(&locks)
                    .map(|((key, token), lock)| self.release_again(call, key, lock, token, error.clone()));
                join_all(again).await
            }
            Err(error) if may_concern_one(&error) && call.has_time_left() => each_alone().await,
            Err(error) => locks.iter().map(|lock| Err(error.clone().about(lock))).collect(),
        }
    }

    async fn release_again(
        &self,
        call: Call<'_>,
        key: &str,
        lock: &str,
        token: &str,
        unknown: Error,
    ) -> Result<Release> {
        let unknown = unknown.about(lock);
        if !call.has_time_left() {
            return Err(unknown);
        }
        let forced = self.keys.forced(key);
        match run_release(call, lock, Trace::Forced(&forced), token, OnLostReply::Repeat).await {
            Ok(Reply::Int(UNCLEAR)) => Ok(Release::Unclear(unknown)),
            Ok(reply) => ownership(reply).map(Release::Answered),
            Err(_) => Err(unknown),
        }
    }
}
