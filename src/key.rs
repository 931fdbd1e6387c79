//! Every key that ferroflow reads or writes is built here, and nowhere else: the formats are contracts with the
//! packages that wrote the data before us.

use crate::error::{Error, ErrorKind, Result};

mod journal;
mod lock;
mod slot;
mod workstation;

pub use journal::{JournalKeys, UUID_LENGTH};
pub use lock::LockKeys;
use lock::OWN;
pub use slot::{SLOTS, by_slot, same_slot, slot};
use slot::{has_tag, tag_of};
pub use workstation::{SessionKeys, TrackingKeys};

/// A channel that only ferroflow uses. Between processes of one version it may be sharded in a cluster, which needs a
/// name in a certain slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnChannel {
    /// Its name for `PUBLISH`.
    pub name: String,
    /// Its name for `SPUBLISH`.
    pub sharded: String,
}

/// The longest name (run id, step name, lock key, correlation id, prefix …) accepted, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// Checks one part of a key that came from the caller: not empty, at most [`MAX_NAME_BYTES`] bytes of UTF-8, no
/// control characters.
pub fn check_name(what: &str, name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "must not be empty".to_owned()
    } else if name.len() > MAX_NAME_BYTES {
        format!("must be at most {MAX_NAME_BYTES} bytes long, not {}", name.len())
    } else if name.chars().any(char::is_control) {
        "must not contain control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::InvalidArgument, format!("{what} {problem}")))
}

/// Like [`check_name`] for a prefix, which may be empty.
pub fn check_prefix(what: &str, prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check_name(what, prefix) }
}

/// Where the highest fence seen for a record is: `{connection prefix}ferroflow:fence:{rest of the record's key}`.
/// `outer` is how much of that key is the connection's prefix.
///
/// It is in the record's slot of a cluster: the same hash tag decides for both, and a key without one is made the tag.
/// Only a key that is odd enough has none in its slot: `}` without a tag (`a}b`), or `{` left open by the prefix.
fn fence(record: &str, outer: usize) -> String {
    beside("fence", record, outer)
}

/// A key of our own about a record, which lies where the record lies.
fn beside(what: &str, record: &str, outer: usize) -> String {
    let (prefix, rest) = record.split_at(outer);
    if record.contains('}') {
        return format!("{prefix}{OWN}{what}:{rest}");
    }
    format!("{prefix}{OWN}{what}:{{{record}}}")
}

/// Keys of the workflow state service: `{prefix}:run:{runId}` and so on (contract of @pikku-workflows/redis).
#[derive(Debug, Clone)]
pub struct WorkflowKeys {
    prefix: String,
    outer: usize,
}

impl WorkflowKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the service's own, `workflows` by default.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_name("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}"), outer: connection_prefix.len() })
    }

    /// The string that holds the highest fence seen for the record at this key.
    pub fn fence(&self, record: &str) -> String {
        fence(record, self.outer)
    }

    /// The hash of a run.
    pub fn run(&self, run_id: &str) -> Result<String> {
        check_name("the run id", run_id)?;
        Ok(format!("{}:run:{run_id}", self.prefix))
    }

    /// The hash of a step.
    pub fn step(&self, run_id: &str, step_name: &str) -> Result<String> {
        check_name("the run id", run_id)?;
        check_name("the step name", step_name)?;
        Ok(format!("{}:step:{run_id}:{step_name}", self.prefix))
    }
}

/// Keys of sagas: `{prefix}saga:{sagaName}:{correlationId}` and its index `{prefix}saga:{sagaName}:idx:id:{sagaId}`
/// (contract of @saga-bus/store-redis).
#[derive(Debug, Clone)]
pub struct SagaKeys {
    prefix: String,
    outer: usize,
}

/// A correlation id that starts like this would name another saga's index.
const SAGA_INDEX: &str = "idx:id:";

