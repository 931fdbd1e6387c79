//! Connections.

pub mod reply;
