//! What is counted: plain atomics that whoever does the work adds to, and a snapshot of them all. They are of the whole
//! process, worker threads included, and are never reset.
//!
//! No name in a snapshot holds a key, an id or a credential.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::ErrorKind;

mod snapshot;

pub use snapshot::{Snapshot, snapshot};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds.
    pub fn add(&self, number: usize) {
        self.0.fetch_add(number as u64, Ordering::Relaxed);
    }

    /// What it is now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of what an operation takes, microseconds. Few, since every operation has all of them.
const OPERATION_BOUNDS: &[u64] = &[250, 1_000, 2_500, 10_000, 50_000, 250_000, 1_000_000, 5_000_000];
/// Upper bounds of how long a lock is waited for and held, microseconds.
const LOCK_BOUNDS: &[u64] =
    &[1_000, 10_000, 100_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000, 300_000_000];
/// The longest list of bounds, and what is above them all.
const BUCKETS: usize = 11;

/// Durations, by how long they were.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    buckets: [Counter; BUCKETS],
    sum: AtomicU64,
}

impl Histogram {
    const fn new(bounds: &'static [u64]) -> Self {
        assert!(bounds.len() < BUCKETS);
        Self { bounds, buckets: [const { Counter::new() }; BUCKETS], sum: AtomicU64::new(0) }
    }

    /// Adds a duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.bounds.iter().position(|bound| micros <= *bound).unwrap_or(self.bounds.len());
        self.buckets[bucket].add(1);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What JavaScript can ask of the core: `domain.method`. Made by [`operation!`].
#[derive(Debug)]
pub struct Operation {
    name: &'static str,
    durations: Histogram,
    failures: Counter,
    /// It is in the list of operations.
    listed: AtomicBool,
}

static OPERATIONS: Mutex<Vec<&'static Operation>> = Mutex::new(Vec::new());

impl Operation {
    /// An operation of this name. Several of one name count as one.
    pub const fn new(name: &'static str) -> Self {
        let durations = Histogram::new(OPERATION_BOUNDS);
        Self { name, durations, failures: Counter::new(), listed: AtomicBool::new(false) }
    }

    /// It begins.
    pub fn begin(&'static self) -> Timer {
        Timer { operation: self, since: Instant::now() }
    }

