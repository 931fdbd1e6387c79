//! Sessions in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Condition, SessionStore, Stored, Write, read_record, record_ttl, version_of};
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
            Ok(Some(Stored { json, version: version_of(db.get(&record)?) }))
        })
    }

    async fn write(&self, write: Write) -> Result<Option<u64>> {
        let session = self.keys.session(&write.user_id)?;
        let record = self.keys.record(&session);
        self.engine.atomically(|db| {
            let exists = db.exists(&session);
            let known = db.get(&record)?.map(<[u8]>::to_vec);
            let (last, _) = known.as_deref().and_then(read_record).unwrap_or_default();
            match (write.condition, write.moment) {
                (Condition::Version(expected), _) => {
                    let version = if exists { version_of(known.as_deref()) } else { 0 };
                    if version != expected {
                        return Ok(None);
                    }
                }
                (Condition::Until, Some(moment)) if last > moment && (exists || write.json.is_some()) => {
                    return Ok(None);
                }
                _ => {}
            }
            let version = match write.moment {
                Some(moment) => moment.max(last),
                None => db.unix_micros().max(last + 1),
            };
            let kept = Some(record_ttl(write.ttl));
            match write.json {
                Some(json) => {
                    db.set(&session, json, Some(write.ttl));
                    db.set(&record, version.to_string().into_bytes(), kept);
                }
                None => {
                    db.delete(&session);
                    db.set(&record, format!("-{version}").into_bytes(), kept);
                }
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
