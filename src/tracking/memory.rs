//! Tracking in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Expect, Membership, Page, Replaced, Replacement, Statistics, TrackingStore, announcement, cut};
use crate::error::Result;
use crate::key::TrackingKeys;
use crate::memory::{Database, Engine};
use crate::time::Millis;

/// Executions in one embedded engine.
pub struct MemoryTracking {
    engine: Arc<Engine>,
    keys: TrackingKeys,
    active: String,
    channel: String,
}

impl MemoryTracking {
    /// Executions with these keys.
    pub fn new(engine: Arc<Engine>, keys: TrackingKeys) -> Self {
        let (active, channel) = (keys.active(), keys.channel(0).name);
        Self { engine, keys, active, channel }
    }

    fn ids(&self, db: &mut Database) -> Result<Vec<String>> {
        let members = db.members(&self.active)?.into_iter().flatten();
        Ok(members.map(|id| String::from_utf8_lossy(id).into_owned()).collect())
    }

    /// As with MGET, an entry of another type is no value.
    fn state(&self, db: &mut Database, id: &str) -> Option<Vec<u8>> {
        db.get(self.keys.state_of_member(id)).ok().flatten().map(<[u8]>::to_vec)
    }
}

#[async_trait]
impl TrackingStore for MemoryTracking {
    async fn replace(&self, replacement: Replacement) -> Result<Replaced> {
        let Replacement { execution_id, expect, json, ttl, membership } = replacement;
        let state = self.keys.state(&execution_id)?;
        let announced = announcement(&execution_id, json.as_deref());
        let replaced = self.engine.atomically(|db| {
            let stored = db.get(&state)?;
            let expected = match &expect {
                Expect::Any => true,
                Expect::Absent => stored.is_none(),
                Expect::Bytes(bytes) => stored == Some(bytes.as_slice()),
            };
            if !expected {
                return Ok(Replaced::Differs(stored.map(<[u8]>::to_vec)));
            }
            match membership {
                Membership::Add => drop(db.members_mut(&self.active)?.insert(execution_id.into_bytes())),
                Membership::Remove => drop(db.members_mut(&self.active)?.remove(execution_id.as_bytes())),
                Membership::Keep => {}
            }
            match json {
                Some(json) => db.set(&state, json, Some(ttl)),
                None => drop(db.delete(&state)),
            }
            Ok(Replaced::Stored)
        })?;
        if replaced == Replaced::Stored {
            self.engine.publish(&self.channel, &announced);
        }
        Ok(replaced)
    }

    async fn load(&self, execution_ids: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.engine.atomically(|db| {
            if let [id] = execution_ids {
                return Ok(vec![db.get(self.keys.state(id)?)?.map(<[u8]>::to_vec)]);
            }
            execution_ids
                .iter()
                .map(|id| {
                    self.keys.state(id)?;
                    Ok(self.state(db, id))
                })
                .collect()
        })
    }

    async fn refresh(&self, execution_id: &str, ttl: Millis) -> Result<bool> {
        let state = self.keys.state(execution_id)?;
        Ok(self.engine.atomically(|db| match db.ttl(&state) {
            None => false,
            Some(Some(left)) if left < ttl => db.expire(&state, ttl),
            Some(_) => true,
        }))
    }

    async fn set_active(&self, execution_id: &str, active: bool) -> Result<()> {
        self.keys.state(execution_id)?;
        self.engine.atomically(|db| {
            let members = db.members_mut(&self.active)?;
            if active {
                members.insert(execution_id.as_bytes().to_vec());
            } else {
                members.remove(execution_id.as_bytes());
            }
            Ok(())
        })
    }

    async fn active(&self) -> Result<Vec<String>> {
        let mut ids = self.engine.atomically(|db| self.ids(db))?;
        ids.sort_unstable();
        Ok(ids)
    }

    async fn page(&self, after: Option<String>, limit: usize) -> Result<Page> {
        self.engine.atomically(|db| {
            let (total, ids, more) = cut(self.ids(db)?, after.as_deref(), limit);
            let rows = ids.into_iter().map(|id| {
                let state = self.state(db, &id);
                (id, state)
            });
            Ok(Page { total, rows: rows.collect(), more })
        })
    }

    async fn statistics(&self) -> Result<Statistics> {
        self.engine.atomically(|db| {
            let mut statistics = Statistics::default();
            for id in self.ids(db)? {
                let state = self.state(db, &id);
                statistics.count(id, state.as_deref());
            }
            Ok(statistics)
        })
    }

    async fn drop_ghosts(&self, execution_ids: &[String]) -> Result<u64> {
        self.engine.atomically(|db| {
            let mut dropped = 0;
            for id in execution_ids {
                if self.state(db, id).is_none() {
                    dropped += u64::from(db.members_mut(&self.active)?.remove(id.as_bytes()));
                }
            }
            Ok(dropped)
        })
    }

    async fn prove_writable(&self, _instance: &str) -> Result<()> {
        Ok(())
    }

    async fn meet_instances(&self, _instance: Option<&str>) -> Result<bool> {
        // It is in this process and never out of reach.
        Ok(false)
    }

    async fn issue_ticket(&self, ticket: &str, json: Vec<u8>, ttl: Millis) -> Result<()> {
        let ticket = self.keys.ticket(ticket)?;
        self.engine.atomically(|db| db.set(&ticket, json, Some(ttl)));
        Ok(())
    }

    async fn take_ticket(&self, ticket: &str) -> Result<Option<Vec<u8>>> {
        let ticket = self.keys.ticket(ticket)?;
        self.engine.atomically(|db| {
            let issued = db.get(&ticket)?.map(<[u8]>::to_vec);
            db.delete(&ticket);
            Ok(issued)
        })
    }

    fn channel(&self) -> &str {
        &self.channel
    }
}
