//! `NativeLocks`: the lock engine as TypeScript holds it.

use std::sync::Arc;

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, answer_later, done, fence, millis, thrown};
use super::bound::{Arguments, bound};
use super::connection::NativeConnection;
use super::handle::{Held, closed_error};
use super::hold::NativeHold;
use crate::error::{Error, Result};
use crate::key::{LockKeys, check_name};
use crate::lock::acquire::{Acquisition, Request, acquire_then};
use crate::lock::engine::Locks;
use crate::lock::machine::{Caps, Outcome, Terms};
use crate::lock::token::Token;
use crate::lock::{self, Ownership, Replicas};
use crate::metrics::operation;
use crate::runtime::{Answer, Output};
use crate::time::Millis;

/// A lock that is wanted. Times are in milliseconds.
#[napi(object)]
#[derive(Default)]
pub struct LockRequest {
    /// The lock, without prefix.
    pub key: String,
    /// How long it lasts if nothing extends it.
    pub ttl: f64,
    /// How long to wait for it; 0 for one attempt.
    pub wait: f64,
    /// The longest time between two attempts.
    pub poll: f64,
    /// Whether to wait in the order of arrival.
    pub fair: bool,
    /// Whether to watch it while it is held: to renew it, or to tell its owner when it is lost.
    pub kept: bool,
    /// For how long to renew it without a sign of life of the event loop; 0 for not at all.
    pub liveness: f64,
    /// For how long to hold it at most; 0 for no limit.
    pub max_hold: f64,
    /// How many replicas must know of it.
    pub replicas: f64,
    /// How long to wait for them.
    pub replica_timeout: f64,
    /// What the holder calls itself.
    pub label: String,
}

impl LockRequest {
    fn check(self, locks: &Locks) -> Result<Request> {
        let optional = |name, value| {
            Millis::zero_or_more(name, value).map(|millis| (millis.get() > 0).then_some(millis))
        };
        let caps = Caps {
            liveness: optional("jsLivenessMs", self.liveness)?,
            max_hold: optional("maxHoldMs", self.max_hold)?,
        };
        let terms = Terms {
            ttl: Millis::positive("ttl", self.ttl)?,
            wait: Millis::zero_or_more("the waiting time", self.wait)?,
            poll: Millis::positive("the retry delay", self.poll)?,
            fair: self.fair,
            caps,
        };
        let replicas = optional("replicas", self.replicas)?
            .map(|count| {
                let timeout = Millis::positive("replicaTimeoutMs", self.replica_timeout)?;
                Ok::<_, Error>(Replicas { count: count.get() as u32, timeout })
            })
            .transpose()?;
        Ok(Request { key: self.key, terms, signature: locks.signature(&self.label, caps), replicas })
    }
}

/// Locks under one prefix of one connection.
#[napi]
pub struct NativeLocks {
    held: Held<Locks>,
}

