//! Signals between processes: short messages on a channel, to everyone who listens at that moment.
//!
//! Delivery is at most once by nature of pub/sub. Whoever listens hears of every interruption ([`Signal::Gap`]), and
//! can then look for what it may have missed.

use std::sync::Arc;

use async_trait::async_trait;

pub mod memory;
pub mod redis;

use crate::connection::Backend;
use crate::error::Result;
use crate::key::{OwnChannel, check_name};

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signal {
    /// A message.
    Message(Vec<u8>),
    /// The connection was interrupted; messages may have been missed.
    Gap,
}

/// One channel in one backend.
#[async_trait]
pub trait SignalChannel: Send + Sync {
    /// Sends messages, all in one round trip. After a lost reply they are sent again: hearing a signal twice is
    /// harmless, missing one is not.
    async fn publish(&self, messages: Vec<Vec<u8>>) -> Result<()>;

    /// Listens from the moment this resolves.
    async fn subscribe(&self) -> Result<Box<dyn SignalListener>>;
}

/// A listener; dropping it ends it.
#[async_trait]
pub trait SignalListener: Send {
    /// The next signal; `None` when the backend is gone.
    async fn next(&mut self) -> Option<Signal>;
}

/// The channel of a backend. One that is `own` is used by nobody else, and so it may be sharded in a cluster.
pub fn open(backend: &Backend, channel: &str, own: bool) -> Result<Arc<dyn SignalChannel>> {
    check_name("channel", channel)?;
    let channel = channel.to_owned();
    Ok(match backend {
        Backend::Server(client) if own => {
            let channel = OwnChannel { sharded: channel.clone(), name: channel };
            Arc::new(redis::RedisOwnChannel::new(Arc::clone(client), channel))
        }
        Backend::Server(client) => Arc::new(redis::RedisChannel::new(Arc::clone(client), channel)),
        Backend::Memory(engine) => Arc::new(memory::MemoryChannel::new(Arc::clone(engine), channel)),
    })
}