impl SagaKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the store's own, `saga-bus:` by default.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_prefix("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}"), outer: connection_prefix.len() })
    }

    /// The string that holds the highest fence seen for the record at this key.
    pub fn fence(&self, record: &str) -> String {
        fence(record, self.outer)
    }

    /// The string that holds the state as JSON.
    pub fn state(&self, saga_name: &str, correlation_id: &str) -> Result<String> {
        check_name("the saga name", saga_name)?;
        check_name("the correlation id", correlation_id)?;
        if correlation_id.starts_with(SAGA_INDEX) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the correlation id must not start with \"{SAGA_INDEX}\": that names an index entry"),
            ));
        }
        Ok(format!("{}saga:{saga_name}:{correlation_id}", self.prefix))
    }

    /// The same in a cluster.
    pub fn in_cluster(self) -> Result<Self> {
        if self.prefix.contains('{') && !has_tag(&self.prefix) {
            let problem = "prefix of sagas in a cluster must not contain \"{\" without a hash tag";
            return Err(Error::new(ErrorKind::Config, problem));
        }
        Ok(self)
    }

    /// The hash of those who are changing an index, in its slot of a cluster.
    pub fn index_writers(&self, index: &str) -> String {
        let (prefix, rest) = index.split_at(self.outer);
        format!("{prefix}ferroflow:index:{{{}}}:{rest}", tag_of(slot(index.as_bytes())))
    }

    /// The string that says that this request has deleted the state at this key, in its slot of a cluster.
    pub fn request(&self, state: &str, id: &str) -> String {
        format!("{}ferroflow:request:{{{}}}:{id}", self.prefix, tag_of(slot(state.as_bytes())))
    }

    /// The string that holds the correlation id of a saga id.
    pub fn index(&self, saga_name: &str, saga_id: &str) -> Result<String> {
        check_name("the saga name", saga_name)?;
        check_name("the saga id", saga_id)?;
        Ok(format!("{}saga:{saga_name}:{SAGA_INDEX}{saga_id}", self.prefix))
    }
}

/// Keys of cached documents: `{prefix}{id}` (contract of @flowmonkey/redis).
#[derive(Debug, Clone)]
pub struct CacheKeys {
    prefix: String,
    outer: usize,
}

impl CacheKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the cache's own, `fm:exec:` by default. It must not
    /// be empty: clearing the cache would clear the database.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_name("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}"), outer: connection_prefix.len() })
    }

    /// The string that holds the highest fence seen for the record at this key.
    pub fn fence(&self, record: &str) -> String {
        fence(record, self.outer)
    }

    /// The string that holds the document.
    pub fn document(&self, id: &str) -> Result<String> {
        check_name("the execution id", id)?;
        Ok(format!("{}{id}", self.prefix))
    }

    /// The pattern that matches all documents and nothing else.
    pub fn pattern(&self) -> String {
        pattern_of_start(&self.prefix)
    }
}

