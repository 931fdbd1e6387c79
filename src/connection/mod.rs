//! From a target to a connection. [`Connection::open`] gives equal configurations the same connection; the last
//! lease that ends closes it.
//!
//! - [`config`]: what a connection needs to know; [`nat_map`]: where the addresses are reached that servers name
//! - [`command`], [`reply`]: what goes out and what comes back
//! - [`request`]: a command on its way
//! - [`batch`]: the pipeline of one tick, queue bounds, deadlines, what is repeated and what is not
//! - [`dial`], [`tls`], [`handshake`]: from an endpoint to a session
//! - [`limits`]: what a server may send
//! - [`node`], [`drive`], [`subscribe`]: one server, redialled for ever; [`overseer`]: who says which server
//! - [`inbox`], [`replies`]: what was received, and who gets it
//! - [`bypass`], [`loan`]: what threads that make calls write and read themselves
//! - [`sentinel`], [`race`]: which server is the master
//! - [`cluster`]: which node has which slot
//! - [`client`]: what the domains use, whatever is behind it
//! - [`pubsub`]: who listens to which channel
//! - [`status`]: the state that users see; [`census`]: what is open, for the metrics

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub mod batch;
mod bypass;
pub mod census;
pub mod client;
mod cluster;
pub mod command;
pub mod config;
pub mod dial;
mod drive;
pub mod handshake;
mod inbox;
mod limits;
mod loan;
pub mod nat_map;
pub mod node;
mod overseer;
pub mod pubsub;
mod race;
mod redial;
mod replies;
pub mod reply;
pub mod request;
mod sentinel;
pub mod status;
mod subscribe;
mod tls;

use client::Client;
use config::{Config, Endpoint};

use crate::error::Result;
use crate::memory::Engine;

/// What is behind a connection.
#[derive(Clone)]
pub enum Backend {
    /// A server.
    Server(Arc<Client>),
    /// The embedded engine.
    Memory(Arc<Engine>),
}

/// A connection, shared with everyone who opened the same configuration. Dropping the last lease closes it.
pub struct Connection {
    backend: Backend,
    key_prefix: String,
    ended: bool,
}

/// Connections, and how many leases each has.
type Leases = HashMap<Config, (Arc<Client>, usize)>;

static IN_USE: Mutex<Option<Leases>> = Mutex::new(None);

fn in_use() -> MutexGuard<'static, Option<Leases>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// Opens a connection, or shares one that is already open. Returns before it is established.
    pub fn open(config: Config) -> Result<Self> {
        let key_prefix = config.key_prefix.clone();
        let backend = match &config.endpoint {
            Endpoint::Memory { name } => Backend::Memory(Engine::named(name)),
            _ => {
                let mut in_use = in_use();
                let connections = in_use.get_or_insert_default();
                let (client, leases) = match connections.get_mut(&config) {
                    Some(entry) => entry,
                    None => {
                        let client = Client::start(config.clone())?;
                        connections.entry(config).or_insert((client, 0))
                    }
                };
                *leases += 1;
                Backend::Server(Arc::clone(client))
            }
        };
        Ok(Self { backend, key_prefix, ended: false })
    }

    /// What is behind it.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// ioredis' `keyPrefix`.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    /// Ends this lease. `true` if it was the last, so that the connection closes.
    pub fn end(mut self) -> bool {
        self.give_back()
    }

    fn give_back(&mut self) -> bool {
        let Backend::Server(client) = &self.backend else { return false };
        if std::mem::replace(&mut self.ended, true) {
            return false;
        }
        let mut in_use = in_use();
        let Some(connections) = in_use.as_mut() else { return false };
        let Some((_, leases)) = connections.get_mut(client.config()) else { return false };
        *leases -= 1;
        if *leases > 0 {
            return false;
        }
        // Under the lock, so that nobody shares a connection that is about to close.
        connections.remove(client.config());
        client.close();
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.give_back();
    }
}
