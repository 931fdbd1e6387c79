//! Locks on a Redis server: a string that holds the owner's token, and a few keys of our own beside the locks.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_trait::async_trait;

use super::{
    Attempt, Claim, Extent, Inspection, Listed, LockStore, Ownership, Page, Release, ReleaseWatch,
    STRAY_ATTEMPT,
};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::pubsub::Subscription;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::script::{OnLostReply, REQUEST_KEPT, Script, request_id};
use crate::time::Millis;

mod acquire;
mod bulk;
mod release;

use release::ownership;

static WITHDRAW: Script = Script::new(include_str!("lua/withdraw_claim.lua"));
static EXTEND: Script = Script::new(include_str!("lua/extend_lock.lua"));
static INSPECT: Script = Script::new(include_str!("lua/inspect_lock.lua"));
static FORCE_RELEASE: Script = Script::new(include_str!("lua/force_release.lua"));

/// Locks on one server.
pub struct RedisLocks {
    client: Arc<Client>,
    keys: LockKeys,
    /// Until when there may be tombstones, in milliseconds since boot.
    tombstones_until: AtomicU64,
}

impl RedisLocks {
    /// Locks with these keys.
    pub fn new(client: Arc<Client>, keys: LockKeys) -> Self {
        Self { client, keys, tombstones_until: AtomicU64::new(0) }
    }
}

/// Milliseconds as `PTTL` answers: negative for none.
fn ttl_left(pttl: i64) -> Option<Millis> {
    u64::try_from(pttl).ok().map(Millis::new)
}

#[async_trait]
impl LockStore for RedisLocks {
    async fn try_acquire(&self, claim: &Claim) -> Result<Attempt> {
        self.acquire_alone(self.client.call(), claim, None).await
    }

    fn gains_by_rounds(&self) -> bool {
        !self.client.is_cluster()
    }

    async fn try_acquire_all(&self, claims: &[Claim]) -> Vec<Result<Attempt>> {
        self.acquire_together(claims).await
    }

    async fn release(&self, key: &str, token: &str) -> Result<Release> {
        self.release_alone(self.client.call(), key, token).await
    }

    async fn release_from_elsewhere(&self, key: &str, token: &str) -> Result<Release> {
        self.release_noted(key, token).await
    }

    async fn release_all(&self, locks: &[(String, String)]) -> Vec<Result<Release>> {
        self.release_together(locks).await
    }

    async fn withdraw(&self, key: &str, claim: &str) -> Result<()> {
        let lock = self.keys.lock(key)?;
        let (tombstone, any_tombstone) = (self.keys.tombstone(key, claim), self.keys.any_tombstone(key));
        let (queue, leases) = (self.keys.queue(key), self.keys.leases(key));
        let channel = LockKeys::announced(&lock);
        let sharded = self.client.sharded_name(&channel);
        let stray = STRAY_ATTEMPT.get().to_string();
        let arguments = [claim, &channel.name, &stray, sharded].map(str::as_bytes);
        let keys = [lock.as_str(), &tombstone, &queue, &leases, &any_tombstone];
        let reply = WITHDRAW.run(self.client.call(), OnLostReply::Repeat, &keys, &arguments).await;
        reply.map(drop).map_err(|error| error.about(&lock))
    }

    async fn extend(&self, key: &str, token: &str, ttl: Millis, extent: Extent) -> Result<Ownership> {
        let lock = self.keys.lock(key)?;
        let ttl = ttl.get().to_string();
        let (keep_longer, on_lost_reply): (&[u8], _) = match extent {
            Extent::Exact => (b"0", OnLostReply::Repeat),
            Extent::ExactOnce => (b"0", OnLostReply::Report),
            Extent::AtLeast => (b"1", OnLostReply::Repeat),
        };
        let arguments = [token.as_bytes(), ttl.as_bytes(), keep_longer];
        let reply = EXTEND
            .run(self.client.call(), on_lost_reply, &[&lock], &arguments)
            .await
            .map_err(|error| error.about(&lock))?;
        ownership(reply)
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        let reply = self.client.call().command(Command::new("EXISTS").arg(&lock).reads()).await?;
        Ok(reply.into_int()? == 1)
    }

    async fn inspect(&self, key: &str) -> Result<Inspection> {
        let lock = self.keys.lock(key)?;
        let (queue, channel) = (self.keys.queue(key), LockKeys::announced(&lock));
        let arguments = [&channel.name, self.client.sharded_name(&channel)].map(str::as_bytes);
        let reply = INSPECT
            .run(self.client.call(), OnLostReply::Read, &[&lock, &queue], &arguments)
            .await
            .map_err(|error| error.about(&lock))?;
        let [holder, pttl, queued, mut listening, near] =
            reply.into_list()?.try_into().map_err(|_| unexpected())?;
        if self.client.is_cluster() {
            // A server counts only those who listen at itself, and they listen at any. Without the right to ask, none.
            let count = Command::new("PUBSUB").arg("NUMSUB").arg(&channel.name).reads();
            let counts = self.client.call().command(count).await.and_then(Reply::into_list);
            listening = counts.ok().and_then(|counts| counts.into_iter().nth(1)).unwrap_or(Reply::Int(0));
        }
        Ok(Inspection {
            holder: holder.into_bytes()?,
            ttl_left: ttl_left(pttl.into_int()?),
            queued: queued.into_int()?.unsigned_abs(),
            listening: listening.into_int()?.unsigned_abs() + near.into_int()?.unsigned_abs(),
        })
    }

