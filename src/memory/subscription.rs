//! Notifications: who listens to which channel.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::lock;

/// The listeners of one engine.
#[derive(Default)]
pub(super) struct Channels(Mutex<Listeners>);

#[derive(Default)]
struct Listeners {
    next_id: u64,
    /// By channel, then by id. A channel without listeners has no entry.
    senders: HashMap<Vec<u8>, BTreeMap<u64, UnboundedSender<Bytes>>>,
}

impl Channels {
    pub(super) fn listeners(&self, channel: &[u8]) -> usize {
        lock(&self.0).senders.get(channel).map_or(0, BTreeMap::len)
    }

    pub(super) fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        let listeners = lock(&self.0);
        let Some(senders) = listeners.senders.get(channel) else { return 0 };
        let message = Bytes::copy_from_slice(message);
        // Under the mutex, so that all listeners see messages of different publishers in the same order.
        senders.values().filter(|sender| sender.send(message.clone()).is_ok()).count()
    }
}

/// A listener to one channel. Dropping it ends it.
pub struct Subscription {
    /// Weak, so that a listener ends with the engine instead of waiting for nobody.
    channels: Weak<Channels>,
    channel: Vec<u8>,
    id: u64,
    receiver: UnboundedReceiver<Bytes>,
}

impl Subscription {
    pub(super) fn new(channels: &Arc<Channels>, channel: &[u8]) -> Self {
        let (sender, receiver) = unbounded_channel();
        let mut listeners = lock(&channels.0);
        let id = listeners.next_id;
        listeners.next_id += 1;
        listeners.senders.entry(channel.to_vec()).or_default().insert(id, sender);
        Self { channels: Arc::downgrade(channels), channel: channel.to_vec(), id, receiver }
    }

    /// The next message; `None` when the engine is gone. Cancel safe: a message is never lost by dropping the
    /// future.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.receiver.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let Some(channels) = self.channels.upgrade() else { return };
        let mut listeners = lock(&channels.0);
        let Some(senders) = listeners.senders.get_mut(&self.channel) else { return };
        senders.remove(&self.id);
        if senders.is_empty() {
            listeners.senders.remove(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Engine;

    #[tokio::test]
    async fn every_listener_gets_what_is_published_after_it_came() {
        let engine = Engine::new();
        assert_eq!(engine.publish("c", b"to nobody"), 0);
        let mut first = engine.subscribe("c");
        assert_eq!(engine.publish("c", b"1"), 1);
        let mut second = engine.subscribe("c");
        let _elsewhere = engine.subscribe("d");
        assert_eq!(engine.publish("c", b"2"), 2);
        assert_eq!(first.recv().await.unwrap(), "1");
        assert_eq!(first.recv().await.unwrap(), "2");
        assert_eq!(second.recv().await.unwrap(), "2");
    }

    #[tokio::test]
    async fn a_dropped_listener_leaves_nothing_behind() {
        let engine = Engine::new();
        let first = engine.subscribe("c");
        let mut second = engine.subscribe("c");
        drop(first);
        assert_eq!(engine.publish("c", b"m"), 1);
        assert_eq!(second.recv().await.unwrap(), "m");
        drop(second);
        assert_eq!(engine.publish("c", b"m"), 0);
        assert!(lock(&engine.channels.0).senders.is_empty());
    }

    #[tokio::test]
    async fn a_listener_ends_with_the_engine() {
        let engine = Engine::new();
        let mut listener = engine.subscribe("c");
        engine.publish("c", b"last");
        drop(engine);
        assert_eq!(listener.recv().await.unwrap(), "last");
        assert_eq!(listener.recv().await, None);
    }
}
