//! `NativeTracking`: tracked executions as TypeScript holds them.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, done};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::key::TrackingKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::time::Millis;
use crate::tracking::{self, Expect, Membership, Replaced, Replacement, TrackingStore};

/// Executions on one connection.
#[napi]
pub struct NativeTracking {
    held: Held<dyn TrackingStore>,
}

/// A change of one state.
#[napi(object)]
pub struct StateChange {
    /// The execution.
    pub execution_id: String,
    /// `any`, `absent` or `bytes`.
    pub expect: String,
    /// The state that must be stored, with `bytes`.
    pub expected: Option<String>,
    /// The new state; absent to delete it.
    pub json: Option<String>,
    /// How long it stays, in milliseconds.
    pub ttl: f64,
    /// Whether the execution is active from now on; absent for as before.
    pub active: Option<bool>,
}

impl TryFrom<StateChange> for Replacement {
    type Error = Error;

    fn try_from(change: StateChange) -> Result<Self> {
        Ok(Self {
            execution_id: change.execution_id,
            expect: match (change.expect.as_str(), change.expected) {
                ("any", _) => Expect::Any,
                ("absent", _) => Expect::Absent,
                ("bytes", Some(bytes)) => Expect::Bytes(bytes.into_bytes()),
                _ => {
                    let text = "expect must be any, absent or bytes";
                    return Err(Error::new(ErrorKind::InvalidArgument, text));
                }
            },
            json: change.json.map(String::into_bytes),
            ttl: Millis::positive("ttl", change.ttl)?,
            membership: match change.active {
                Some(true) => Membership::Add,
                Some(false) => Membership::Remove,
                None => Membership::Keep,
            },
        })
    }
}

/// Most executions that one call may be about.
const MOST_AT_ONCE: f64 = 10_000.0;

fn count(limit: f64) -> Result<usize> {
    if limit.fract() == 0.0 && (1.0..=MOST_AT_ONCE).contains(&limit) {
        return Ok(limit as usize);
    }
    let text = format!("limit must be a whole number from 1 to {MOST_AT_ONCE}, not {limit}");
    Err(Error::new(ErrorKind::InvalidArgument, text))
}

fn texts(ids: Vec<String>) -> Output {
    Output::List(ids.into_iter().map(Output::text).collect())
}

#[napi]
impl NativeTracking {
    /// Executions under the connection's prefix.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(tracking::open(backend, TrackingKeys::new(key_prefix)?))
        })?;
        Ok(Self { held })
    }

    /// The channel on which changes are announced: the id, a line feed, the state as JSON (nothing if it was deleted).
    #[napi(getter)]
    pub fn channel(&self) -> String {
        self.held.store().channel().to_owned()
    }

    /// Changes a state if it is the expected one. Resolves `true`, otherwise what is stored.
    #[napi(ts_return_type = "Promise<true | string | null>")]
    pub fn replace<'env>(&self, env: &'env Env, change: StateChange) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.replace"), async move {
            Ok(match store?.replace(change.try_into()?).await? {
                Replaced::Stored => Output::Bool(true),
                Replaced::Differs(stored) => Output::text_or_null(stored),
            })
        })
    }

    /// The states of executions, in this order.
    #[napi(ts_return_type = "Promise<(string | null)[]>")]
    pub fn load<'env>(&self, env: &'env Env, execution_ids: Vec<String>) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.load"), async move {
            let states = store?.load(&execution_ids).await?;
            Ok(Output::List(states.into_iter().map(Output::text_or_null).collect()))
        })
    }

    /// Gives a state at least this time, in milliseconds. Resolves `false` if there is none.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn refresh<'env>(
        &self,
        env: &'env Env,
        execution_id: String,
        ttl: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.refresh"), async move {
            store?.refresh(&execution_id, Millis::positive("ttl", ttl)?).await.map(Output::Bool)
        })
    }

    /// Makes an execution an active one, or not.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn set_active<'env>(
        &self,
        env: &'env Env,
        execution_id: String,
        active: bool,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.setActive"), async move {
            store?.set_active(&execution_id, active).await.map(done)
        })
    }

    /// The ids of the active executions, in their order.
    #[napi(ts_return_type = "Promise<string[]>")]
    pub fn active<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.active"), async move { store?.active().await.map(texts) })
    }

    /// Some active executions after an id: how many there are in all, whether more follow, and id and state of each.
    #[napi(
        ts_return_type = "Promise<[total: number, more: boolean, ...rows: [id: string, json: string | null][]]>"
    )]
    pub fn page<'env>(
        &self,
        env: &'env Env,
        after: Option<String>,
        limit: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.page"), async move {
            let page = store?.page(after, count(limit)?).await?;
            let rows = page
                .rows
                .into_iter()
                .map(|(id, state)| Output::List(vec![Output::text(id), Output::text_or_null(state)]));
            let head = [Output::Number(page.total as f64), Output::Bool(page.more)];
            Ok(Output::List(head.into_iter().chain(rows).collect()))
        })
    }

    /// Numbers of all active executions: pending, running, completed, failed, cancelled, corrupt, the sum of their
    /// progress, and the ids of those without a state.
    #[napi(
        ts_return_type = "Promise<[pending: number, running: number, completed: number, failed: number, cancelled: number, corrupt: number, progress: number, ghosts: string[]]>"
    )]
    pub fn statistics<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.statistics"), async move {
            let statistics = store?.statistics().await?;
            let numbers = statistics.by_status.into_iter().chain([statistics.corrupt]);
            let mut answer: Vec<_> = numbers.map(|number| Output::Number(number as f64)).collect();
            answer.push(Output::Number(statistics.progress));
            answer.push(texts(statistics.ghosts));
            Ok(Output::List(answer))
        })
    }

    /// Takes those of these executions out of the active ones that have no state. Resolves how many.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn drop_ghosts<'env>(
        &self,
        env: &'env Env,
        execution_ids: Vec<String>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.dropGhosts"), async move {
            Ok(Output::Number(store?.drop_ghosts(&execution_ids).await? as f64))
        })
    }

    /// Makes a ticket of this name, which may be taken once within this time, in milliseconds.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn issue_ticket<'env>(
        &self,
        env: &'env Env,
        ticket: String,
        json: String,
        ttl: f64,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.issueTicket"), async move {
            store?.issue_ticket(&ticket, json.into_bytes(), Millis::positive("ttl", ttl)?).await.map(done)
        })
    }

    /// Takes a ticket: what was issued, for the first who asks.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn take_ticket<'env>(&self, env: &'env Env, ticket: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.takeTicket"), async move {
            store?.take_ticket(&ticket).await.map(Output::text_or_null)
        })
    }

    /// Notes that an instance is there which grants locks by itself while the backend is out of reach. Resolves whether
    /// two such instances were ever there at once; without an instance, only that.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn meet_instances<'env>(
        &self,
        env: &'env Env,
        instance: Option<String>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.meetInstances"), async move {
            store?.meet_instances(instance.as_deref()).await.map(Output::Bool)
        })
    }

    /// Proves that the backend runs scripts that write and read.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn prove_writable<'env>(&self, env: &'env Env, instance: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("tracking.proveWritable"), async move {
            store?.prove_writable(&instance).await.map(done)
        })
    }
}