    async fn force_release(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let lock = self.keys.lock(key)?;
        let (channel, request) = (LockKeys::announced(&lock), self.keys.request(key, &request_id()));
        let forced = self.keys.forced(key);
        let kept = REQUEST_KEPT.get().to_string();
        let arguments = [&channel.name, &kept, self.client.sharded_name(&channel)].map(str::as_bytes);
        // A second copy frees nothing: by then the lock may be somebody else's.
        let reply = FORCE_RELEASE
            .run(self.client.call(), OnLostReply::Repeat, &[&lock, &request, &forced], &arguments)
            .await
            .map_err(|error| error.about(&lock))?;
        reply.into_bytes()
    }

    async fn list_changes(&self, held: &[(String, u64)], ended: &[(String, u64)]) -> Result<()> {
        let index = self.keys.index();
        let mut commands = Vec::new();
        if !held.is_empty() {
            let mut add = Command::new("ZADD").arg(&index);
            for (key, fence) in held {
                add = add.number(*fence).arg(key);
            }
            commands.push(add.repeatable());
        }
        // By fence and not by key: the same lock may be in the list again, with another one.
        commands.extend(ended.iter().map(|(_, fence)| without(&index, *fence)));
        let replies = self.client.call().commands(commands).await;
        replies.into_iter().find_map(Result::err).map_or(Ok(()), Err)
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Page> {
        let index = self.keys.index();
        let call = self.client.call();
        let range = Command::new("ZRANGEBYSCORE")
            .arg(&index)
            .arg(format!("({after}"))
            .arg("+inf")
            .arg("WITHSCORES")
            .arg("LIMIT")
            .number(0u64)
            .number(limit as u64);
        let entries = scored(call.command(range.reads()).await?)?;
        let mut questions = Vec::with_capacity(2 * entries.len());
        for (key, _) in &entries {
            let lock = self.keys.lock(key)?;
            questions.push(Command::new("GET").arg(&lock).reads());
            questions.push(Command::new("PTTL").arg(&lock).reads());
        }
        let next = (entries.len() == limit).then(|| entries.last().map(|(_, fence)| *fence)).flatten();
        let mut answers = call.commands(questions).await.into_iter();
        let (mut locks, mut stale) = (Vec::new(), Vec::new());
        for (key, fence) in entries {
            let (Some(holder), Some(pttl)) = (answers.next(), answers.next()) else { break };
            match holder?.into_bytes()? {
                Some(token) => locks.push(Listed { key, token, ttl_left: ttl_left(pttl?.into_int()?) }),
                None => stale.push(without(&index, fence)),
            }
        }
        // Of processes that died. The list is told, and the caller need not wait for it.
        for command in stale {
            self.client.tell(command);
        }
        Ok(Page { locks, next })
    }

    async fn watch(&self, key: &str) -> Result<Box<dyn ReleaseWatch>> {
        let channel = LockKeys::announced(&self.keys.lock(key)?);
        Ok(Box::new(RedisReleaseWatch(self.client.listen(&channel).await?)))
    }
}

fn without(index: &str, fence: u64) -> Command {
    Command::new("ZREMRANGEBYSCORE").arg(index).number(fence).number(fence).repeatable()
}

/// Members and their scores, which come flat in RESP2 and in pairs in RESP3.
fn scored(reply: Reply) -> Result<Vec<(String, u64)>> {
    let flat = reply.into_list()?.into_iter().flat_map(|item| match item {
        Reply::List(pair) => pair,
        single => vec![single],
    });
    let texts = flat
        .map(|item| Ok(String::from_utf8_lossy(&item.into_bytes()?.unwrap_or_default()).into_owned()))
        .collect::<Result<Vec<_>>>()?;
    let (pairs, []) = texts.as_chunks() else { return Err(unexpected()) };
    pairs
        .iter()
        .map(|[member, score]| {
            let score: f64 = score.parse().map_err(|_| unexpected())?;
            Ok((member.clone(), score as u64))
        })
        .collect()
}

fn unexpected() -> Error {
    Error::new(ErrorKind::Server, "the server answered in an unexpected form")
}

struct RedisReleaseWatch(Subscription);

#[async_trait]
impl ReleaseWatch for RedisReleaseWatch {
    async fn released(&mut self) {
        // A message, a gap that may hide one, or the end of the connection: each is a reason to look.
        if self.0.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
