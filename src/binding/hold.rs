//! `NativeHold`: one acquisition of a lock, and the lock while it is held.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use napi::{Env, Unknown};
use napi_derive::napi;
use tokio::sync::Notify;

use super::arguments::answer;
use super::connection::next_id;
use super::handle::closed_error;
use super::lock::{not_granted, ownership};
use crate::error::{Error, ErrorKind, Result};
use crate::lock::acquire::{Acquisition, Request, acquire};
use crate::lock::engine::Locks;
use crate::lock::hold::{Ended, Hold, Owner};
use crate::lock::machine::{Loss, Outcome};
use crate::metrics::operation;
use crate::runtime::completion::EventSink;
use crate::runtime::{Environment, Output};
use crate::time::Millis;

/// One acquisition.
#[napi]
pub struct NativeHold {
    owner: NativeOwner,
    locks: Arc<Locks>,
    request: Request,
    kept: bool,
    given_up: Arc<Notify>,
    hold: Arc<OnceLock<Hold>>,
}

impl NativeHold {
    pub(super) fn new(env: &Env, locks: Arc<Locks>, request: Request, kept: bool) -> napi::Result<Self> {
        Ok(Self {
            owner: NativeOwner { id: next_id(), events: Environment::of(env)?.events() },
            locks,
            request,
            kept,
            given_up: Arc::default(),
            hold: Arc::default(),
        })
    }
}

#[napi]
impl NativeHold {
    /// Names this object in events.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.owner.id
    }

    /// Acquires the lock. Resolves `["granted", attempts, token, fence]`, `["refused", attempts, holder]`,
    /// `["not-replicated", attempts, reached]` or `["abandoned", attempts, null]`.
    #[napi(ts_return_type = "Promise<unknown[]>")]
    pub fn acquire<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let (locks, request) = (Arc::clone(&self.locks), self.request.clone());
        let kept = self.kept;
        let (owner, given_up, hold) =
            (self.owner.clone(), Arc::clone(&self.given_up), Arc::clone(&self.hold));
        answer(env, operation!("lock.acquire"), async move {
            let stopped = async {
                tokio::select! {
                    () = given_up.notified() => {}
                    () = locks.until_closing() => {}
                }
            };
            let acquisition = acquire(&locks, request, stopped).await;
            let Outcome::Granted { token, fence } = acquisition.outcome.clone() else {
                return not_granted(&locks, acquisition);
            };
            let attempts = Output::Number(f64::from(acquisition.machine.attempts()));
            if kept {
                drop(hold.set(Hold::keep(&locks, acquisition, &token, fence, owner)?));
            } else {
                let Acquisition { claim, machine, .. } = acquisition;
                if !locks.remember(token.clone(), claim.key, fence, machine.valid_until()) {
                    return Err(closed_error());
                }
            }
            let details = [Output::text(token), Output::Number(fence as f64)];
            Ok(Output::List([Output::text("granted"), attempts].into_iter().chain(details).collect()))
        })
    }

    /// Gives the waiting up.
    #[napi]
    pub fn abandon(&self) {
        self.given_up.notify_one();
    }

    /// How many milliseconds the lock is ours for certain; 0 if it is not. No I/O.
    #[napi]
    pub fn left(&self) -> f64 {
        self.hold.get().map_or(0.0, |hold| hold.left() as f64)
    }

    /// Has the lock last `ttl` milliseconds from now on. Resolves whether it is still held.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn extend<'env>(&self, env: &'env Env, ttl: f64) -> napi::Result<Unknown<'env>> {
        let hold = Arc::clone(&self.hold);
        answer(env, operation!("lock.extend"), async move {
            let ttl = Millis::positive("ttl", ttl)?;
            held(&hold)?.extend(ttl).await.map(Output::Bool)
        })
    }

    /// Frees the lock. Resolves as `NativeLocks.release` does.
    #[napi(ts_return_type = "Promise<unknown>")]
    pub fn release<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let hold = Arc::clone(&self.hold);
        answer(env, operation!("lock.release"), async move { held(&hold)?.release().await.map(ownership) })
    }
}

fn held(hold: &OnceLock<Hold>) -> Result<&Hold> {
    hold.get().ok_or_else(|| Error::new(ErrorKind::InvalidArgument, "the lock is not held"))
}

/// Tells TypeScript what becomes of a lock.
#[derive(Clone)]
struct NativeOwner {
    id: u32,
    events: EventSink,
}

impl Owner for NativeOwner {
    fn probe(&self, alive_at: &Arc<AtomicU64>) {
        self.events.probe(alive_at);
    }

    fn ended(&self, ended: Ended) {
        let (why, cause) = match &ended {
            Ended::Lost(loss) => loss.describe(),
            Ended::Closed => ("its owner was closed".to_owned(), None),
            Ended::Released => return self.events.emit(self.id, "released", Output::Null),
        };
        let cause = cause.map_or(Output::Null, |error| {
            Output::List(vec![
                Output::text(error.kind().code()),
                Output::text(error.message()),
                Output::Bool(error.kind().retryable()),
            ])
        });
        let overdue = matches!(ended, Ended::Lost(Loss::HeldTooLong));
        self.events.emit(
            self.id,
            "lost",
            Output::List(vec![Output::text(why), cause, Output::Bool(overdue)]),
        );
    }
}
