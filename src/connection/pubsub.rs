//! Subscriptions of one connection: who listens to which channel.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A message.
    Message(Arc<[u8]>),
    /// The subscription was interrupted: messages may have been missed.
    Gap,
}

#[derive(Default)]
struct Channel {
    listeners: HashMap<u64, Listener>,
}

struct Listener {
    sender: UnboundedSender<Heard>,
    /// The server has confirmed the subscription, so that an interruption may cost it messages.
    confirmed: bool,
}

/// All subscriptions of one connection.
#[derive(Default)]
pub struct Subscriptions {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_listener: u64,
    channels: HashMap<String, Channel>,
}

/// Told when the last listener of a channel is gone.
pub type OnDeserted = Box<dyn Fn(&str) + Send + Sync>;

/// One listener. It hears everything from its creation until it is dropped.
pub struct Subscription {
    channel: String,
    listener: u64,
    receiver: UnboundedReceiver<Heard>,
    registry: Weak<Subscriptions>,
    on_deserted: OnDeserted,
}

impl Subscriptions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a listener. The caller sends SUBSCRIBE.
    pub fn listen(self: &Arc<Self>, channel: &str, on_deserted: OnDeserted) -> Subscription {
        let (sender, receiver) = unbounded_channel();
        let mut state = self.state();
        let listener = state.next_listener;
        state.next_listener += 1;
        state
            .channels
            .entry(channel.to_owned())
            .or_default()
            .listeners
            .insert(listener, Listener { sender, confirmed: false });
        Subscription {
            channel: channel.to_owned(),
            listener,
            receiver,
            registry: Arc::downgrade(self),
            on_deserted,
        }
    }

    /// Passes a message to the listeners of its channel.
    pub fn message(&self, channel: &[u8], payload: impl Into<Arc<[u8]>>) {
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        if let Some(channel) = self.state().channels.get(channel) {
            let payload: Arc<[u8]> = payload.into();
            for listener in channel.listeners.values() {
                // A listener that is being dropped hears nothing.
                let _ = listener.sender.send(Heard::Message(Arc::clone(&payload)));
            }
        }
    }

    /// A new connection took over: tells everyone, and returns the channels to subscribe to again.
    pub fn interrupted(&self) -> Vec<String> {
        let state = self.state();
        let listeners = state.channels.values().flat_map(|channel| channel.listeners.values());
        for listener in listeners.filter(|listener| listener.confirmed) {
            let _ = listener.sender.send(Heard::Gap);
        }
        state.channels.keys().cloned().collect()
    }

    /// Tells those who listen to a channel that they may have missed messages.
    pub fn gap(&self, channel: &str) {
        let state = self.state();
        let listeners =
            state.channels.get(channel).into_iter().flat_map(|channel| channel.listeners.values());
        for listener in listeners.filter(|listener| listener.confirmed) {
            let _ = listener.sender.send(Heard::Gap);
        }
    }

    /// Whether anybody listens to a channel.
    pub fn has(&self, channel: &str) -> bool {
        self.state().channels.contains_key(channel)
    }

    /// Whether nobody listens to anything.
    pub fn is_empty(&self) -> bool {
        self.state().channels.is_empty()
    }

    /// `true` if that was the channel's last listener.
    fn leave(&self, channel: &str, listener: u64) -> bool {
        let mut state = self.state();
        let Some(entry) = state.channels.get_mut(channel) else { return false };
        entry.listeners.remove(&listener);
        let deserted = entry.listeners.is_empty();
        if deserted {
            state.channels.remove(channel);
        }
        deserted
    }
}

impl Subscription {
    /// The server has confirmed the subscription.
    pub fn confirm(&self) {
        if let Some(registry) = self.registry.upgrade()
            && let Some(channel) = registry.state().channels.get_mut(&self.channel)
            && let Some(listener) = channel.listeners.get_mut(&self.listener)
        {
            listener.confirmed = true;
        }
    }

    /// The next thing heard.
    pub async fn next(&mut self) -> Option<Heard> {
        self.receiver.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade()
            && registry.leave(&self.channel, self.listener)
        {
            (self.on_deserted)(&self.channel);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn listeners_hear_their_channel_and_leave_nothing_behind() {
        let registry = Arc::new(Subscriptions::default());
        let deserted = Arc::new(AtomicUsize::new(0));
        let listen = |channel: &str| {
            let deserted = Arc::clone(&deserted);
            registry.listen(
                channel,
                Box::new(move |_| {
                    deserted.fetch_add(1, Ordering::SeqCst);
                }),
            )
        };
        let (mut first, mut second, mut other) = (listen("a"), listen("a"), listen("b"));
        let mut unconfirmed = listen("b");
        other.confirm();
        registry.message(b"a", b"1".to_vec());
        assert_eq!(first.next().await, Some(Heard::Message(Arc::from(*b"1"))));
        assert_eq!(second.next().await, Some(Heard::Message(Arc::from(*b"1"))));
        let mut channels = registry.interrupted();
        channels.sort();
        assert_eq!(channels, ["a", "b"]);
        assert_eq!(other.next().await, Some(Heard::Gap));
        registry.message(b"b", b"2".to_vec());
        assert_eq!(unconfirmed.next().await, Some(Heard::Message(Arc::from(*b"2"))));
        drop(unconfirmed);
        drop(first);
        assert_eq!(deserted.load(Ordering::SeqCst), 0);
        drop(second);
        drop(other);
        assert_eq!(deserted.load(Ordering::SeqCst), 2);
        assert!(registry.state().channels.is_empty());
    }
}
