//! Replicas that answer reads.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::member::Member;
use super::route::words;
use super::{Cluster, State};
use crate::connection::command::Repeat;
use crate::connection::config::{Address, Config, Endpoint, ScaleReads};
use crate::connection::node::{Node, Role};
use crate::connection::request::Request;
use crate::connection::status::Status;

/// Connections to replicas.
#[derive(Default)]
pub struct Readers {
    scale: ScaleReads,
    nodes: HashMap<Address, Arc<Node>>,
    /// By the endpoint of the master.
    by_master: HashMap<Endpoint, Vec<Arc<Node>>>,
}

impl Readers {
    /// The replica that answers this, unless the master does.
    pub fn choose(&self, request: &Request, owner: &Node) -> Option<&Arc<Node>> {
        // A replica that refused it may be out of sync for long.
        if self.scale == ScaleReads::Master || request.was_refused() || !only_reads(request) {
            return None;
        }
        let replicas = self.by_master.get(&owner.config().endpoint)?;
        let ready = replicas.iter().filter(|node| node.status.get() == Status::Ready);
        let count = ready.clone().count() + usize::from(self.scale == ScaleReads::All);
        // Beyond the replicas is the master.
        ready.clone().nth(rand::random_range(0..count.max(1)))
    }

    /// All connections.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }
}

/// A script may do anything; servers send it to the master unless it says that it only reads.
fn only_reads(request: &Request) -> bool {
    let name = || words(request.wire()).next().unwrap_or_default();
    let is_script =
        |name: &[u8]| [b"EVAL".as_slice(), b"EVALSHA"].iter().any(|eval| name.eq_ignore_ascii_case(eval));
    request.repeat == Repeat::Read && !is_script(name())
}

impl Cluster {
    /// Takes the replicas of all masters over. Returns connections that are needed no more.
    pub(super) fn take_readers(
        &self,
        state: &mut State,
        replicas: Vec<(Address, Vec<Address>)>,
    ) -> Vec<Arc<Node>> {
        let scale = self.options.scale_reads;
        if scale == ScaleReads::Master {
            return Vec::new();
        }
        // Nobody waits for a replica that is new later on, and many may hear of it together.
        let at_once = state.readers.nodes.is_empty();
        let mut before = std::mem::take(&mut state.readers.nodes);
        let mut readers = Readers { scale, ..Readers::default() };
        for (master, addresses) in replicas {
            for address in addresses {
                let known = before.remove(&address).or_else(|| readers.nodes.get(&address).cloned());
                let Some(node) = known.or_else(|| self.start_reader(&address, at_once)) else { continue };
                readers.nodes.insert(address, Arc::clone(&node));
                let siblings = readers.by_master.entry(Endpoint::Tcp(master.clone())).or_default();
                if !siblings.iter().any(|sibling| Arc::ptr_eq(sibling, &node)) {
                    siblings.push(node);
                }
            }
        }
        state.readers = readers;
        before.into_values().collect()
    }

    fn start_reader(&self, address: &Address, at_once: bool) -> Option<Arc<Node>> {
        let config = Config { endpoint: Endpoint::Tcp(address.clone()), ..self.config.clone() };
        let cluster = Weak::clone(&self.own);
        let overseer = Member { cluster, address: address.clone(), reads: true, at_once };
        Node::start(config, Role::Commands, Some(Arc::new(overseer))).ok()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::connection::command::Command;

    #[tokio::test]
    async fn a_script_counts_as_a_write_unless_it_says_otherwise() {
        let reads = |name: &str| {
            let command = Command::new(name).arg("k").reads();
            only_reads(&Request::new(command, Instant::now(), Box::new(|_| ())))
        };
        assert!(reads("GET") && reads("EVAL_RO") && reads("EVALSHA_RO") && reads("HGETALL"));
        assert!(!reads("EVAL") && !reads("evalsha"));
        let write = Command::new("GET").arg("k").repeatable();
        assert!(!only_reads(&Request::new(write, Instant::now(), Box::new(|_| ()))));
    }
}
