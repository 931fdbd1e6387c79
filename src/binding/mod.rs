//! The only code that JavaScript sees: it converts arguments and delegates. One file a domain.

mod arguments;
mod bound;
pub mod cache;
pub mod connection;
mod handle;
pub mod hold;
pub mod journal;
pub mod lock;
pub mod metrics;
pub mod nat_map;
pub mod saga;
pub mod session;
pub mod signal;
pub mod task_store;
pub mod tracking;
pub mod workflow;

use napi_derive::napi;

use crate::runtime::Environment;

/// Runs once per environment, when the addon is loaded into it.
#[napi(module_exports)]
pub fn attach(_exports: napi::bindgen_prelude::Object, env: napi::Env) -> napi::Result<()> {
    Environment::attach(&env)
}
