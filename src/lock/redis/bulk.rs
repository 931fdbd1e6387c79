//! Several attempts or releases in one script: most of what a small script costs a server is to be called.

use std::sync::atomic::Ordering;

use futures_util::future::{BoxFuture, join_all};

use super::acquire::held;
use super::{RedisLocks, unexpected};
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::lock::token::split_claim;
use crate::lock::{Attempt, Claim, LockStore, STRAY_ATTEMPT};
use crate::script::{OnLostReply, Script};
use crate::time::{Millis, since_boot, unix_micros};

static ACQUIRE_MANY: Script = Script::new(include_str!("../lua/acquire_locks.lua"));
static RELEASE_MANY: Script = Script::new(include_str!("../lua/release_locks.lua"));

/// Claims that differ only in their locks and in what they begin with, as those of one program mostly do, each with its
/// place among all.
type Alike<'claims> = Vec<(usize, &'claims Claim)>;

fn alike(claims: &[Claim]) -> Vec<Alike<'_>> {
    fn common(claim: &Claim) -> (Millis, &str) {
        (claim.ttl, split_claim(&claim.id).1)
    }
    let mut groups: Vec<Alike> = Vec::new();
    for (place, claim) in claims.iter().enumerate() {
        let is_like =
            |group: &&mut Alike| group.first().is_some_and(|(_, first)| common(first) == common(claim));
        match groups.iter_mut().find(is_like) {
            Some(group) => group.push((place, claim)),
            None => groups.push(vec![(place, claim)]),
        }
    }
    groups
}

impl RedisLocks {
    /// Makes attempts at the same time, each for itself, and answers in their order.
    pub(super) async fn acquire_together(&self, claims: &[Claim]) -> Vec<Result<Attempt>> {
        let call = self.client.call();
        let groups = alike(claims);
        let asking = groups.iter().map(async |group| {
            let claims: Vec<_> = group.iter().map(|(_, claim)| *claim).collect();
            let answers = self.acquire_alike(call, &claims).await;
            group.iter().map(|(place, _)| *place).zip(answers).collect::<Vec<_>>()
        });
        let mut answers: Vec<_> = join_all(asking).await.into_iter().flatten().collect();
        answers.sort_by_key(|(place, _)| *place);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    async fn acquire_alike(&self, call: Call<'_>, claims: &[&Claim]) -> Vec<Result<Attempt>> {
        let each_alone =
            async || join_all(claims.iter().map(|claim| self.acquire_alone(call, claim, None))).await;
        let locks: Result<Vec<_>> = claims.iter().map(|claim| self.keys.lock(&claim.key)).collect();
        let together = claims.len() > 1 && self.gains_by_rounds();
        let (true, Ok(locks)) = (together, locks) else { return each_alone().await };
        match self.attempt_all(call, claims, &locks).await {
            Ok(Some(answers)) => {
                complete(answers, claims, |claim| Box::pin(self.acquire_alone(call, claim, None))).await
            }
            Ok(None) => each_alone().await,
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                let again = claims.iter().map(|&claim| {
                    let repetition = Claim { repetition: claim.repetition + 1, ..claim.clone() };
                    let unknown = Some(error.clone());
                    async move { self.acquire_alone(call, &repetition, unknown).await }
                });
                join_all(again).await
            }
            Err(error) if may_concern_one(&error) && call.has_time_left() => each_alone().await,
            Err(error) => locks.iter().map(|lock| Err(error.clone().about(lock))).collect(),
        }
    }