/// The pattern that matches the keys that start so, and nothing else.
fn pattern_of_start(start: &str) -> String {
    let mut pattern = String::with_capacity(start.len() + 1);
    for character in start.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

/// Keys of task executions: `{prefix}{id}`, `{prefix}{id}-transactions`, `{prefix}{id}-results` (contract of
/// @idioteque/redis).
#[derive(Debug, Clone)]
pub struct TaskKeys {
    prefix: String,
}

impl TaskKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the store's own, empty by default.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_prefix("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}") })
    }

    /// The string that says that the execution is under way.
    pub fn marker(&self, execution: &str) -> Result<String> {
        check_name("the execution id", execution)?;
        Ok(format!("{}{execution}", self.prefix))
    }

    /// The hash of tasks under way.
    pub fn transactions(&self, execution: &str) -> Result<String> {
        Ok(self.marker(execution)? + "-transactions")
    }

    /// The hash of results.
    pub fn results(&self, execution: &str) -> Result<String> {
        Ok(self.marker(execution)? + "-results")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_those_of_the_documented_packages() {
        let workflow = WorkflowKeys::new("", "workflows").unwrap();
        assert_eq!(workflow.run("r1").unwrap(), "workflows:run:r1");
        assert_eq!(workflow.step("r1", "charge").unwrap(), "workflows:step:r1:charge");
        let lock = LockKeys::new("", "workflows:lock:").unwrap();
        assert_eq!(lock.lock("r1").unwrap(), "workflows:lock:r1");
        let cache = CacheKeys::new("", "fm:exec:").unwrap();
        assert_eq!(cache.document("e1").unwrap(), "fm:exec:e1");
        let tasks = TaskKeys::new("", "").unwrap();
        assert_eq!(tasks.marker("e1").unwrap(), "e1");
        assert_eq!(tasks.transactions("e1").unwrap(), "e1-transactions");
        assert_eq!(tasks.results("e1").unwrap(), "e1-results");
        let saga = SagaKeys::new("", "saga-bus:").unwrap();
        assert_eq!(saga.state("OrderSaga", "order-123").unwrap(), "saga-bus:saga:OrderSaga:order-123");
        assert_eq!(saga.index("OrderSaga", "saga-456").unwrap(), "saga-bus:saga:OrderSaga:idx:id:saga-456");
    }

    #[test]
    fn a_step_id_leads_to_its_step() {
        let keys = JournalKeys::new("app:", "workflows").unwrap();
        let run = "0b5c1f9e-3a63-4a0e-9f3e-0d7f4b8a2c11";
        let id = format!("{run}:outer:step:inner:1700000000000");
        assert_eq!(keys.step_of_id(&id).unwrap(), (keys.step(run, "outer:step:inner").unwrap(), 36));
        assert_eq!(keys.step_of_id("r:s:1").unwrap(), (keys.step("r", "s").unwrap(), 1));
        for bad in ["", "r", "r:s", "r:s:", "r:s:1a"] {
            assert!(keys.step_of_id(bad).is_err(), "{bad}");
        }
        assert_eq!(keys.runs(&["status", "running"]), "app:workflows:runs:status:running");
        assert_eq!(keys.start_and_pattern("step:*").1, "app:workflows:step:\\*:*");
    }

    #[test]
    fn a_cache_pattern_matches_its_own_prefix_literally() {
        assert_eq!(CacheKeys::new("app:", "a*[b]?\\:").unwrap().pattern(), "app:a\\*\\[b\\]\\?\\\\:*");
        assert!(CacheKeys::new("app:", "").is_err());
    }

    #[test]
    fn the_connections_prefix_comes_first() {
        assert_eq!(WorkflowKeys::new("app:", "workflows").unwrap().run("r").unwrap(), "app:workflows:run:r");
        assert_eq!(LockKeys::new("app:", "fm:lock:").unwrap().lock("k").unwrap(), "app:fm:lock:k");
        assert_eq!(SagaKeys::new("app:", "p:").unwrap().state("S", "c").unwrap(), "app:p:saga:S:c");
    }

    #[test]
    fn bad_names_are_refused() {
        let keys = LockKeys::new("", "").unwrap();
        assert!(keys.lock("").is_err());
        assert!(keys.lock(&"k".repeat(512)).is_ok());
        assert!(keys.lock(&"k".repeat(513)).is_err());
        assert!(keys.lock("a\nb").is_err());
        assert!(keys.lock("a\u{7f}").is_err());
        assert!(keys.lock("schlüssel:*?[]").is_ok());
        assert!(WorkflowKeys::new("", "").is_err());
    }

    #[test]
    fn a_correlation_id_cannot_name_an_index() {
        let keys = SagaKeys::new("", "p:").unwrap();
        assert!(keys.state("S", "idx:id:x").is_err());
        assert!(keys.state("S", "idx:x").is_ok());
    }

    #[test]
    fn what_is_beside_a_lock_is_in_its_slot() {
        for (outer, prefix) in [("", "fm:lock:"), ("app:", ""), ("{app}:", "l:"), ("", "l{x}:")] {
            let keys = LockKeys::new(outer, prefix).unwrap().in_cluster().unwrap();
            for key in ["job", "a{b}c", "a}b", "}{", "{", "ü {}"] {
                let lock = keys.lock(key).unwrap();
                let beside = [
                    keys.fence_counter(key),
                    keys.tombstone(key, "c:{x}"),
                    keys.any_tombstone(key),
                    keys.queue(key),
                    keys.leases(key),
                ];
                assert!(same_slot(beside.iter().chain([&lock]).map(String::as_str)), "{lock} {beside:?}");
            }
        }
        assert!(LockKeys::new("a{", "l:").unwrap().in_cluster().is_err());
    }

    #[test]
    fn a_fence_is_in_the_slot_of_its_record() {
        let tag = |key: &str| Some(key.split_once('{')?.1.split_once('}')?.0.to_owned());
        for (outer, prefix) in
            [("", "p:"), ("app:", "p:"), ("{app}:", "p:"), ("app:", "{p}:"), ("app:", "{p:")]
        {
            let keys = CacheKeys::new(outer, prefix).unwrap();
            let record = keys.document("e").unwrap();
            let fence = keys.fence(&record);
            assert!(fence.starts_with(&format!("{outer}ferroflow:fence:")), "{fence}");
            assert_eq!(tag(&fence), Some(tag(&record).unwrap_or(record)), "{fence}");
        }
    }
}
