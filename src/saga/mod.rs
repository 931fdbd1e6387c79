//! Saga states under optimistic concurrency: a state is a JSON string under its correlation id, and an index leads
//! from the saga id to it (the layout of @saga-bus/store-redis). The state's bytes come from JavaScript and are
//! stored as they are; Rust only reads the version and the saga id.
//!
//! The index is written together with the state, but a server may evict either; so the state is decisive, and
//! readers verify what an index says.

use std::borrow::Cow;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::{Error, ErrorKind, Result};
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

/// Sagas in one backend.
#[async_trait]
pub trait SagaStore: Send + Sync {
    /// Proves that the backend answers.
    async fn ping(&self) -> Result<()>;

    /// Stores a state if what is stored is as expected, as one atomic step together with index and TTL.
    async fn write(&self, write: Write) -> Result<Written>;

    /// The state of a correlation id.
    async fn by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<Option<Vec<u8>>>;

    /// The state of a saga id.
    async fn by_id(&self, saga_name: &str, saga_id: &str) -> Result<Option<Vec<u8>>>;

    /// Deletes state and index of a saga id. `false` if there is no such saga.
    async fn delete_by_id(&self, saga_name: &str, saga_id: &str) -> Result<bool>;

    /// Deletes state and index of a correlation id. `false` if there is no such saga.
    async fn delete_by_correlation_id(&self, saga_name: &str, correlation_id: &str) -> Result<bool>;
}

/// The store for a backend.
pub fn open(backend: &Backend, keys: SagaKeys) -> Arc<dyn SagaStore> {
    match backend {
        Backend::Server(client) => Arc::new(redis::RedisSagas::new(Arc::clone(client), keys)),
        Backend::Memory(engine) => Arc::new(memory::MemorySagas::new(Arc::clone(engine), keys)),
    }
}

/// The part of a stored state that the store itself looks at.
#[derive(Debug, Default, Deserialize)]
struct Envelope<'json> {
    #[serde(borrow, default)]
    metadata: Option<Metadata<'json>>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata<'json> {
    #[serde(rename = "sagaId", borrow, default)]
    saga_id: Option<Cow<'json, str>>,
    #[serde(default)]
    version: Option<f64>,
}

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

/// How much of a corrupt entry an error shows.
const SHOWN_BYTES: usize = 64;

fn corrupt(bytes: &[u8], key: &str) -> Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]);
    Error::new(ErrorKind::CorruptEntry, format!("the saga stored under {key:?} is not valid JSON: {shown:?}"))
        .about(key)
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
        let json = format!(r#"{{"lone":"\ud800","deep":{deep},"metadata":{{"version":3,"sagaId":"ü\n"}}}}"#);
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
    fn corrupt_bytes_are_named_and_shown_in_part() {
        let error = Envelope::read("x".repeat(500).as_bytes(), "the key").unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::CorruptEntry, Some("the key")));
        assert!(error.message().len() < 200);
    }
}