    /// Sends attempts in one script. `None` for one that must be made alone, or for all of them.
    async fn attempt_all(
        &self,
        call: Call<'_>,
        claims: &[&Claim],
        locks: &[String],
    ) -> Result<Option<Vec<Option<Result<Attempt>>>>> {
        let mut reply = Reply::Nil;
        if since_boot().get() >= self.tombstones_until.load(Ordering::Relaxed) {
            reply = self.send_attempts(call, claims, locks, false).await?;
            if matches!(reply, Reply::Nil) {
                let until = since_boot().get() + STRAY_ATTEMPT.get();
                self.tombstones_until.store(until, Ordering::Relaxed);
            }
        }
        if matches!(reply, Reply::Nil) {
            reply = self.send_attempts(call, claims, locks, true).await?;
        }
        if matches!(reply, Reply::Nil) {
            return Ok(None);
        }
        let mut answers = reply.into_list()?.into_iter();
        let mut number = || answers.next().ok_or_else(unexpected).and_then(Reply::into_int);
        let (acquired_at, mut fence) = (number()?, number()?.cast_unsigned());
        let ending = format!(":{acquired_at}:");
        let mut grant = |claim: &Claim| {
            let token = [claim.id.as_str(), &ending, &fence.to_string()].concat();
            let granted = Attempt::Granted { token, fence };
            fence += 1;
            Some(Ok(granted))
        };
        if answers.len() == 0 {
            return Ok(Some(claims.iter().map(|claim| grant(claim)).collect()));
        }
        let answers = answers.zip(claims).map(|(reply, claim)| match reply {
            Reply::Int(_) => grant(claim),
            Reply::List(parts) => match held(parts) {
                // Our own, from an attempt whose answer was lost.
                Ok(Attempt::Held { holder: Some(holder), .. }) if is_of(&holder, claim) => None,
                answer => Some(answer),
            },
            _ => None,
        });
        Ok(Some(answers.collect()))
    }

    async fn send_attempts(
        &self,
        call: Call<'_>,
        claims: &[&Claim],
        locks: &[String],
        with_tombstones: bool,
    ) -> Result<Reply> {
        let Some(first) = claims.first() else { return Err(unexpected()) };
        let (counter, any) = (self.keys.fence_counter(&first.key), self.keys.any_tombstone(&first.key));
        let tombstones: Vec<_> = claims
            .iter()
            .filter(|_| with_tombstones)
            .map(|claim| self.keys.tombstone(&claim.key, &claim.id))
            .collect();
        let keys: Vec<_> = [counter.as_str(), &any]
            .into_iter()
            .chain(locks.iter().chain(&tombstones).map(String::as_str))
            .collect();
        let floor = claims.iter().map(|claim| claim.floor).max().unwrap_or_default().to_string();
        let (micros, ttl) = (unix_micros().to_string(), first.ttl.get().to_string());
        let arguments: Vec<_> = [floor.as_str(), &micros, &ttl, split_claim(&first.id).1]
            .into_iter()
            .chain(claims.iter().map(|claim| split_claim(&claim.id).0))
            .map(str::as_bytes)
            .collect();
        ACQUIRE_MANY.run(call, OnLostReply::Report, &keys, &arguments).await
    }
}

fn is_of(token: &[u8], claim: &Claim) -> bool {
    token.strip_prefix(claim.id.as_bytes()).is_some_and(|rest| rest.starts_with(b":"))
}

/// Sends releases of these locks, of which none is there twice. A reply of -1: that lock must be released alone.
/// `None`: all were held, and are free now.
pub async fn release_all(call: Call<'_>, locks: &[String], tokens: &[&str]) -> Result<Option<Vec<Reply>>> {
    let keys: Vec<_> = locks.iter().map(String::as_str).collect();
    let arguments: Vec<_> =
        [LockKeys::RELEASED].iter().chain(tokens).map(|argument| argument.as_bytes()).collect();
    match RELEASE_MANY.run(call, OnLostReply::Report, &keys, &arguments).await? {
        Reply::Int(_) => Ok(None),
        reply => reply.into_list().map(Some),
    }
}

/// Whether the server refused what was asked together because of one of them, maybe: the right to one key is missing, or
/// there is no room for what only some of them would store.
pub fn may_concern_one(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NoPermission | ErrorKind::ServerNotReady | ErrorKind::Server)
}

/// Asks alone what was not answered together.
pub async fn complete<'question, Q, A: Send>(
    mut answers: Vec<Option<A>>,
    questions: &'question [Q],
    ask: impl Fn(&'question Q) -> BoxFuture<'question, A>,
) -> Vec<A> {
    let missing = answers.iter_mut().zip(questions).filter(|(answer, _)| answer.is_none());
    let asking = missing.map(|(answer, question)| {
        let asked = ask(question);
        async move { *answer = Some(asked.await) }
    });
    join_all(asking).await;
    answers.into_iter().flatten().collect()
}
