//! A Redis Cluster: a connection to every master, and a table that says which of them has which slot.
//!
//! - [`route`]: where a command belongs
//! - [`slots`], [`redirect`]: what the nodes say about it
//! - [`table`]: keeping the table right
//! - [`spread`]: commands that concern every master
//! - [`shards`]: channels of our own
//! - [`readers`]: replicas that answer reads, where they are asked for
//!
//! A command is handed to the connection of its node and is settled there. What a node refuses without running it
//! comes back here and goes on to another node, or is parked for a moment; its deadline stays what it was.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

mod member;
mod readers;
mod redirect;
mod route;
mod shards;
mod slots;
mod spread;
mod table;

use member::{Member, Speaker};
use redirect::Refusal;
use route::Route;

use super::batch::Batch;
use super::command::Command;
use super::config::{Address, ClusterOptions, Config, Endpoint};
use super::node::{Node, Role, closed_error, deliver, lock};
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
    shards: shards::Shards,
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
    /// Connections to replicas that may answer reads, and by the address of their master.
    readers: readers::Readers,
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
                readers: readers::Readers::default(),
                turn: 0,
            }),
            parking: Notify::new(),
            status: StatusBoard::default(),
            table: table::Wishes::default(),
            closing: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            speaker: Mutex::default(),
            speaker_at: Mutex::default(),
            shards: shards::Shards::default(),
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
        let mut nodes: Vec<_> = self.state().everyone().chain(lock(&self.speaker).take()).collect();
        nodes.extend(self.shards.end());
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
        let _ = io_thread::submit(io_thread::Work::task(async move {
            if let Some(cluster) = own.upgrade() {
                cluster.closing.send_replace(true);
            }
        }));
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
            Route::Slot(slot) => {
                let state = self.state();
                let owner = state.owners[usize::from(slot)].as_ref();
                owner.and_then(|owner| state.readers.choose(&request, owner)).or(owner).cloned()
            }
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

    /// How many commands are kept.
    pub fn parked(&self) -> usize {
        lock(&self.parked).lengths().0
    }

    /// The node that has a key.
    pub fn owner_of(&self, key: &str) -> Option<Arc<Node>> {
        self.state().owners[usize::from(slot(key.as_bytes()))].clone()
    }

    /// Whether a script has yet to be sent in full to the node that has this key.
    pub fn first_use_of_script(&self, digest: &'static str, key: &str) -> bool {
        self.owner_of(key).is_none_or(|node| node.first_use_of_script(digest))
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

    /// The connection to a node, opened if there is none: `at_once`, unless many others may be told of it as well.
    fn node_at(&self, state: &mut State, address: &Address, at_once: bool) -> Option<Arc<Node>> {
        if let Some(node) = state.nodes.get(address) {
            return Some(Arc::clone(node));
        }
        if state.nodes.len() >= MAX_NODES {
            return None;
        }
        let config = Config { endpoint: Endpoint::Tcp(address.clone()), ..self.config.clone() };
        let cluster = Weak::clone(&self.own);
        let overseer = Member { cluster, address: address.clone(), reads: false, at_once };
        let node = Node::start(config, Role::Commands, Some(Arc::new(overseer))).ok()?;
        state.nodes.insert(address.clone(), Arc::clone(&node));
        Some(node)
    }

    /// A command that a node did not run goes where it belongs.
    fn refused(&self, from: &Node, at: &Address, mut request: Request, mut error: Error) {
        let mut refusal = Refusal::of(&error);
        if let Some(Refusal::Moved { address, .. } | Refusal::Ask { address }) = &mut refusal {
            match self.named_by(at, address.clone()) {
                Ok(there) => {
                    *address = there;
                    // What the caller hears if they go on sending it from one to another until its time is over.
                    let text = format!("{}, and no node serves the slot", error.message());
                    error = Error::new(ErrorKind::ServerNotReady, text);
                }
                // It comes this way again, and by then that may be known.
                Err(unknown) => (refusal, error) = (Some(Refusal::Later), unknown),
            }
        }
        let times = request.refused(error);
        let target = match refusal {
            _ if times.is_multiple_of(MAX_REDIRECTIONS) => None,
            Some(Refusal::Moved { slot, address }) => {
                self.table.wish(Some(address.clone()));
                let mut state = self.state();
                let node = self.node_at(&mut state, &address, true);
                let node = node.filter(|node| !std::ptr::eq(&raw const **node, from));
                if let Some(node) = &node {
                    state.owners[usize::from(slot)] = Some(Arc::clone(node));
                    state.guests.insert(address, Instant::now());
                }
                node
            }
            Some(Refusal::Ask { address }) => {
                request.ask();
                let mut state = self.state();
                let node = self.node_at(&mut state, &address, true);
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

    /// Where an address is reached that the node at another one has named. Without a host, it is the same host. Where
    /// the program has yet to say it, it is asked.
    fn named_by(&self, at: &Address, address: Address) -> Result<Address> {
        let host = if address.host.is_empty() { at.host.clone() } else { address.host };
        let (address, nat_map) = (Address { host, ..address }, &self.options.nat_map);
        nat_map.reached(address.clone()).inspect_err(|_| nat_map.ask(&address))
    }

    /// Sends what waits for a node elsewhere.
    fn redirect_pending(&self, node: &Node) {
        let waiting = node.batch().take_pending();
        waiting.into_iter().for_each(|request| self.dispatch(request));
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
    fn everyone(&self) -> impl Iterator<Item = Arc<Node>> {
        self.nodes.values().chain(self.readers.all()).cloned()
    }

    /// A master, each in its turn, and one that is connected if there is one.
    fn anyone(&mut self) -> Option<Arc<Node>> {
        self.turn = self.turn.wrapping_add(1);
        let count = self.masters.len();
        let in_turn = || (0..count).map(|index| &self.masters[(self.turn + index) % count]);
        let connected = in_turn().find(|node| node.status.get() == Status::Ready);
        connected.or_else(|| in_turn().next()).cloned()
    }
}
