//! Acquisitions by themselves, and again where the reply was lost.

use super::{RedisLocks, ttl_left, unexpected};
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::lock::token::Token;
use crate::lock::{Attempt, Claim, LockStore, QUEUE_LEASE, Replicas, STRAY_ATTEMPT};
use crate::script::{OnLostReply, Script};
use crate::time::unix_micros;

static ACQUIRE: Script = Script::new(include_str!("../lua/acquire_lock.lua"));

impl RedisLocks {
    /// Makes an attempt by itself. `unknown` is the error of one that was made before, together with others.
    pub(super) async fn acquire_alone(
        &self,
        call: Call<'_>,
        claim: &Claim,
        unknown: Option<Error>,
    ) -> Result<Attempt> {
        let lock = self.keys.lock(&claim.key)?;
        let counter = self.keys.fence_counter(&claim.key);
        let tombstone = self.keys.tombstone(&claim.key, &claim.id);
        let any_tombstone = self.keys.any_tombstone(&claim.key);
        let (queue, leases) = (self.keys.queue(&claim.key), self.keys.leases(&claim.key));
        let keys = [lock.as_str(), &counter, &tombstone, &any_tombstone, &queue, &leases];
        let keys = if claim.fair { &keys[..] } else { &keys[..4] };
        let outcome = match claim.replicas {
            None => attempt_until_answered(call, claim, keys, unknown).await.and_then(attempt),
            Some(replicas) => self.acquire_replicated(claim, replicas, keys).await,
        };
        outcome.map_err(|error| error.about(&lock))
    }

    /// Takes a lock and waits for replicas. A grant of which too few know, or of which nobody can say who knows, is not
    /// replicated.
    async fn acquire_replicated(&self, claim: &Claim, replicas: Replicas, keys: &[&str]) -> Result<Attempt> {
        let lock = self.keys.lock(&claim.key)?;
        let client = self.client.waiter()?;
        if client.session_of(&lock).is_none() {
            client.ping().await?;
        }
        let session = client.session_of(&lock);
        let attempt = attempt(attempt_until_answered(client.call(), claim, keys, None).await?)?;
        if !matches!(attempt, Attempt::Granted { .. }) {
            return Ok(attempt);
        }
        // WAIT speaks of what its own connection wrote, and after a loss nobody knows whether that was the grant.
        match client.wait(&lock, replicas.count, replicas.timeout.into()).await {
            Ok(_) if client.session_of(&lock) != session => Ok(Attempt::NotReplicated { reached: 0 }),
            Ok(reached) if reached < replicas.count => Ok(Attempt::NotReplicated { reached }),
            Ok(_) => Ok(attempt),
            Err(error) if error.kind().retryable() || error.kind() == ErrorKind::OutcomeUnknown => {
                Ok(Attempt::NotReplicated { reached: 0 })
            }
            Err(error) => {
                // The caller hears why it has no lock, so it must not have one.
                drop(self.withdraw(&claim.key, &claim.id).await);
                Err(error)
            }
        }
    }
}

/// Sends an attempt, and again when its connection is lost. The script is told how often, as an earlier copy may
/// still arrive: it must neither take the lock after its release nor change the time left.
/// `unknown` is the error of an attempt that was sent before, together with others.
async fn attempt_until_answered(
    call: Call<'_>,
    claim: &Claim,
    keys: &[&str],
    mut unknown: Option<Error>,
) -> Result<Reply> {
    let (ttl, floor) = (claim.ttl.get().to_string(), claim.floor.to_string());
    let (micros, lease) = (unix_micros().to_string(), QUEUE_LEASE.get().to_string());
    let mut claim = claim.clone();
    loop {
        let number = claim.number().to_string();
        let stray = if claim.repetition > 0 { STRAY_ATTEMPT.get() } else { 0 }.to_string();
        let arguments =
            [&claim.id, &ttl, &floor, &micros, &number, &stray, &lease].map(|word| word.as_bytes());
        let arguments = if claim.fair { &arguments[..] } else { &arguments[..6] };
        match ACQUIRE.run(call, OnLostReply::Report, keys, arguments).await {
            Err(error) if error.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                claim.repetition += 1;
                unknown = Some(error);
            }
            // This copy was not sent, or was refused, but one before it was sent.
            Err(error) if error.kind() != ErrorKind::WrongType => return Err(unknown.unwrap_or(error)),
            reply => return reply,
        }
    }
}

/// The answer of an attempt to take a lock.
fn attempt(reply: Reply) -> Result<Attempt> {
    match reply {
        Reply::Bytes(token) => {
            let token = String::from_utf8(token).map_err(|_| unexpected())?;
            let fence = Token::fence_of(&token)?;
            Ok(Attempt::Granted { token, fence })
        }
        Reply::List(parts) => held(parts),
        _ => Err(Error::new(ErrorKind::Closed, "the attempt was given up before it arrived")),
    }
}

/// The answer of one that came to nothing.
pub(super) fn held(parts: Vec<Reply>) -> Result<Attempt> {
    let mut parts = parts.into_iter();
    let wait = parts.next().map_or(Ok(-1), Reply::into_int)?;
    let holder = parts.next().map_or(Ok(None), Reply::into_bytes)?;
    Ok(Attempt::Held { look_again: ttl_left(wait), holder })
}
