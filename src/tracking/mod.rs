//! Tracking of executions: a state as JSON for each, and the set of those that are active.
//!
//! States are made in JavaScript and stored byte for byte. Whoever changes one says which bytes it saw, so that no
//! change is lost; Rust only looks into states to count them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::key::TrackingKeys;
use crate::time::Millis;

/// What must be stored for a replacement to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// Nothing.
    Absent,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// What becomes of an execution in the set of active ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// It is one.
    Add,
    /// It is none.
    Remove,
    /// As before.
    Keep,
}

/// A change of one state.
#[derive(Debug, Clone)]
pub struct Replacement {
    /// The execution.
    pub execution_id: String,
    /// What the caller saw.
    pub expect: Expect,
    /// The new state; nothing to delete it.
    pub json: Option<Vec<u8>>,
    /// How long it stays.
    pub ttl: Millis,
    /// What becomes of the execution in the set.
    pub membership: Membership,
}

/// What became of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    /// It happened.
    Stored,
    /// This is there instead.
    Differs(Option<Vec<u8>>),
}

/// Some active executions, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// How many are active in all.
    pub total: usize,
    /// Ids and states, as far as there is one.
    pub rows: Vec<(String, Option<Vec<u8>>)>,
    /// Whether more follow.
    pub more: bool,
}

/// Numbers of the active executions.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Statistics {
    /// By status, in the order of [`STATUSES`].
    pub by_status: [u64; STATUSES.len()],
    /// Sum of their progress.
    pub progress: f64,
    /// Those whose state makes no sense.
    pub corrupt: u64,
    /// Those without a state.
    pub ghosts: Vec<String>,
}

/// The words for a status.
pub const STATUSES: [&str; 5] = ["pending", "running", "completed", "failed", "cancelled"];

#[derive(Deserialize)]
struct Counted<'json> {
    #[serde(borrow)]
    status: std::borrow::Cow<'json, str>,
    #[serde(default)]
    progress: Option<f64>,
}

impl Statistics {
    /// Counts one active execution.
    fn count(&mut self, id: String, state: Option<&[u8]>) {
        let Some(state) = state else { return self.ghosts.push(id) };
        let counted = serde_json::from_slice::<Counted<'_>>(state).ok();
        let place = |counted: &Counted<'_>| STATUSES.iter().position(|status| *status == counted.status);
        match counted.as_ref().and_then(|counted| Some((place(counted)?, counted.progress))) {
            Some((place, progress)) => {
                self.by_status[place] += 1;
                // Others have written NaN as null, and more than 100.
                self.progress += progress.unwrap_or_default().clamp(0.0, 100.0);
            }
            None => self.corrupt += 1,
        }
    }
}

/// The ids that follow `after`, at most `limit`, of all in their order.
fn cut(mut ids: Vec<String>, after: Option<&str>, limit: usize) -> (usize, Vec<String>, bool) {
    let total = ids.len();
    ids.sort_unstable();
    let start = after.map_or(0, |after| ids.partition_point(|id| id.as_str() <= after));
    let more = total - start > limit;
    (total, ids.into_iter().skip(start).take(limit).collect(), more)
}

/// What is announced: the id, a line feed (which no id has), the state.
fn announcement(id: &str, json: Option<&[u8]>) -> Vec<u8> {
    [id.as_bytes(), b"\n", json.unwrap_or_default()].concat()
}

/// Executions in one backend.
#[async_trait]
pub trait TrackingStore: Send + Sync {
    /// Changes a state if it is the expected one, as one atomic step together with the set.
    async fn replace(&self, replacement: Replacement) -> Result<Replaced>;

    /// The states of executions, in this order.
    async fn load(&self, execution_ids: &[String]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Gives a state at least this time. `false` if there is none.
    async fn refresh(&self, execution_id: &str, ttl: Millis) -> Result<bool>;

    /// Adds an execution to the set, or removes it.
    async fn set_active(&self, execution_id: &str, active: bool) -> Result<()>;

    /// The ids of the active executions, in their order.
    async fn active(&self) -> Result<Vec<String>>;

    /// Some active executions with their states, in two round trips.
    async fn page(&self, after: Option<String>, limit: usize) -> Result<Page>;

    /// Counts all active executions, in two round trips.
    async fn statistics(&self) -> Result<Statistics>;

    /// Takes those of these executions out of the set that have no state, and says how many.
    async fn drop_ghosts(&self, execution_ids: &[String]) -> Result<u64>;

    /// Proves that the backend runs scripts that write and read.
    async fn prove_writable(&self, instance: &str) -> Result<()>;

    /// Notes that an instance is there which grants locks by itself while the backend is out of reach. Whether two such
    /// instances were ever there at once, as far back as is remembered; without an instance, only that.
    async fn meet_instances(&self, instance: Option<&str>) -> Result<bool>;

    /// Makes a ticket of this name, which may be taken once within its time.
    async fn issue_ticket(&self, ticket: &str, json: Vec<u8>, ttl: Millis) -> Result<()>;

    /// Takes a ticket: what was issued, for the first who asks.
    async fn take_ticket(&self, ticket: &str) -> Result<Option<Vec<u8>>>;

    /// Where changes are announced.
    fn channel(&self) -> &str;
}

/// The executions of a backend.
pub fn open(backend: &Backend, keys: TrackingKeys) -> Arc<dyn TrackingStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisTracking::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemoryTracking::new(Arc::clone(engine), keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let ids = || ["c", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(cut(ids(), None, 2), (3, vec!["a".to_owned(), "b".to_owned()], true));
        assert_eq!(cut(ids(), Some("b"), 2), (3, vec!["c".to_owned()], false));
        // An id that is gone by now is still a place.
        assert_eq!(cut(ids(), Some("aa"), 1), (3, vec!["b".to_owned()], true));
        assert_eq!(cut(ids(), Some("z"), 1), (3, vec![], false));
    }

    #[test]
    fn states_that_make_no_sense_are_counted_apart() {
        let mut statistics = Statistics::default();
        for state in [
            r#"{"status":"running","progress":40}"#,
            r#"{"status":"running","progress":null,"data":{"status":7}}"#,
            r#"{"status":"failed","progress":250}"#,
            r#"{"status":"constructor"}"#,
            "{",
            "7",
            "null",
        ] {
            statistics.count("e".to_owned(), Some(state.as_bytes()));
        }
        statistics.count("gone".to_owned(), None);
        assert_eq!((statistics.by_status, statistics.progress), ([0, 2, 0, 1, 0], 140.0));
        assert_eq!((statistics.corrupt, statistics.ghosts), (4, vec!["gone".to_owned()]));
    }
}