#[napi]
impl NativeLocks {
    /// Locks whose keys start with `prefix`, taken by processes of the machine `host`, and entered in the list of held
    /// locks or not.
    #[napi(factory)]
    pub fn open(
        env: Env,
        connection: &NativeConnection,
        prefix: String,
        host: String,
        listed: bool,
    ) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(Locks::new(lock::open(backend, LockKeys::new(key_prefix, &prefix)?)?, host, listed))
        })?;
        Ok(Self { held })
    }

    /// Prepares an acquisition.
    #[napi]
    pub fn request(&self, env: Env, request: LockRequest) -> napi::Result<NativeHold> {
        let kept = request.kept;
        let request = self.open_locks().and_then(|locks| Ok((request.check(&locks)?, locks)));
        let (request, locks) = request.map_err(|error| thrown(&env, &error))?;
        NativeHold::new(&env, locks, request, kept)
    }

    /// What is called most. `acquire`: acquires a lock that nobody watches and nobody gives up waiting for; resolves the
    /// token if the lock is ours, otherwise as `NativeHold.acquire` does. `release`: resolves `true` if the lock was held
    /// under this token and is free now, `false` if nobody holds it, otherwise the holder.
    #[napi(
        ts_return_type = "[acquire: (key: string, ttl: number, wait: number, poll: number) => Promise<unknown>, release: (key: string, token: string) => Promise<unknown>]"
    )]
    pub fn calls<'env>(&self, env: &'env Env) -> napi::Result<Vec<Unknown<'env>>> {
        let held = self.held.clone();
        let acquire = bound(env, c"acquire", move |env, arguments: Arguments<'_, 4>| {
            let wanted = LockRequest {
                key: arguments.text(0)?,
                ttl: arguments.number(1)?,
                wait: arguments.number(2)?,
                poll: arguments.number(3)?,
                ..LockRequest::default()
            };
            acquire(env, &held, wanted)
        })?;
        let held = self.held.clone();
        let release = bound(env, c"release", move |env, arguments: Arguments<'_, 2>| {
            release(env, &held, arguments.text(0)?, arguments.text(1)?)
        })?;
        Ok(vec![acquire, release])
    }

    /// Resolves `true` if the lock was held under this token and has `ttl` milliseconds left now, `false` if nobody
    /// holds it, otherwise the holder.
    #[napi(ts_return_type = "Promise<unknown>")]
    pub fn extend<'env>(
        &self,
        env: &'env Env,
        key: String,
        token: String,
        ttl: f64,
    ) -> napi::Result<Unknown<'env>> {
        let locks = self.open_locks();
        answer(env, operation!("lock.extend"), async move {
            let ttl = Millis::positive("ttl", ttl)?;
            locks?.extend(&key, &token, ttl).await.map(ownership)
        })
    }

    /// Resolves whether anybody holds the lock.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn is_locked<'env>(&self, env: &'env Env, key: String) -> napi::Result<Unknown<'env>> {
        let locks = self.open_locks();
        answer(env, operation!("lock.isLocked"), async move {
            locks?.store.is_locked(&key).await.map(Output::Bool)
        })
    }

    /// Resolves whether it is held, the holder, the milliseconds left, the length of the fair queue, and the number
    /// of connections that listen for the release.
    #[napi(ts_return_type = "Promise<unknown[]>")]
    pub fn inspect<'env>(&self, env: &'env Env, key: String) -> napi::Result<Unknown<'env>> {
        let locks = self.open_locks();
        answer(env, operation!("lock.inspect"), async move {
            let found = locks?.store.inspect(&key).await?;
            Ok(Output::List(vec![
                Output::Bool(found.holder.is_some()),
                holder(found.holder.as_deref()),
                millis(found.ttl_left),
                Output::Number(found.queued as f64),
                Output::Number(found.listening as f64),
            ]))
        })
    }

    /// Resolves the fence after which the next page begins, and key, holder and milliseconds left of each lock.
    #[napi(ts_return_type = "Promise<unknown[]>")]
    pub fn list<'env>(&self, env: &'env Env, after: f64, limit: f64) -> napi::Result<Unknown<'env>> {
        let locks = self.open_locks();
        answer(env, operation!("lock.list"), async move {
            let after = fence("the cursor", after)?;
            let limit = Millis::positive("limit", limit)?.get() as usize;
            let page = locks?.store.list(after, limit).await?;
            let next = page.next.map_or(Output::Null, |next| Output::Number(next as f64));
            let locks = page.locks.into_iter().map(|lock| {
                Output::List(vec![Output::text(lock.key), holder(Some(&lock.token)), millis(lock.ttl_left)])
            });
            Ok(Output::List([next].into_iter().chain(locks).collect()))
        })
    }

    /// Frees the lock, whoever holds it. Resolves whether it was held, and by whom.
    #[napi(ts_return_type = "Promise<unknown[]>")]
    pub fn force_release<'env>(&self, env: &'env Env, key: String) -> napi::Result<Unknown<'env>> {
        let locks = self.open_locks();
        answer(env, operation!("lock.forceRelease"), async move {
            let token = locks?.store.force_release(&key).await?;
            Ok(Output::List(vec![Output::Bool(token.is_some()), holder(token.as_deref())]))
        })
    }

    /// Frees everything that is held, and ends every wait with `CLOSED`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        // Also if the connection is closed: then what waits is told, at least.
        let locks = self.held.store();
        answer(env, operation!("lock.close"), async move {
            locks.close().await;
            Ok(done(()))
        })
    }

    fn open_locks(&self) -> Result<Arc<Locks>> {
        open_locks(&self.held)
    }
}

