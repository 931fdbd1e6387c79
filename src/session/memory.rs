//! Sessions in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Condition, Record, SessionStore, Stored, Write, record_ttl, version_of};
use crate::error::Result;
use crate::key::SessionKeys;
use crate::memory::Engine;
use crate::time::Millis;

/// Sessions in one embedded engine.
pub struct MemorySessions {
    engine: Arc<Engine>,
    keys: SessionKeys,
}

impl MemorySessions {
    /// Sessions with these keys.
    pub fn new(engine: Arc<Engine>, keys: SessionKeys) -> Self {
        Self { engine, keys }
    }
}

#[async_trait]
impl SessionStore for MemorySessions {
    async fn get(&self, user_id: &str) -> Result<Option<Stored>> {
        let session = self.keys.session(user_id)?;
        let record = self.keys.record(&session);
        self.engine.atomically(|db| {
            let Some(json) = db.get(&session)?.map(<[u8]>::to_vec) else { return Ok(None) };
            let version = version_of(db.get(&record)?.and_then(Record::read));
            Ok(Some(Stored { json, version, ttl: db.ttl(&session).flatten() }))
        })
    }

    async fn write(&self, write: Write) -> Result<Option<u64>> {
        let session = self.keys.session(&write.user_id)?;
        let record = self.keys.record(&session);
        self.engine.atomically(|db| {
            let exists = db.exists(&session);
            let known = db.get(&record)?.and_then(Record::read);
            let Record { last, born, dead } = known.unwrap_or_default();
            match (write.condition, write.moment) {
                (Condition::Version(expected), _) => {
                    let version = if exists { version_of(known) } else { 0 };
                    let later = write.moment.is_some_and(|moment| expected == 0 && last > moment);
                    if version != expected || later {
                        return Ok(None);
                    }
                }
                (Condition::Until, Some(moment)) => {
                    // A later write that goes back to a login before the logout does not save the session.
                    let later = match write.json {
                        Some(_) => last,
                        None if exists && !dead => born,
                        None => 0,
                    };
                    if later > moment {
                        return Ok(None);
                    }
                }
                _ => {}
            }
            let version = match write.moment {
                Some(moment) => moment.max(last + 1),
                None => db.unix_micros().max(last + 1),
            };
            // Who names the version of a session goes on with it; everybody else begins a new one.
            let since = match write.condition {
                Condition::Version(expected) if expected > 0 => {
                    if dead {
                        0
                    } else {
                        born
                    }
                }
                _ => version,
            };
            let entry = Record { last: version, born: since, dead: write.json.is_none() };
            db.set(&record, entry.text(), Some(record_ttl(write.ttl)));
            match write.json {
                Some(json) => db.set(&session, json, Some(write.ttl)),
                None => drop(db.delete(&session)),
            }
            Ok(Some(version))
        })
    }

    async fn touch(&self, user_id: &str, ttl: Millis) -> Result<bool> {
        let session = self.keys.session(user_id)?;
        let record = self.keys.record(&session);
        Ok(self.engine.atomically(|db| {
            let exists = db.expire(&session, ttl);
            if exists {
                db.expire(&record, record_ttl(ttl));
            }
            exists
        }))
    }

    async fn time(&self) -> Result<u64> {
        Ok(self.engine.atomically(|db| db.unix_micros()))
    }
}
