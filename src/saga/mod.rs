//! Saga states under optimistic concurrency: a state is a JSON string under its correlation id, and an index leads
//! from the saga id to it (the layout of @saga-bus/store-redis). The state's bytes come from JavaScript and are
//! stored as they are; Rust only reads the version and the saga id.
//!
//! The index is written together with the state, but a server may evict either, and in a cluster they may lie apart and
//! are written one after the other ([`index`]); so the state is decisive, and readers verify what an index says.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use lru::LruCache;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

mod delete;
mod index;
pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::{Error, ErrorKind, Result};
use crate::fence::{Fence, Outcome};
use crate::key::SagaKeys;
use crate::time::Millis;

/// What a write requires of the stored state.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expect {
    /// There is none.
    Absent,
    /// There is one of this version.
    Version(f64),
    /// There is none, or one of this version.
    AbsentOrVersion(f64),
}

/// A write of one state.
#[derive(Debug, Clone)]
pub struct Write {
    /// Name of the saga's type.
    pub saga_name: String,
    /// Id of the saga.
    pub saga_id: String,
    /// Correlation id; looked up by the saga id if the caller does not know it.
    pub correlation_id: Option<String>,
    /// What must be stored for the write to happen.
    pub expect: Expect,
    /// The new state.
    pub json: Vec<u8>,
    /// The new state if none was stored, where that differs.
    pub json_if_absent: Option<Vec<u8>>,
    /// Time to live of state and index.
    pub ttl: Option<Millis>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Written {
    /// Stored over a state of the expected version.
    Updated,
    /// Stored where there was none.
    Inserted,
    /// There is a state already, or the saga id belongs to another correlation id.
    Exists,
    /// There is no such saga.
    Missing,
    /// The stored version is another.
    Conflict {
        /// The stored version.
        actual: f64,
    },
}

impl Outcome for Written {
    fn mistaken(&self) -> bool {
        matches!(self, Self::Exists | Self::Missing)
    }
}

/// Sagas in one backend.
#[async_trait]
pub trait SagaStore: Send + Sync {
    /// The same sagas, written under a fence: one lower than what a saga was last written under is `StaleFence`.
    fn under(&self, fence: Fence) -> Arc<dyn SagaStore>;

    /// Proves that the backend answers.
    async fn ping(&self) -> Result<()>;

    /// Stores a state with its TTL if what is stored is as expected, as one atomic step. The index is written in the
    /// same step if it lies in the same slot, and otherwise before it.
    async fn write(&self, write: &Write) -> Result<Written>;

    /// The state of a correlation id.
    async fn by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<Option<Vec<u8>>>;

    /// The state of a saga id.
    async fn by_id(&self, saga_name: &str, saga_id: &str) -> Result<Option<Vec<u8>>>;

    /// Deletes a saga, given its id or else its correlation id. `false` if there is neither.
    async fn delete(&self, saga_name: &str, id: &str) -> Result<bool>;

    /// Deletes state and index of a saga id. `false` if there is no such saga.
    async fn delete_by_id(&self, saga_name: &str, saga_id: &str) -> Result<bool>;

    /// Deletes state and index of a correlation id. `false` if there is no such saga.
    async fn delete_by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<bool>;
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: SagaKeys) -> Result<Arc<dyn SagaStore>> {
    Ok(match backend {
        Backend::Server(client) => {
            let keys = if client.is_cluster() { keys.in_cluster()? } else { keys };
            Arc::new(redis::RedisSagas::new(Arc::clone(client), keys))
        }
        Backend::Memory(engine) => Arc::new(memory::MemorySagas::new(Arc::clone(engine), keys)),
    })
}

/// The part of a stored state that the store itself looks at.
#[derive(Debug, Default)]
struct Envelope<'json> {
    metadata: Option<Metadata<'json>>,
}

#[derive(Debug, Default)]
struct Metadata<'json> {
    saga_id: Option<Cow<'json, str>>,
    version: Option<f64>,
}

/// A field name. As bytes, since names that nobody asks for may hold what is no Unicode, such as a lone surrogate.
#[derive(Deserialize)]
struct Name<'json>(#[serde(borrow, with = "serde_bytes")] Cow<'json, [u8]>);

/// Reads an object field by field; anything else, a list for instance, is refused.
macro_rules! deserialize_object {
    ($type:ident { $($name:literal => $field:ident),+ }) => {
        impl<'de> Deserialize<'de> for $type<'de> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                struct Fields;
                impl<'de> Visitor<'de> for Fields {
                    type Value = $type<'de>;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("an object")
                    }

                    fn visit_map<M: MapAccess<'de>>(
                        self,
                        mut map: M,
                    ) -> std::result::Result<Self::Value, M::Error> {
                        let mut object = $type::default();
                        while let Some(Name(name)) = map.next_key()? {
                            match &*name {
                                $($name => object.$field = map.next_value()?,)+
                                _ => drop(map.next_value::<IgnoredAny>()?),
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Fields)
            }
        }
    };
}

