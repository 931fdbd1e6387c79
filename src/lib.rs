//! The native core of ferroflow: workflow state, locks and sagas in Redis or in memory, for Node.
//!
//! # Layout
//!
//! - [`error`]: the one error type; its kind decides the code that JavaScript sees.
//! - [`key`]: every key format, and the check of every name that becomes part of a key.
//! - [`fence`]: the number of a lock's acquisition, and what it refuses.
//! - [`script`]: Lua scripts and how they are called.
//! - [`time`]: checked milliseconds and a clock that counts suspend.
//! - [`metrics`]: what is counted, and the snapshot of it.
//! - [`runtime`]: the I/O thread and the way of a call from JavaScript to it and back.
//! - [`connection`]: a target becomes a connection; commands of one tick leave as one pipeline.
//! - [`memory`]: the embedded engine behind `memory://`.
//! - [`workflow`], [`lock`], [`saga`], [`signal`], [`cache`], [`task_store`], [`session`], [`tracking`]: one folder a
//!   domain, each a trait with a Redis and a memory implementation. `workflow` has two: the documented state, and the journal of today's engine.
//! - [`binding`]: the only code that JavaScript sees; it converts and delegates.

#![warn(missing_docs)]

pub mod binding;
pub mod cache;
pub mod connection;
pub mod error;
pub mod fence;
pub mod key;
pub mod lock;
pub mod memory;
pub mod metrics;
pub mod runtime;
pub mod saga;
pub mod script;
pub mod session;
pub mod signal;
pub mod task_store;
pub mod time;
pub mod tracking;
pub mod workflow;

/// Calls are made on one thread and settled on another, which costs the system's allocator a lock and a search each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