fn open_locks(held: &Held<Locks>) -> Result<Arc<Locks>> {
    let locks = held.get()?;
    if locks.is_closing() { Err(closed_error()) } else { Ok(locks) }
}

fn acquire<'env>(env: &'env Env, held: &Held<Locks>, wanted: LockRequest) -> napi::Result<Unknown<'env>> {
    let request = open_locks(held).and_then(|locks| Ok((wanted.check(&locks)?, locks)));
    answer_later(env, operation!("lock.acquire"), |settler| match request {
        Err(error) => settler.settle(Err(error)),
        Ok((request, locks)) => acquire_then(&locks, request, |locks, acquisition| {
            settler.settle(match acquisition {
                Acquisition { outcome: Outcome::Granted { token, fence }, machine, claim, .. } => {
                    let ours = locks.remember(token.clone(), claim.key, fence, machine.valid_until());
                    if ours { Ok(Output::text(token)) } else { Err(closed_error()) }
                }
                acquisition => not_granted(locks, acquisition),
            });
        }),
    })
}

fn release<'env>(
    env: &'env Env,
    held: &Held<Locks>,
    key: String,
    token: String,
) -> napi::Result<Unknown<'env>> {
    let locks = open_locks(held).and_then(|locks| check_name("the token", &token).map(|()| locks));
    answer_later(env, operation!("lock.release"), |settler| match locks {
        Err(error) => settler.settle(Err(error)),
        Ok(locks) => locks.release(key, token, |outcome| settler.settle(outcome.map(ownership))),
    })
}

/// Why a lock is not ours, in the form of `NativeHold.acquire`.
pub(super) fn not_granted(locks: &Locks, acquisition: Acquisition) -> Answer {
    let attempts = Output::Number(f64::from(acquisition.machine.attempts()));
    let (name, detail) = match acquisition.outcome {
        Outcome::Refused { holder: token } => ("refused", holder(token.as_deref())),
        Outcome::NotReplicated { reached } => ("not-replicated", Output::Number(f64::from(reached))),
        Outcome::Abandoned if locks.is_closing() => return Err(closed_error()),
        Outcome::Failed(error) => return Err(error),
        Outcome::Abandoned | Outcome::Granted { .. } => ("abandoned", Output::Null),
    };
    Ok(Output::List(vec![Output::text(name), attempts, detail]))
}

pub(super) fn ownership(ownership: Ownership) -> Output {
    match ownership {
        Ownership::Ours => Output::Bool(true),
        Ownership::Expired => Output::Bool(false),
        Ownership::Taken(token) => holder(Some(&token)),
    }
}

/// Who holds a lock, without what makes it theirs: host, process id, label, milliseconds since 1970, fence, for how
/// many milliseconds it is renewed without a sign of life (`null`: not at all), and for how many it is held at most. Empty if the token is not one of ours, `null` if there is none.
fn holder(token: Option<&[u8]>) -> Output {
    let Some(token) = token else { return Output::Null };
    let Some(Token { claimant, acquired_at, fence }) = Token::parse(token) else {
        return Output::List(vec![]);
    };
    Output::List(vec![
        Output::text(claimant.host),
        Output::Number(f64::from(claimant.pid)),
        Output::text(claimant.label),
        Output::Number(acquired_at as f64),
        Output::Number(fence as f64),
        millis(claimant.caps.liveness),
        millis(claimant.caps.max_hold),
    ])
}
