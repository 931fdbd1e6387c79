//! `NativeSignals` and `NativeSubscription`: a channel as TypeScript holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi::{Env, Unknown};
use napi_derive::napi;
use tokio::sync::{oneshot, watch};

use super::arguments::{answer, done};
use super::connection::{NativeConnection, next_id};
use super::handle::Held;
use crate::error::{Error, ErrorKind};
use crate::metrics::operation;
use crate::runtime::{Environment, Output, io_thread};
use crate::signal::{self, Signal, SignalChannel};

/// One channel of one connection.
#[napi]
pub struct NativeSignals {
    held: Held<dyn SignalChannel>,
}

#[napi]
impl NativeSignals {
    /// A channel. The connection's key prefix does not apply to it. One that is `own` is used by ferroflow alone.
    #[napi(factory)]
    pub fn open(env: Env, connection: &NativeConnection, channel: String, own: bool) -> napi::Result<Self> {
        Ok(Self { held: Held::open(env, connection, |backend, _| signal::open(backend, &channel, own))? })
    }

    /// Sends messages in one round trip.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn publish<'env>(&self, env: &'env Env, messages: Vec<String>) -> napi::Result<Unknown<'env>> {
        let channel = self.held.get();
        answer(env, operation!("signal.publish"), async move {
            let messages = messages.into_iter().map(String::into_bytes).collect();
            channel?.publish(messages).await.map(done)
        })
    }
}

/// A listener to a channel. While it runs, it keeps the process alive; its events are `message` (the text),
/// `gap`, and `end` when the connection was closed.
#[napi]
pub struct NativeSubscription {
    id: u32,
    running: AtomicBool,
    stopped: watch::Sender<bool>,
}

#[napi]
impl NativeSubscription {
    /// A listener that does not listen yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { id: next_id(), running: AtomicBool::new(false), stopped: watch::Sender::new(false) }
    }

    /// Names this object in events.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Resolves when it listens. May be called once.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn start<'env>(&self, env: &'env Env, signals: &NativeSignals) -> napi::Result<Unknown<'env>> {
        let environment = Environment::of(env)?;
        if !self.running.swap(true, Ordering::AcqRel) {
            environment.retain();
        }
        let (channel, events, id) = (signals.held.get(), environment.events(), self.id);
        let handle = Arc::clone(signals.held.handle());
        let mut stopped = self.stopped.subscribe();
        let (sender, listening) = oneshot::channel();
        let listen = async move {
            let mut listener = match async { channel?.subscribe().await }.await {
                Ok(listener) => listener,
                Err(error) => return drop(sender.send(Err(error))),
            };
            let _ = sender.send(Ok(()));
            loop {
                tokio::select! {
                    biased;
                    // Also when the object is gone, and nobody can stop it any more.
                    _ = stopped.wait_for(|stopped| *stopped) => return,
                    // Nothing will ever be heard again, and nobody should stay alive for it.
                    () = handle.until_closed() => return events.emit(id, "end", Output::Null),
                    signal = listener.next() => match signal {
                        Some(Signal::Message(message)) => events.emit(id, "message", Output::Text(message)),
                        Some(Signal::Gap) => events.emit(id, "gap", Output::Null),
                        None => return,
                    },
                }
            }
        };
        answer(env, operation!("signal.start"), async move {
            io_thread::spawn(listen)?;
            let closed = || Error::new(ErrorKind::Closed, "the connection was closed before it could listen");
            listening.await.unwrap_or_else(|_| Err(closed())).map(done)
        })
    }

    /// Stops listening. Idempotent.
    #[napi]
    pub fn stop(&self, env: Env) -> napi::Result<()> {
        self.stopped.send_replace(true);
        if self.running.swap(false, Ordering::AcqRel) {
            Environment::of(&env)?.release();
        }
        Ok(())
    }
}
