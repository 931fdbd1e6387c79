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
    /// How long it stays; nothing for ever.
    pub ttl: Option<Millis>,
}

/// What a write requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Any,
    /// The session has this version; 0: there is none.
    Version(u64),
    /// Nobody wrote or deleted it later than the moment at which the write was asked for. For a deletion: nobody logged
    /// in later, as a write that goes on with the session does not save it from its logout.
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
    /// Tells it from all other writes of the session, letters and digits: who asks for it twice has it once.
    pub name: String,
    /// Names of earlier writes that it takes the place of, and that may have been carried out: going on from one of them
    /// is going on from what they required, and a copy of them that comes late does nothing.
    pub supersedes: Vec<String>,
}

/// A record tells of a deletion for at least this long.
const RECORD_TTL: Millis = Millis::new(24 * 60 * 60 * 1000);

fn record_ttl(ttl: Millis) -> Millis {
    ttl.max(RECORD_TTL)
}

/// What a record says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Record {
    /// When the session was written or deleted last.
    last: u64,
    /// The login that it goes back to.
    born: u64,
    /// Whether the last write was a deletion.
    dead: bool,
}

impl Record {
    fn read(record: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(record).ok()?;
        // Behind it are the names of the latest writes.
        let text = text.split_once(';').map_or(text, |(text, _)| text);
        if let Some(digits) = text.strip_prefix('-') {
            let last = digits.parse().ok()?;
            return Some(Self { last, born: last, dead: true });
        }
        let (last, born) = text.split_once(' ').unwrap_or((text, text));
        Some(Self { last: last.parse().ok()?, born: born.parse().ok()?, dead: false })
    }

    fn text(self) -> Vec<u8> {
        let Self { last, born, dead } = self;
        if dead { format!("-{last}") } else { format!("{last} {born}") }.into_bytes()
    }
}

/// The version of a session that exists, by its record.
fn version_of(record: Option<Record>) -> u64 {
    record.filter(|record| !record.dead).map_or(1, |record| record.last)
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
        let read = |text: &str| Record::read(text.as_bytes());
        assert_eq!(read("17 5"), Some(Record { last: 17, born: 5, dead: false }));
        assert_eq!(read("17"), Some(Record { last: 17, born: 17, dead: false }));
        assert_eq!(read("-17"), Some(Record { last: 17, born: 17, dead: true }));
        assert_eq!(read("17 5;a1:17;b2:17"), read("17 5"));
        assert_eq!(read("-17;a1:17"), read("-17"));
        for nonsense in ["", "-", "x", "1.5", "1 x"] {
            assert_eq!(read(nonsense), None);
        }
        for text in ["17 5", "-17"] {
            assert_eq!(read(text).unwrap().text(), text.as_bytes());
        }
        assert_eq!((version_of(None), version_of(read("-5")), version_of(read("5 2"))), (1, 1, 5));
    }
}
