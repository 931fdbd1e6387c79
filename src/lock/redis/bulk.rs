//! Attempts and releases that were made at the same time, in one script: most of what a small script costs a server is
//! to be called.

use std::sync::Arc;

use crate::connection::client::Client;
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::key::LockKeys;
use crate::lock::Claim;
use crate::script::{OnLostReply, Script};
use crate::time::unix_micros;

static ACQUIRE_MANY: Script = Script::new(include_str!("../lua/acquire_locks.lua"));
static RELEASE_MANY: Script = Script::new(include_str!("../lua/release_locks.lua"));

/// An attempt that may be sent with others.
pub struct OneAttempt {
    pub lock: String,
    pub counter: String,
    pub tombstone: String,
    pub claim: Claim,
}

/// A release that may be sent with others.
pub struct OneRelease {
    pub lock: String,
    pub token: String,
}

/// What `release_locks.lua` answers of a lock that must be released alone.
pub const ALONE: i64 = -1;

/// Sends attempts that were made at the same time. One alone has nothing to share.
pub async fn attempt_all(client: Arc<Client>, all: Vec<OneAttempt>) -> Result<Vec<Reply>> {
    let [first, _, ..] = all.as_slice() else { return Ok(vec![Reply::Nil; all.len()]) };
    let floor = all.iter().map(|one| one.claim.floor).max().unwrap_or_default().to_string();
    let micros = unix_micros().to_string();
    let ttls: Vec<_> = all.iter().map(|one| one.claim.ttl.get().to_string()).collect();
    let mut keys = vec![first.counter.as_str()];
    let mut arguments = vec![floor.as_bytes(), micros.as_bytes()];
    for (one, ttl) in all.iter().zip(&ttls) {
        keys.extend([one.lock.as_str(), &one.tombstone]);
        arguments.extend([one.claim.id.as_bytes(), ttl.as_bytes()]);
    }
    ACQUIRE_MANY.run(client.call(), OnLostReply::Report, &keys, &arguments).await?.into_list()
}

/// Sends releases that were asked for at the same time.
pub async fn release_all(client: Arc<Client>, all: Vec<OneRelease>) -> Result<Vec<Reply>> {
    if all.len() < 2 {
        return Ok(vec![Reply::Int(ALONE); all.len()]);
    }
    let keys: Vec<_> = all.iter().map(|one| one.lock.as_str()).collect();
    let channels: Vec<_> = keys.iter().map(|lock| LockKeys::released(lock)).collect();
    let arguments: Vec<_> = all
        .iter()
        .zip(&channels)
        .flat_map(|(one, channel)| [one.token.as_bytes(), channel.as_bytes()])
        .collect();
    RELEASE_MANY.run(client.call(), OnLostReply::Report, &keys, &arguments).await?.into_list()
}
