//! Several attempts or releases in one script: most of what a small script costs a server is to be called.

use futures_util::future::{BoxFuture, join_all};

use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::lock::Claim;
use crate::script::{OnLostReply, Script};
use crate::time::unix_micros;

static ACQUIRE_MANY: Script = Script::new(include_str!("../lua/acquire_locks.lua"));
static RELEASE_MANY: Script = Script::new(include_str!("../lua/release_locks.lua"));

/// Sends attempts to take these locks. A reply of nothing: that attempt must be made alone.
pub async fn attempt_all(
    call: Call<'_>,
    keys: &LockKeys,
    locks: &[String],
    claims: &[Claim],
) -> Result<Vec<Reply>> {
    let Some(first) = claims.first() else { return Ok(Vec::new()) };
    let counter = keys.fence_counter(&first.key);
    let floor = claims.iter().map(|claim| claim.floor).max().unwrap_or_default().to_string();
    let micros = unix_micros().to_string();
    let ttls: Vec<_> = claims.iter().map(|claim| claim.ttl.get().to_string()).collect();
    let tombstones: Vec<_> = claims.iter().map(|claim| keys.tombstone(&claim.key, &claim.id)).collect();
    let keys: Vec<_> = [counter.as_str()]
        .into_iter()
        .chain(locks.iter().zip(&tombstones).flat_map(|(lock, tombstone)| [lock.as_str(), tombstone]))
        .collect();
    let arguments: Vec<_> = [floor.as_bytes(), micros.as_bytes()]
        .into_iter()
        .chain(claims.iter().zip(&ttls).flat_map(|(claim, ttl)| [claim.id.as_bytes(), ttl.as_bytes()]))
        .collect();
    ACQUIRE_MANY.run(call, OnLostReply::Report, &keys, &arguments).await?.into_list()
}

/// Sends releases of these locks, each under its token. A reply of -1: that lock must be released alone.
pub async fn release_all(call: Call<'_>, locks: &[String], tokens: &[&str]) -> Result<Vec<Reply>> {
    let channels: Vec<_> = locks.iter().map(|lock| LockKeys::released(lock)).collect();
    let keys: Vec<_> = locks.iter().map(String::as_str).collect();
    let arguments: Vec<_> = tokens
        .iter()
        .zip(&channels)
        .flat_map(|(token, channel)| [token.as_bytes(), channel.as_bytes()])
        .collect();
    RELEASE_MANY.run(call, OnLostReply::Report, &keys, &arguments).await?.into_list()
}

/// Whether the server refused what was asked together because of one of them, maybe: the right to one key is missing, or
/// there is no room for what only some of them would store.
pub fn may_concern_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NoPermission | ErrorKind::ServerNotReady | ErrorKind::Server)
}

/// Asks alone what was not answered together.
pub async fn complete<'question, Q, A: Send>(
    answers: impl Iterator<Item = Option<A>>,
    questions: &'question [Q],
    ask: impl Fn(&'question Q) -> BoxFuture<'question, A>,
) -> Vec<A> {
    let mut answers: Vec<_> = answers.collect();
    let missing = answers.iter_mut().zip(questions).filter(|(answer, _)| answer.is_none());
    let asking = missing.map(|(answer, question)| {
        let asked = ask(question);
        async move { *answer = Some(asked.await) }
    });
    join_all(asking).await;
    answers.into_iter().flatten().collect()
}
