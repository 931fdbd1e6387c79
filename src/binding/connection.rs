//! `NativeConnection`: a connection as TypeScript holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use napi::{Env, Unknown};
use napi_derive::napi;
use tokio::time::Instant;

use super::arguments::{answer, promise, thrown};
use super::bound::{Arguments, bound};
use super::handle::Handle;
use super::nat_map::NativeNatMapper;
use crate::connection::Backend;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::metrics::operation;
use crate::runtime::io_thread::{MayBegin, Work};
use crate::runtime::{Environment, Output, Settler};

/// One environment's hold on a native connection, shared by equal configuration within the process.
#[napi]
pub struct NativeConnection {
    handle: Arc<Handle>,
    id: u32,
    watcher: Option<u64>,
}

/// A number that names a native object in events.
pub(super) fn next_id() -> u32 {
    static NEXT_ID: AtomicU32 = AtomicU32::new(1);
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

#[napi]
impl NativeConnection {
    /// Opens the connection that the JSON describes. Returns at once; commands wait until it is up. `natMapper` says where
    /// the addresses are reached that servers name, instead of what the JSON says.
    #[napi(factory)]
    pub fn open(env: Env, config: String, nat_mapper: Option<&NativeNatMapper>) -> napi::Result<Self> {
        let mapper = nat_mapper.map(NativeNatMapper::mapper);
        let handle = Handle::open(&config, mapper).map_err(|error| thrown(&env, &error))?;
        let id = next_id();
        let watcher = match handle.any_backend() {
            Backend::Server(client) => {
                let events = Environment::of(&env)?.events();
                Some(client.status().watch(Box::new(move |status, reason| {
                    let reason = reason.map(|error| error.message().as_bytes().to_vec());
                    let detail = vec![Output::text(status.name()), Output::text_or_null(reason)];
                    events.emit(id, "status", Output::List(detail));
                })))
            }
            Backend::Memory(_) => None,
        };
        Ok(Self { handle, id, watcher })
    }

    /// Names this object in events.
    #[napi(getter)]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// `connecting`, `ready`, `reconnecting` or `closed`.
    #[napi(getter)]
    pub fn status(&self) -> &'static str {
        self.handle.status().name()
    }

    /// What is put before every key of a store on this connection.
    #[napi(getter)]
    pub fn key_prefix(&self) -> String {
        self.handle.key_prefix().to_owned()
    }

    /// A function that sends one command, given as an array of strings and byte arrays. Values come back as strings, or
    /// as buffers if `buffers` is true.
    #[napi(
        ts_return_type = "(words: ReadonlyArray<string | Uint8Array>, buffers: boolean) => Promise<unknown>"
    )]
    pub fn commands<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let handle = Arc::clone(&self.handle);
        bound(env, c"command", move |env, arguments: Arguments<'_, 2>| {
            let command = arguments.command(0)?;
            let convert =
                if arguments.boolean(1)? { Output::from_reply_as_buffers } else { Output::from_reply };
            let answer = Environment::of(env)?.submit(operation!("connection.command"), |settler| {
                send(&handle, command, convert, settler)
            })?;
            Ok(promise(env, answer))
        })
    }

    /// Tries to connect at once or, unless it is `urgent`, soon, where the next attempt is being waited for.
    #[napi]
    pub fn redial(&self, urgent: bool) {
        if let Ok(Backend::Server(client)) = self.handle.backend() {
            client.redial(urgent);
        }
    }

    /// Gives up this hold. Resolves when the connection is closed, or at once if others still use it.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<Unknown<'env>> {
        let closing = self.handle.close();
        let backend = self.handle.any_backend().clone();
        answer(env, operation!("connection.close"), async move {
            if let (true, Backend::Server(client)) = (closing, backend) {
                client.closed().await;
            }
            Ok(Output::Undefined)
        })
    }
}

impl NativeConnection {
    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

fn send(handle: &Handle, command: Command, convert: fn(Reply) -> Output, settler: Settler) -> Work {
    let backend = match handle.backend() {
        Ok(backend) => backend.clone(),
        Err(error) => return Work::step(move || settler.settle(Err(error))),
    };
    match backend {
        Backend::Server(client) => {
            let deadline = Instant::now() + client.config().call_timeout();
            // A cluster's nodes come and go on the I/O thread.
            let may_begin = if client.is_cluster() { MayBegin::There } else { MayBegin::HereAlone };
            let step = move || {
                let sink =
                    Box::new(move |outcome: crate::error::Result<_>| settler.settle(outcome.map(convert)));
                client.send(command, deadline, sink);
            };
            Work::step(step).may_begin(may_begin)
        }
        Backend::Memory(engine) => Work::step(move || {
            settler.settle(engine.command(&command.into_words()).map(convert));
        }),
    }
}

impl Drop for NativeConnection {
    fn drop(&mut self) {
        if let (Some(watcher), Backend::Server(client)) = (self.watcher, self.handle.any_backend()) {
            client.status().unwatch(watcher);
        }
    }
}

/// Adds a function that gets `(source, name, detail)` for every event of this environment. It must not throw.
#[napi(ts_args_type = "sink: (source: number, name: string, detail: unknown) => void")]
pub fn add_event_sink(env: Env, sink: Unknown<'_>) -> napi::Result<()> {
    Environment::of(&env)?.add_event_sink(sink)
}
