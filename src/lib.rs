//! The native core of ferroflow: workflow state, locks and sagas in Redis or in memory, for Node.
//!
//! # Layout
//!
//! - [`error`]: the one error type; its kind decides the code that JavaScript sees.
//! - [`key`]: every key format, and the check of every name that becomes part of a key.
//! - [`time`]: checked milliseconds and a clock that counts suspend.
//! - [`connection`]: a target becomes a connection; commands of one tick leave as one pipeline.
//! - [`memory`]: the embedded engine behind `memory://`.

#![warn(missing_docs)]

pub mod connection;
pub mod error;
pub mod key;
pub mod memory;
pub mod time;