    fn ended(&'static self, duration: Duration, failed: bool) {
        if !self.listed.load(Ordering::Relaxed) && !self.listed.swap(true, Ordering::Relaxed) {
            lock(&OPERATIONS).push(self);
        }
        self.durations.observe(duration);
        if failed {
            self.failures.add(1);
        }
    }
}

/// One operation that is under way.
#[derive(Debug)]
pub struct Timer {
    operation: &'static Operation,
    since: Instant,
}

impl Timer {
    /// It ended.
    pub fn end(self, failed: bool) {
        self.operation.ended(self.since.elapsed(), failed);
    }
}

/// The operation of a place in the binding.
macro_rules! operation {
    ($name:literal) => {{
        static OPERATION: $crate::metrics::Operation = $crate::metrics::Operation::new($name);
        &OPERATION
    }};
}
pub(crate) use operation;

/// What goes through the connections to one server.
#[derive(Debug, Default)]
pub struct ConnectionMetrics {
    /// Commands of which the socket took the first byte; one that is sent again counts again.
    pub commands: Counter,
    /// Bytes that the socket took.
    pub bytes_sent: Counter,
    /// Bytes that it had for us.
    pub bytes_received: Counter,
    /// Connections that were established in the place of a lost one.
    pub reconnects: Counter,
}

static CONNECTIONS: Mutex<BTreeMap<String, Arc<ConnectionMetrics>>> = Mutex::new(BTreeMap::new());

/// The counters of all connections to one address. They outlive the connections: a number must not shrink.
pub fn of_address(address: String) -> Arc<ConnectionMetrics> {
    Arc::clone(lock(&CONNECTIONS).entry(address).or_default())
}

/// Commands that came to nothing, by the place of their code in [`CODES`].
static FAILURES: [Counter; CODES.len()] = [const { Counter::new() }; CODES.len()];

/// The codes that a command may fail with.
const CODES: &[&str] = &[
    "AUTH_FAILED",
    "CLOSED",
    "CONFIG",
    "INTERNAL_PANIC",
    "NO_PERMISSION",
    "OUTCOME_UNKNOWN",
    "QUEUE_FULL",
    "REDIS_UNAVAILABLE",
    "SERVER_ERROR",
    "SERVER_NOT_READY",
    "TIMEOUT",
    "UNSUPPORTED",
    "WRONG_TYPE",
];

/// A command came to nothing, for good.
pub fn command_failed(kind: ErrorKind) {
    // That is how it is learnt that a script must be sent in full, which follows.
    if kind == ErrorKind::NoScript {
        return;
    }
    let code = CODES.iter().position(|code| *code == kind.code());
    debug_assert!(code.is_some(), "{kind:?} has no counter");
    if let Some(code) = code {
        FAILURES[code].add(1);
    }
}

/// What becomes of locks.
#[derive(Debug)]
pub struct LockMetrics {
    /// How long those who got a lock waited for it.
    pub wait: Histogram,
    /// How long locks were held that were released or lost.
    pub hold: Histogram,
    /// Acquisitions, by how they ended.
    pub granted: Counter,
    /// Somebody else held it.
    pub refused: Counter,
    /// Too few replicas knew of it.
    pub not_replicated: Counter,
    /// The caller gave up.
    pub abandoned: Counter,
    /// An error.
    pub failed: Counter,
    /// Losses, by reason: the server said so.
    pub gone: Counter,
    /// No extension was confirmed in time.
    pub expired: Counter,
    /// The event loop of the owner was blocked.
    pub owner_hung: Counter,
    /// It was held for as long as was allowed.
    pub held_too_long: Counter,
}

/// The locks of this process.
pub static LOCKS: LockMetrics = LockMetrics {
    wait: Histogram::new(LOCK_BOUNDS),
    hold: Histogram::new(LOCK_BOUNDS),
    granted: Counter::new(),
    refused: Counter::new(),
    not_replicated: Counter::new(),
    abandoned: Counter::new(),
    failed: Counter::new(),
    gone: Counter::new(),
    expired: Counter::new(),
    owner_hung: Counter::new(),
    held_too_long: Counter::new(),
};

/// What is done without Redis, by kind of operation, as workstations name it.
pub const FALLBACK_CLASSES: [&str; 6] = ["cache", "session", "delete", "progress", "lock", "command"];

/// What workstations do while Redis is out of reach.
#[derive(Debug)]
pub struct FallbackMetrics {
    /// Whether this process ever had one.
    pub known: AtomicBool,
    /// Workstations that do without Redis at the moment.
    pub active: AtomicU64,
    /// Operations that were answered without Redis, or refused, in the order of [`FALLBACK_CLASSES`].
    pub operations: [Counter; FALLBACK_CLASSES.len()],
}

/// The workstations of this process.
pub static FALLBACK: FallbackMetrics = FallbackMetrics {
    known: AtomicBool::new(false),
    active: AtomicU64::new(0),
    operations: [const { Counter::new() }; FALLBACK_CLASSES.len()],
};

/// Changes of tracked executions that came after their end, and were ignored.
pub static LATE_UPDATES: Counter = Counter::new();

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_smallest_bucket_that_holds_it() {
        let histogram = Histogram::new(&[1_000, 10_000]);
        for micros in [0, 1_000, 1_001, 10_000, 10_001, 3_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.bounds, [0.001, 0.01]);
        assert_eq!(snapshot.counts, [2, 2, 2]);
        assert!((snapshot.sum - 3.022_002).abs() < 1e-9);
        histogram.observe(Duration::MAX);
        assert_eq!(histogram.snapshot().counts, [2, 2, 3]);
    }

    #[test]
    fn every_failure_of_a_command_has_a_code() {
        assert!(CODES.is_sorted());
        let before: u64 = FAILURES.iter().map(Counter::get).sum();
        for kind in [
            ErrorKind::Config,
            ErrorKind::AuthFailed,
            ErrorKind::NoPermission,
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::OutcomeUnknown,
            ErrorKind::QueueFull,
            ErrorKind::Closed,
            ErrorKind::WrongType,
            ErrorKind::ServerNotReady,
            ErrorKind::NoScript,
            ErrorKind::Server,
            ErrorKind::Unsupported,
            ErrorKind::Internal,
        ] {
            command_failed(kind);
        }
        let after: u64 = FAILURES.iter().map(Counter::get).sum();
        // All but the one that is answered by sending the script. Other tests may add to it.
        assert!(after - before >= 13);
    }
}
