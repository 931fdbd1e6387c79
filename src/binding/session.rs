//! `NativeSessions`: sessions as TypeScript holds them.

use napi::{Env, Unknown};
use napi_derive::napi;

use super::arguments::answer;
use super::connection::NativeConnection;
use super::handle::Held;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SessionKeys;
use crate::metrics::operation;
use crate::runtime::Output;
use crate::session::{self, Condition, SessionStore, Stored, Write};
use crate::time::Millis;

/// Sessions on one connection.
#[napi]
pub struct NativeSessions {
    held: Held<dyn SessionStore>,
}

/// A write of a session.
#[napi(object)]
pub struct SessionWrite {
    /// Whose session it is.
    pub user_id: String,
    /// The session; absent to delete it.
    pub json: Option<String>,
    /// How long it stays, in milliseconds.
    pub ttl: f64,
    /// The version that it must have; absent for any.
    pub version: Option<f64>,
    /// When it was asked for, microseconds since 1970; absent for now.
    pub moment: Option<f64>,
    /// Tells it from all other writes of the session; letters and digits.
    pub name: String,
    /// Names of earlier writes that it takes the place of, and that may have been carried out.
    pub supersedes: Option<Vec<String>>,
}

/// The largest number that JavaScript counts to.
const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

fn micros(name: &str, number: f64) -> Result<u64> {
    if number.fract() == 0.0 && (0.0..=MAX_SAFE).contains(&number) {
        return Ok(number as u64);
    }
    Err(Error::new(ErrorKind::InvalidArgument, format!("{name} must be a whole number, not {number}")))
}

impl TryFrom<SessionWrite> for Write {
    type Error = Error;

    fn try_from(write: SessionWrite) -> Result<Self> {
        let moment = write.moment.map(|moment| micros("the moment", moment)).transpose()?;
        Ok(Self {
            condition: match write.version {
                Some(version) => Condition::Version(micros("version", version)?),
                None if moment.is_some() => Condition::Until,
                None => Condition::Any,
            },
            user_id: write.user_id,
            json: write.json.map(String::into_bytes),
            ttl: Millis::positive("ttl", write.ttl)?,
            moment,
            name: write.name,
            supersedes: write.supersedes.unwrap_or_default(),
        })
    }
}

#[napi]
impl NativeSessions {
    /// Sessions under the connection's prefix.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection) -> napi::Result<Self> {
        let held = Held::open(env, connection, |backend, key_prefix| {
            Ok(session::open(backend, SessionKeys::new(key_prefix)))
        })?;
        Ok(Self { held })
    }

    /// The session as JSON, its version, and the milliseconds that it has left (`null`: it does not end).
    #[napi(ts_return_type = "Promise<[json: string, version: number, left: number | null] | null>")]
    pub fn get<'env>(&self, env: &'env Env, user_id: String) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("session.get"), async move {
            Ok(match store?.get(&user_id).await? {
                Some(Stored { json, version, ttl }) => {
                    let left = ttl.map_or(Output::Null, |ttl| Output::Number(ttl.get() as f64));
                    Output::List(vec![Output::Text(json), Output::Number(version as f64), left])
                }
                None => Output::Null,
            })
        })
    }

    /// Stores or deletes a session. Resolves its new version, or 0 if it was written meanwhile.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn write<'env>(&self, env: &'env Env, write: SessionWrite) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("session.write"), async move {
            let version = store?.write(write.try_into()?).await?;
            Ok(Output::Number(version.unwrap_or_default() as f64))
        })
    }

    /// Gives a session new time. Resolves `false` if there is none.
    #[napi(ts_return_type = "Promise<boolean>")]
    pub fn touch<'env>(&self, env: &'env Env, user_id: String, ttl: f64) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(env, operation!("session.touch"), async move {
            store?.touch(&user_id, Millis::positive("ttl", ttl)?).await.map(Output::Bool)
        })
    }

    /// The clock that versions are made of: microseconds since 1970.
    #[napi(ts_return_type = "Promise<number>")]
    pub fn time<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let store = self.held.get();
        answer(
            env,
            operation!("session.time"),
            async move { Ok(Output::Number(store?.time().await? as f64)) },
        )
    }
}
