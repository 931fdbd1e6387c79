//! Sessions: a JSON string for each user, and beside it a record of when it was written or deleted last.
//!
//! The record makes a version of the session, and outlives it: so a slow request cannot undo a logout, and a write that
//! waited for the server to return cannot undo what happened meanwhile.

use std::sync::Arc;

use async_trait::async_trait;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::key::SessionKeys;
use crate::time::Millis;

/// A stored session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The session.
    pub json: Vec<u8>,
    /// When it was written, microseconds since 1970; 1 if somebody wrote it who keeps no record.
    pub version: u64,
}

/// What a write requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// The session has this version; 0: there is none.
    Version(u64),
    /// Nobody wrote or deleted it later than the moment at which the write was asked for.
    Until,
}

/// A write of a session.
#[derive(Debug, Clone)]
pub struct Write {
    /// Whose session it is.
    pub user_id: String,
    /// The session; nothing to delete it.
    pub json: Option<Vec<u8>>,
    /// How long it stays.
    pub ttl: Millis,
    /// What must be so for the write to happen.
    pub condition: Condition,
    /// When it was asked for, microseconds since 1970 by the server's clock; nothing for now.
    pub moment: Option<u64>,
}

/// A record tells of a deletion for at least this long.
const RECORD_TTL: Millis = Millis::new(24 * 60 * 60 * 1000);

fn record_ttl(ttl: Millis) -> Millis {
    ttl.max(RECORD_TTL)
}

/// What a record says: when, and whether that was a deletion.
fn read_record(record: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(record).ok()?;
    match text.strip_prefix('-') {
        Some(digits) => Some((digits.parse().ok()?, true)),
        None => Some((text.parse().ok()?, false)),
    }
}

/// The version of a session that exists, by its record.
fn version_of(record: Option<&[u8]>) -> u64 {
    match record.and_then(read_record) {
        Some((version, false)) => version,
        _ => 1,
    }
}

/// Sessions in one backend.
#[async_trait]
pub trait SessionStore: Send + Sync {
    /// The session of a user.
    async fn get(&self, user_id: &str) -> Result<Option<Stored>>;

    /// Stores or deletes a session. The new version, or nothing if the condition did not hold.
    async fn write(&self, write: Write) -> Result<Option<u64>>;

    /// Gives a session new time. `false` if there is none.
    async fn touch(&self, user_id: &str, ttl: Millis) -> Result<bool>;

    /// The clock that versions are made of: microseconds since 1970.
    async fn time(&self) -> Result<u64>;
}

/// The sessions of a backend.
pub fn open(backend: &Backend, keys: SessionKeys) -> Arc<dyn SessionStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisSessions::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemorySessions::new(Arc::clone(engine), keys)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_when_and_whether_it_was_a_deletion() {
        assert_eq!(read_record(b"17"), Some((17, false)));
        assert_eq!(read_record(b"-17"), Some((17, true)));
        for nonsense in [&b""[..], b"-", b"x", b"\xff", b"1.5"] {
            assert_eq!(read_record(nonsense), None);
        }
        assert_eq!((version_of(None), version_of(Some(b"-5")), version_of(Some(b"5"))), (1, 1, 5));
    }
}
