//! `NativeSagas`: saga states as TypeScript holds them.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::{answer, done};
use super::connection::NativeConnection;
use super::handle::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SagaKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::saga::{self, Expect, SagaStore, Write, Written};
use crate::time::Millis;

/// Sagas under one prefix of one connection.
#[napi]
pub struct NativeSagas {
    held: Held<dyn SagaStore>,
}

/// A write of one state.
#[napi(object, object_to_js = false)]
pub struct SagaWrite {
    /// Name of the saga's type.
    pub saga_name: String,
    /// Id of the saga.
    pub saga_id: String,
    /// Correlation id, looked up by the saga id if absent.
    pub correlation_id: Option<String>,
    /// What must be stored for the write to happen: `absent`, `version` or `either`.
    pub expect: String,
    /// The version that must be stored.
    pub version: f64,
    /// The new state.
    pub json: String,
    /// The new state if none is stored, where that differs.
    pub json_if_absent: Option<String>,
    /// Milliseconds; 0 for no expiry.
    pub ttl: f64,
    /// The number of the lock's acquisition, if the write is to be refused after one with a higher number.
    pub fence: Option<f64>,
}

impl TryFrom<SagaWrite> for Write {
    type Error = Error;

    fn try_from(write: SagaWrite) -> Result<Self> {
        let invalid = |text: &str| Error::new(ErrorKind::InvalidArgument, text.to_owned());
        if !(write.version.is_finite() && write.version.fract() == 0.0) {
            return Err(invalid("the version must be a whole number"));
        }
        let ttl = Millis::zero_or_more("the time to live", write.ttl)?;
        Ok(Self {
            expect: match write.expect.as_str() {
                "absent" => Expect::Absent,
                "version" => Expect::Version(write.version),
                "either" => Expect::AbsentOrVersion(write.version),
                _ => return Err(invalid("expect must be absent, version or either")),
            },
            saga_name: write.saga_name,
            saga_id: write.saga_id,
            correlation_id: write.correlation_id,
            json: write.json.into_bytes(),
            json_if_absent: write.json_if_absent.map(String::into_bytes),
            ttl: (ttl.get() > 0).then_some(ttl),
        })
    }
}

/// `[outcome]`, or `['conflict', storedVersion]`.
fn outcome(written: Written) -> Output {
    Output::List(match written {
        Written::Updated => vec![Output::text("updated")],
        Written::Inserted => vec![Output::text("inserted")],
        Written::Exists => vec![Output::text("exists")],
        Written::Missing => vec![Output::text("missing")],
        Written::Conflict { actual } => vec![Output::text("conflict"), Output::Number(actual)],
    })
}

#[napi]
impl NativeSagas {
    /// Sagas whose keys start with `prefix`.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, prefix: String) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            saga::open(backend, SagaKeys::new(key_prefix, &prefix)?)
        })?;
        Ok(Self { held })
    }

    /// Proves that the backend answers.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn ping<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("saga.ping"), async move { store?.ping().await.map(done) })
    }

    /// Stores a state if what is stored is as expected.
    #[napi(
        ts_return_type = "Promise<['updated' | 'inserted' | 'exists' | 'missing'] | ['conflict', number]>"
    )]
    pub fn write<'env>(&self, env: &'env Env, write: SagaWrite) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(write.fence, SagaStore::under);
        let write = Write::try_from(write);
        answer(env, operation!("saga.write"), async move {
            store?.write(write.as_ref().map_err(Error::clone)?).await.map(outcome)
        })
    }

    /// The JSON stored under a correlation id.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn by_correlation_id<'env>(
        &self,
        env: &'env Env,
        saga_name: String,
        correlation_id: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("saga.byCorrelationId"), async move {
            store?.by_correlation_id(&saga_name, &correlation_id).await.map(Output::text_or_null)
        })
    }

    /// The JSON of a saga id.
    #[napi(ts_return_type = "Promise<string | null>")]
    pub fn by_id<'env>(
        &self,
        env: &'env Env,
        saga_name: String,
        saga_id: String,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("saga.byId"), async move {
            store?.by_id(&saga_name, &saga_id).await.map(Output::text_or_null)
        })
    }

    /// Deletes a saga, given its id or else its correlation id. Resolves whether there was one.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn delete<'env>(
        &self,
        env: &'env Env,
        saga_name: String,
        id: String,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, SagaStore::under);
        answer(env, operation!("saga.delete"), async move {
            store?.delete(&saga_name, &id).await.map(Output::Bool)
        })
    }

    /// Deletes a saga by its id. Resolves whether there was one.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn delete_by_id<'env>(
        &self,
        env: &'env Env,
        saga_name: String,
        saga_id: String,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, SagaStore::under);
        answer(env, operation!("saga.deleteById"), async move {
            store?.delete_by_id(&saga_name, &saga_id).await.map(Output::Bool)
        })
    }

    /// Deletes a saga by its correlation id. Resolves whether there was one.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn delete_by_correlation_id<'env>(
        &self,
        env: &'env Env,
        saga_name: String,
        correlation_id: String,
        fence: Option<f64>,
    ) -> napi::Result<Unknown<'env>> {
        let store = self.held.under(fence, SagaStore::under);
        answer(env, operation!("saga.deleteByCorrelationId"), async move {
            store?.delete_by_correlation_id(&saga_name, &correlation_id).await.map(Output::Bool)
        })
    }
}
