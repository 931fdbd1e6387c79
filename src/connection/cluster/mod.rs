//! A Redis Cluster: a connection to every master, and a table that says which of them has which slot.
//!
//! - [`route`]: where a command belongs
//! - [`slots`], [`redirect`]: what the nodes say about it
//! - [`table`]: keeping the table right
//! - [`spread`]: commands that concern every master
//!
//! A command is handed to the connection of its node and is settled there. What a node refuses without running it
//! comes back here and goes on to another node, or is parked for a moment; its deadline stays what it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

mod redirect;
mod route;
mod slots;
mod spread;
mod table;

use redirect::Refusal;
use route::Route;

use super::batch::Batch;
use super::command::Command;
use super::config::{Address, ClusterOptions, Config, Endpoint, reached_at};
use super::handshake::Session;
use super::node::{Node, Role, closed_error, deliver, lock};
use super::overseer::Overseer;
use super::pubsub::Subscription;
use super::request::{Request, Sink};
use super::status::{Status, StatusBoard};
use crate::error::{Error, ErrorKind, Result};
use crate::key::{SLOTS, slot};
use crate::runtime::io_thread::{self, catch_panic};

/// So often a command follows a redirection before it waits a moment: two nodes may each name the other.
const MAX_REDIRECTIONS: u32 = 8;
/// A cluster has at most this many nodes by recommendation; a server that names more is not believed.
const MAX_NODES: usize = 1000;
const AFTER_PANIC: Duration = Duration::from_millis(100);
/// How long a node without slots is kept that somebody was sent to.
const KEEP_GUEST: Duration = Duration::from_secs(60);

/// A Redis Cluster.
pub struct Cluster {
    config: Config,
    options: ClusterOptions,
    own: Weak<Cluster>,
    state: Mutex<State>,
    /// Commands that no node can take at the moment.
    parked: Mutex<Batch>,
    parking: Notify,
    /// What became of the cluster, for those who watch.
    pub status: StatusBoard,
    table: table::Wishes,
    closing: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    /// The connection that carries subscriptions, opened when first needed.
    speaker: Mutex<Option<Arc<Node>>>,
    speaker_at: Mutex<Option<Address>>,
}

struct State {
    /// The node of each slot.
    owners: Vec<Option<Arc<Node>>>,
    /// The nodes that have slots, by their first.
    masters: Vec<Arc<Node>>,
    /// All connections.
    nodes: HashMap<Address, Arc<Node>>,
    /// Nodes without slots that somebody was sent to, and when.
    guests: HashMap<Address, Instant>,
    replicas: Vec<Address>,
    /// Whose turn it is to take what anyone can take.
    turn: usize,
}

impl Cluster {
    /// Starts connecting. Never fails later.
    pub fn start(config: Config, options: ClusterOptions) -> Result<Arc<Self>> {
        let cluster = Arc::new_cyclic(|own| Self {
            parked: Mutex::new(Batch::new(config.limits())),
            config,
            options,
            own: Weak::clone(own),
            state: Mutex::new(State {
                owners: vec![None; SLOTS],
                masters: Vec::new(),
                nodes: HashMap::new(),
                guests: HashMap::new(),
                replicas: Vec::new(),
                turn: 0,
            }),
            parking: Notify::new(),
            status: StatusBoard::default(),
            table: table::Wishes::default(),
            closing: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            speaker: Mutex::default(),
            speaker_at: Mutex::default(),
        });
        io_thread::spawn(Arc::clone(&cluster).run())?;
        Ok(cluster)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    async fn run(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        loop {
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => break,
                _ = catch_panic(self.keep_table()) => {}
                _ = catch_panic(self.keep_parked()) => {}
            }
            // Neither ends by itself. After a panic, both begin again.
            sleep(AFTER_PANIC).await;
        }
        let parked = lock(&self.parked).refuse(closed_error());
        deliver(parked);
        let nodes: Vec<_> = self.state().nodes.values().cloned().chain(lock(&self.speaker).take()).collect();
        nodes.iter().for_each(|node| node.close_now());
        for node in nodes {
            node.closed().await;
        }
        self.status.set(Status::Closed, None);
        self.closed.send_replace(true);
    }

