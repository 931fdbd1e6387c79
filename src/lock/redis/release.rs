//! Releases: alone or with others, and again where the reply was lost.

use std::sync::Arc;

use super::RedisLocks;
use super::bulk::{ALONE, OneRelease, release_all};
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::key::LockKeys;
use crate::lock::{Ownership, Release};
use crate::script::{OnLostReply, Script};

static RELEASE: Script = Script::new(include_str!("../lua/release_lock.lua"));

/// What `release_lock.lua` answers of a repetition that cannot tell.
const UNCLEAR: i64 = -1;

/// Sends one release. Only a repetition that wants to know what it finds looks at the key `forced`.
pub(super) async fn run_release(
    call: Call<'_>,
    lock: &str,
    forced: Option<&str>,
    token: &str,
    on_lost_reply: OnLostReply,
) -> Result<Reply> {
    let channel = LockKeys::released(lock);
    let keys = [lock, forced.unwrap_or_default()];
    let keys = if forced.is_some() { &keys[..] } else { &keys[..1] };
    RELEASE.run(call, on_lost_reply, keys, &[token.as_bytes(), channel.as_bytes()]).await
}

/// The answer of a script that changes a lock that must be held under a token.
pub(super) fn ownership(reply: Reply) -> Result<Ownership> {
    match reply {
        Reply::Int(1) => Ok(Ownership::Ours),
        Reply::Int(_) => Ok(Ownership::Expired),
        reply => Ok(Ownership::Taken(reply.into_bytes()?.unwrap_or_default())),
    }
}

impl RedisLocks {
    /// Frees a lock. Where the reply is lost, again.
    pub(super) async fn release_until_answered(&self, key: &str, token: &str) -> Result<Release> {
        let lock = self.keys.lock(key)?;
        let call = self.client.call();
        let mut first = Ok(Reply::Int(ALONE));
        if !self.client.is_cluster() {
            let one = OneRelease { lock: lock.clone(), token: token.to_owned() };
            let client = Arc::clone(&self.client);
            first = self.releases.ask(one, move |all| release_all(Arc::clone(&client), all)).await;
        }
        if first == Ok(Reply::Int(ALONE)) {
            first = run_release(call, &lock, None, token, OnLostReply::Report).await;
        }
        let unknown = match first {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                error.about(&lock)
            }
            reply => {
                let answered = reply.and_then(ownership).map(Release::Answered);
                return answered.map_err(|error| error.about(&lock));
            }
        };
        let forced = self.keys.forced(key);
        match run_release(call, &lock, Some(&forced), token, OnLostReply::Repeat).await {
            Ok(Reply::Int(UNCLEAR)) => Ok(Release::Unclear(unknown)),
            Ok(reply) => ownership(reply).map(Release::Answered),
            Err(_) => Err(unknown),
        }
    }
}
