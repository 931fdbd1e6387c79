//! What is open at the moment, for the metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

use serde::Serialize;

use super::client::Client;
use super::config::Config;
use super::in_use;
use super::node::{Node, lock};
use super::status::Status;

static NODES: Mutex<Vec<Weak<Node>>> = Mutex::new(Vec::new());

/// The open connections to one address.
#[derive(Debug, Serialize)]
pub struct Open {
    /// Whether all of them are ready.
    ready: bool,
    /// Commands that wait to be sent.
    waiting: usize,
    /// Commands that were sent and wait for their reply.
    unanswered: usize,
}

/// Where a connection leads, for people; without credentials.
pub(super) fn address_of(config: &Config) -> String {
    match config.db {
        0 => config.endpoint.to_string(),
        db => format!("{}/{db}", config.endpoint),
    }
}

/// A connection begins to exist.
pub(super) fn enter(node: &Arc<Node>) {
    let mut nodes = lock(&NODES);
    nodes.retain(|node| node.strong_count() > 0);
    nodes.push(Arc::downgrade(node));
}

/// What is open, by address.
pub fn open() -> BTreeMap<String, Open> {
    // Not under the lock: the last one to hold a connection may be ourselves.
    let nodes: Vec<_> = lock(&NODES).iter().filter_map(Weak::upgrade).collect();
    let mut addresses = BTreeMap::new();
    for node in nodes {
        if node.is_closing() {
            continue;
        }
        add(&mut addresses, node.config(), node.status.get(), node.batch().lengths());
    }
    // A cluster is more than its nodes: it may be without one, and keep what no node can take.
    for client in clients().iter().filter(|client| client.is_cluster()) {
        add(&mut addresses, client.config(), client.status().get(), (client.parked(), 0));
    }
    addresses
}

fn add(addresses: &mut BTreeMap<String, Open>, config: &Config, status: Status, lengths: (usize, usize)) {
    let open = addresses.entry(address_of(config)).or_insert(Open { ready: true, waiting: 0, unanswered: 0 });
    open.waiting += lengths.0;
    open.unanswered += lengths.1;
    open.ready &= status == Status::Ready;
}

/// What is in use by somebody.
fn clients() -> Vec<Arc<Client>> {
    in_use()
        .iter()
        .flat_map(|connections| connections.values())
        .map(|(client, _)| Arc::clone(client))
        .collect()
}

/// Whether anything is connected, and everything that should be is.
pub fn all_ready() -> bool {
    let clients = clients();
    !clients.is_empty() && clients.iter().all(|client| client.status().get() == Status::Ready)
}