deserialize_object!(Envelope { b"metadata" => metadata });
deserialize_object!(Metadata { b"sagaId" => saga_id, b"version" => version });

impl<'json> Envelope<'json> {
    /// Reads a stored state, or says that its bytes are not one.
    fn read(json: &'json [u8], key: &str) -> Result<Self> {
        serde_json::from_slice(json).map_err(|_| corrupt(json, key))
    }

    /// A state without a version counts as version 0.
    fn version(&self) -> f64 {
        self.metadata.as_ref().and_then(|metadata| metadata.version).unwrap_or(0.0)
    }

    fn saga_id(&self) -> Option<&str> {
        self.metadata.as_ref().and_then(|metadata| metadata.saga_id.as_deref())
    }

    /// Whether the state is of this saga. A state that does not say is taken at its index's word.
    fn is_of(&self, saga_id: &str) -> bool {
        self.saga_id().is_none_or(|stored| stored == saga_id)
    }
}

/// Correlation ids by index key, so that an update by saga id needs no look-up first, and works where the index was
/// evicted. Hints: whoever uses one verifies it.
#[derive(Clone)]
struct CorrelationIds(Arc<Mutex<LruCache<String, String>>>);

const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(9_999);

impl CorrelationIds {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(REMEMBERED))))
    }

    fn known(&self) -> MutexGuard<'_, LruCache<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, index: &str, correlation_id: &str) {
        let mut known = self.known();
        if known.get(index).is_none_or(|known| known != correlation_id) {
            known.put(index.to_owned(), correlation_id.to_owned());
        }
    }

    fn recall(&self, index: &str) -> Option<String> {
        self.known().get(index).cloned()
    }

    fn forget(&self, index: &str) {
        self.known().pop(index);
    }
}

/// The correlation id that an index holds. An index that holds something else is corrupt.
fn correlation_id_of(keys: &SagaKeys, saga_name: &str, index: &str, stored: &[u8]) -> Result<String> {
    let id = std::str::from_utf8(stored).ok().filter(|id| keys.state(saga_name, id).is_ok());
    id.map(str::to_owned).ok_or_else(|| {
        let shown = String::from_utf8_lossy(&stored[..stored.len().min(SHOWN_BYTES)]);
        let text = format!("the index entry {index:?} holds no correlation id: {shown:?}");
        Error::new(ErrorKind::CorruptEntry, text).about(index)
    })
}

/// How much of a corrupt entry an error shows.
const SHOWN_BYTES: usize = 64;

fn corrupt(bytes: &[u8], key: &str) -> Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
    Error::new(ErrorKind::CorruptEntry, format!("the entry {key:?} is no saga as JSON: {shown:?}")).about(key)
}

fn no_correlation_id(saga_id: &str) -> Error {
    Error::new(
        ErrorKind::InvalidArgument,
        format!("saga {saga_id:?} is not stored yet, so its state needs a correlationId"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_read_whatever_else_the_state_holds() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let json = format!(
            r#"{{"lone":"\ud800","\udc00":1,"deep":{deep},"metadata":{{"version":3,"sagaId":"ü\n"}}}}"#
        );
        let envelope = Envelope::read(json.as_bytes(), "k").unwrap();
        assert_eq!(envelope.version(), 3.0);
        assert!(envelope.is_of("ü\n") && !envelope.is_of("x"));
    }

    #[test]
    fn absent_metadata_counts_as_version_0_of_any_saga() {
        for json in ["{}", r#"{"metadata":null}"#, r#"{"metadata":{}}"#] {
            let envelope = Envelope::read(json.as_bytes(), "k").unwrap();
            assert_eq!(envelope.version(), 0.0);
            assert!(envelope.is_of("x"));
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        for json in [
            "[]",
            "7",
            "null",
            r#"{"metadata":[]}"#,
            r#"{"metadata":{"version":"3"}}"#,
            r#"{"metadata":{"sagaId":7}}"#,
        ] {
            assert!(Envelope::read(json.as_bytes(), "k").is_err(), "{json}");
        }
    }

    #[test]
    fn corrupt_bytes_are_named_and_shown_in_part() {
        let error = Envelope::read("x".repeat(500).as_bytes(), "the key").unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::CorruptEntry, Some("the key")));
        assert!(error.message().len() < 200);
    }
}
