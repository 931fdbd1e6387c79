//! Signals within the process.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Signal, SignalChannel, SignalListener};
use crate::error::Result;
use crate::memory::{Engine, Subscription};

/// One channel of one embedded engine.
pub struct MemoryChannel {
    engine: Arc<Engine>,
    channel: String,
}

impl MemoryChannel {
    /// A channel.
    pub fn new(engine: Arc<Engine>, channel: String) -> Self {
        Self { engine, channel }
    }
}

#[async_trait]
impl SignalChannel for MemoryChannel {
    async fn publish(&self, messages: Vec<Vec<u8>>) -> Result<()> {
        for message in messages {
            self.engine.publish(&self.channel, &message);
        }
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn SignalListener>> {
        Ok(Box::new(MemoryListener(self.engine.subscribe(&self.channel))))
    }
}

struct MemoryListener(Subscription);

#[async_trait]
impl SignalListener for MemoryListener {
    async fn next(&mut self) -> Option<Signal> {
        Some(Signal::Message(self.0.recv().await?.to_vec()))
    }
}