    /// Stops accepting commands; those accepted before have a second to finish.
    pub fn close(&self) {
        let own = Weak::clone(&self.own);
        // Behind the calls that were submitted before. Without an I/O thread there is nothing to close.
        let _ = io_thread::submit(io_thread::Work::Step(Box::new(move || {
            if let Some(cluster) = own.upgrade() {
                cluster.closing.send_replace(true);
            }
        })));
    }

    /// Waits until everything is closed.
    pub async fn closed(&self) {
        // An error would mean that the sender is gone, and with it the cluster.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Hands a command to its node. I/O thread only.
    pub fn send(&self, command: Command, deadline: Instant, sink: Sink) {
        self.dispatch(Request::new(command, deadline, sink));
    }

    fn dispatch(&self, mut request: Request) {
        request.asking = false;
        if request.pinned {
            let text = "the cluster changed while every master was asked, ask again";
            return deliver(request.fail(Error::new(ErrorKind::Unavailable, text)));
        }
        let node = match route::of(request.wire()) {
            Route::Slot(slot) => self.state().owners[usize::from(slot)].clone(),
            Route::Anywhere => self.state().anyone(),
            Route::Everywhere(merge) => return self.spread(request, merge),
            Route::InTurn => return self.scan(request),
        };
        match node {
            Some(node) => node.push(request),
            None => self.park(request),
        }
    }

    /// Keeps a command until some node can take it.
    fn park(&self, request: Request) {
        let refused = if self.is_closing() {
            request.fail(closed_error())
        } else {
            lock(&self.parked).push(request).err()
        };
        deliver(refused);
        self.parking.notify_one();
    }

    /// Whether a script has yet to be sent in full to the node that has this key.
    pub fn first_use_of_script(&self, digest: &'static str, key: &str) -> bool {
        let owner = self.state().owners[usize::from(slot(key.as_bytes()))].clone();
        owner.is_none_or(|node| node.first_use_of_script(digest))
    }

    /// Listens to a channel from the moment this resolves. I/O thread only.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription> {
        if self.is_closing() {
            return Err(closed_error());
        }
        let speaker = {
            let mut speaker = lock(&self.speaker);
            match &*speaker {
                Some(node) => Arc::clone(node),
                None => {
                    let config = Config { protocol: 2, ..self.config.clone() };
                    let overseer = Arc::new(Speaker(Weak::clone(&self.own)));
                    Arc::clone(speaker.insert(Node::start(config, Role::Subscriber, Some(overseer))?))
                }
            }
        };
        speaker.subscribe(channel).await
    }

    /// The connection to a node, opened if there is none.
    fn node_at(&self, state: &mut State, address: &Address) -> Option<Arc<Node>> {
        if let Some(node) = state.nodes.get(address) {
            return Some(Arc::clone(node));
        }
        if state.nodes.len() >= MAX_NODES {
            return None;
        }
        let config = Config { endpoint: Endpoint::Tcp(address.clone()), ..self.config.clone() };
        let overseer = Arc::new(Member { cluster: Weak::clone(&self.own), address: address.clone() });
        let node = Node::start(config, Role::Commands, Some(overseer)).ok()?;
        state.nodes.insert(address.clone(), Arc::clone(&node));
        Some(node)
    }

