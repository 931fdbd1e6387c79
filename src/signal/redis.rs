//! Signals through a server's pub/sub.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Signal, SignalChannel, SignalListener};
use crate::connection::client::Client;
use crate::connection::command::Command;
use crate::connection::pubsub::{Heard, Subscription};
use crate::error::Result;
use crate::key::OwnChannel;

/// One channel of one server.
pub struct RedisChannel {
    client: Arc<Client>,
    channel: String,
}

impl RedisChannel {
    /// A channel. ioredis' `keyPrefix` does not apply to channels, as in ioredis.
    pub fn new(client: Arc<Client>, channel: String) -> Self {
        Self { client, channel }
    }
}

#[async_trait]
impl SignalChannel for RedisChannel {
    async fn publish(&self, messages: Vec<Vec<u8>>) -> Result<()> {
        let call = self.client.call();
        let commands = messages
            .into_iter()
            .map(|message| Command::new("PUBLISH").arg(&self.channel).arg(message).repeatable());
        for outcome in call.commands(commands).await {
            outcome?;
        }
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn SignalListener>> {
        Ok(Box::new(RedisListener(self.client.subscribe(&self.channel).await?)))
    }
}

/// One channel of one server or cluster that only we use.
pub struct RedisOwnChannel {
    client: Arc<Client>,
    channel: OwnChannel,
}

impl RedisOwnChannel {
    /// A channel.
    pub fn new(client: Arc<Client>, channel: OwnChannel) -> Self {
        Self { client, channel }
    }
}

#[async_trait]
impl SignalChannel for RedisOwnChannel {
    async fn publish(&self, messages: Vec<Vec<u8>>) -> Result<()> {
        messages.into_iter().for_each(|message| self.client.announce(&self.channel, message));
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn SignalListener>> {
        Ok(Box::new(RedisListener(self.client.listen(&self.channel).await?)))
    }
}

struct RedisListener(Subscription);

#[async_trait]
impl SignalListener for RedisListener {
    async fn next(&mut self) -> Option<Signal> {
        Some(match self.0.next().await? {
            Heard::Message(payload) => Signal::Message(payload.to_vec()),
            Heard::Gap => Signal::Gap,
        })
    }
}
