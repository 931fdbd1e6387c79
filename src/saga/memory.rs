//! Sagas in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    CorrelationIds, Envelope, Expect, SagaStore, Write, Written, correlation_id_of, no_correlation_id,
};
use crate::error::Result;
use crate::fence::{Fence, Guard, Outcome};
use crate::key::SagaKeys;
use crate::memory::{Database, Engine};
use crate::time::Millis;

/// Sagas in one embedded engine.
#[derive(Clone)]
pub struct MemorySagas {
    engine: Arc<Engine>,
    keys: SagaKeys,
    correlation_ids: CorrelationIds,
    fence: Option<Fence>,
}

impl MemorySagas {
    /// Sagas with these keys.
    pub fn new(engine: Arc<Engine>, keys: SagaKeys) -> Self {
        Self { engine, keys, correlation_ids: CorrelationIds::new(), fence: None }
    }

    /// One write of a state, under the fence if there is one.
    fn guarded<T: Outcome>(
        &self,
        db: &mut Database,
        state: &str,
        ttl: Option<Millis>,
        write: impl FnOnce(&mut Database) -> Result<T>,
    ) -> Result<T> {
        let guard =
            self.fence.map(|fence| fence.guard([state.to_owned()], |state| self.keys.fence(state), ttl));
        Guard::around(guard.as_ref(), db, write)
    }

    fn correlation_id(&self, db: &mut Database, saga_name: &str, index: &str) -> Result<Option<String>> {
        db.get(index)?.map(|stored| correlation_id_of(&self.keys, saga_name, index, stored)).transpose()
    }

    /// The state that an index leads to, if it is of that saga: its key and bytes.
    fn indexed(
        &self,
        db: &mut Database,
        saga_name: &str,
        saga_id: &str,
    ) -> Result<Option<(String, Vec<u8>)>> {
        let index = self.keys.index(saga_name, saga_id)?;
        let Some(correlation_id) = self.correlation_id(db, saga_name, &index)? else { return Ok(None) };
        let state = self.keys.state(saga_name, &correlation_id)?;
        let Some(stored) = db.get(&state)?.map(<[u8]>::to_vec) else { return Ok(None) };
        let found = Envelope::read(&stored, &state)?.is_of(saga_id);
        Ok(found.then_some((state, stored)))
    }
}

#[async_trait]
impl SagaStore for MemorySagas {
    fn under(&self, fence: Fence) -> Arc<dyn SagaStore> {
        Arc::new(Self { fence: Some(fence), ..self.clone() })
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }

    async fn write(&self, write: &Write) -> Result<Written> {
        let index = self.keys.index(&write.saga_name, &write.saga_id)?;
        self.engine.atomically(|db| {
            let indexed = self.correlation_id(db, &write.saga_name, &index)?;
            let known = write.correlation_id.clone().or_else(|| indexed.clone());
            let Some(correlation_id) = known.or_else(|| self.correlation_ids.recall(&index)) else {
                return match write.expect {
                    Expect::Version(_) => Ok(Written::Missing),
                    _ => Err(no_correlation_id(&write.saga_id)),
                };
            };
            let state = self.keys.state(&write.saga_name, &correlation_id)?;
            let write_state = |db: &mut Database| {
                let store = |db: &mut Database, json: &[u8]| {
                    db.set(&state, json.to_vec(), write.ttl);
                    db.set(&index, correlation_id.as_bytes().to_vec(), write.ttl);
                    self.correlation_ids.remember(&index, &correlation_id);
                };
                let exists_or_missing = match write.expect {
                    Expect::Version(_) => Written::Missing,
                    _ => Written::Exists,
                };
                if indexed.is_some_and(|indexed| indexed != correlation_id)
                    && self.indexed(db, &write.saga_name, &write.saga_id)?.is_some()
                {
                    return Ok(exists_or_missing);
                }
                let Some(stored) = db.get(&state)?.map(<[u8]>::to_vec) else {
                    if let Expect::Version(_) = write.expect {
                        return Ok(Written::Missing);
                    }
                    let json = write.json_if_absent.as_ref().unwrap_or(&write.json);
                    store(db, json);
                    return Ok(Written::Inserted);
                };
                let expected = match write.expect {
                    Expect::Absent => return Ok(Written::Exists),
                    Expect::Version(version) | Expect::AbsentOrVersion(version) => version,
                };
                let envelope = Envelope::read(&stored, &state)?;
                if !envelope.is_of(&write.saga_id) {
                    return Ok(exists_or_missing);
                }
                if envelope.version() != expected {
                    return Ok(Written::Conflict { actual: envelope.version() });
                }
                store(db, &write.json);
                Ok(Written::Updated)
            };
            self.guarded(db, &state, write.ttl, write_state)
        })
    }

    async fn by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<Option<Vec<u8>>> {
        let state = self.keys.state(saga_name, correlation_id)?;
        self.engine.atomically(|db| {
            let stored = db.get(&state)?.map(<[u8]>::to_vec);
            if let Some(json) = &stored
                && let Some(saga_id) = Envelope::read(json, &state)?.saga_id()
                && let Ok(index) = self.keys.index(saga_name, saga_id)
            {
                self.correlation_ids.remember(&index, correlation_id);
            }
            Ok(stored)
        })
    }

    async fn by_id(&self, saga_name: &str, saga_id: &str) -> Result<Option<Vec<u8>>> {
        self.engine.atomically(|db| Ok(self.indexed(db, saga_name, saga_id)?.map(|(_, stored)| stored)))
    }

    async fn delete(&self, saga_name: &str, id: &str) -> Result<bool> {
        Ok(self.delete_by_id(saga_name, id).await? || self.delete_by_correlation_id(saga_name, id).await?)
    }

    async fn delete_by_id(&self, saga_name: &str, saga_id: &str) -> Result<bool> {
        let index = self.keys.index(saga_name, saga_id)?;
        self.engine.atomically(|db| {
            let Some((state, _)) = self.indexed(db, saga_name, saga_id)? else { return Ok(false) };
            let delete = |db: &mut Database| {
                db.delete(&index);
                Ok(db.delete(&state))
            };
            self.guarded(db, &state, None, delete)
        })
    }

    async fn delete_by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<bool> {
        let state = self.keys.state(saga_name, correlation_id)?;
        self.engine.atomically(|db| {
            let Some(stored) = db.get(&state)?.map(<[u8]>::to_vec) else { return Ok(false) };
            let delete = |db: &mut Database| {
                if let Some(saga_id) = Envelope::read(&stored, &state)?.saga_id() {
                    let index = self.keys.index(saga_name, saga_id)?;
                    if db.get(&index)? == Some(correlation_id.as_bytes()) {
                        db.delete(&index);
                    }
                }
                Ok(db.delete(&state))
            };
            self.guarded(db, &state, None, delete)
        })
    }
}