    /// A command that a node did not run goes where it belongs.
    fn refused(&self, from: &Node, at: &Address, mut request: Request, error: Error) {
        let refusal = Refusal::of(&error);
        let times = request.refused(error);
        let reached = |address: Address| {
            let host = if address.host.is_empty() { at.host.clone() } else { address.host };
            reached_at(&self.options.nat_map, Address { host, ..address })
        };
        let target = match refusal {
            _ if times.is_multiple_of(MAX_REDIRECTIONS) => None,
            Some(Refusal::Moved { slot, address }) => {
                let address = reached(address);
                self.table.wish(Some(address.clone()));
                let mut state = self.state();
                let node =
                    self.node_at(&mut state, &address).filter(|node| !std::ptr::eq(&raw const **node, from));
                if let Some(node) = &node {
                    state.owners[usize::from(slot)] = Some(Arc::clone(node));
                    state.guests.insert(address, Instant::now());
                }
                node
            }
            Some(Refusal::Ask { address }) => {
                let address = reached(address);
                request.ask();
                let mut state = self.state();
                let node = self.node_at(&mut state, &address);
                state.guests.insert(address, Instant::now());
                node
            }
            Some(Refusal::Later) | None => None,
        };
        match target {
            Some(node) => node.push(request),
            None => {
                self.table.wish(None);
                self.park(request);
            }
        }
    }

    /// Takes over what a closed node still had.
    fn reclaim(&self, left: Vec<Request>) -> Vec<Request> {
        if self.is_closing() {
            return left;
        }
        left.into_iter().for_each(|request| self.dispatch(request));
        Vec::new()
    }
}

impl State {
    /// A master, each in its turn, and one that is connected if there is one.
    fn anyone(&mut self) -> Option<Arc<Node>> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.masters.len();
        let in_turn = || (0..count).map(|index| &self.masters[(self.turn + index) % count]);
        let connected = in_turn().find(|node| node.status.get() == Status::Ready);
        connected.or_else(|| in_turn().next()).cloned()
    }
}

/// What connects a node to its cluster.
struct Member {
    cluster: Weak<Cluster>,
    address: Address,
}

#[async_trait]
impl Overseer for Member {
    async fn locate(&self) -> Result<Endpoint> {
        Ok(Endpoint::Tcp(self.address.clone()))
    }

    async fn verify(&self, _session: &mut Session, _endpoint: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn minds(&self, error: &Error) -> bool {
        matches!(error.kind(), ErrorKind::Server | ErrorKind::ServerNotReady) && Refusal::of(error).is_some()
    }

    fn refused(&self, node: &Node, request: Request, error: Error) {
        match self.cluster.upgrade() {
            Some(cluster) => cluster.refused(node, &self.address, request, error),
            None => deliver(request.fail(error)),
        }
    }

    fn changed(&self, node: &Node) {
        if let Some(cluster) = self.cluster.upgrade() {
            if node.status.get() != Status::Ready {
                cluster.table.wish(None);
            }
            cluster.show_status();
        }
    }

    fn silent(&self, _node: &Node) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.state().guests.remove(&self.address);
            cluster.table.suspect();
        }
    }

    fn ended(&self, _node: &Node, left: Vec<Request>) -> Vec<Request> {
        match self.cluster.upgrade() {
            Some(cluster) => cluster.reclaim(left),
            None => left,
        }
    }
}

/// The connection that carries subscriptions: what is published anywhere is heard on every node.
struct Speaker(Weak<Cluster>);

#[async_trait]
impl Overseer for Speaker {
    async fn locate(&self) -> Result<Endpoint> {
        let unknown = || Error::new(ErrorKind::Unavailable, "no node of the cluster is connected");
        let cluster = self.0.upgrade().ok_or_else(unknown)?;
        let node = cluster.state().anyone();
        let endpoint = node.map(|node| node.config().endpoint.clone()).ok_or_else(unknown)?;
        if let Endpoint::Tcp(address) = &endpoint {
            *lock(&cluster.speaker_at) = Some(address.clone());
        }
        Ok(endpoint)
    }

    async fn verify(&self, _session: &mut Session, _endpoint: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn minds(&self, _error: &Error) -> bool {
        false
    }

    fn refused(&self, _node: &Node, request: Request, error: Error) {
        deliver(request.fail(error));
    }

    fn changed(&self, _node: &Node) {}

    fn silent(&self, _node: &Node) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.table.suspect();
        }
    }

    fn ended(&self, _node: &Node, left: Vec<Request>) -> Vec<Request> {
        left
    }
}
