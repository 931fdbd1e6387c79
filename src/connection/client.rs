//! A connection as the domains see it, whatever the topology behind it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::command::Command;
use super::config::{Config, Endpoint};
use super::node::{Node, Role, closed_error, lock};
use super::overseer::Overseer;
use super::pubsub::Subscription;
use super::redial::Wish;
use super::reply::Reply;
use super::request::Sink;
use super::sentinel::Sentinels;
use super::status::StatusBoard;
use crate::error::{ErrorKind, Result};
use crate::key::{OwnChannel, by_slot, same_slot};

/// A connection to a server, to the master of Sentinels, or to a cluster.
pub struct Client {
    config: Config,
    topology: Topology,
    /// Another one, for calls that wait for replicas: WAIT holds up everything behind it.
    waiter: Mutex<Option<Arc<Client>>>,
    closing: AtomicBool,
}

enum Topology {
    /// One server at a time.
    Node(Arc<Node>),
    Cluster(Arc<Cluster>),
}

impl Client {
    /// Starts connecting. Never fails later: a connection that cannot be made is tried again.
    pub fn start(config: Config) -> Result<Arc<Self>> {
        let topology = match &config.endpoint {
            Endpoint::Cluster(options) => Topology::Cluster(Cluster::start(config.clone(), options.clone())?),
            Endpoint::Sentinel(options) => {
                let sentinels = Sentinels::new(config.clone(), options.clone());
                let overseer = Arc::clone(&sentinels) as Arc<dyn Overseer>;
                let node = Node::start(config.clone(), Role::Commands, Some(overseer))?;
                sentinels.watch(&node)?;
                Topology::Node(node)
            }
            _ => Topology::Node(Node::start(config.clone(), Role::Commands, None)?),
        };
        Ok(Arc::new(Self { config, topology, waiter: Mutex::default(), closing: AtomicBool::new(false) }))
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether keys lie on several servers.
    pub fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    /// Whether one command or script may touch all these keys. Where it may not, a domain takes ordered steps of one
    /// slot each.
    pub fn reaches_at_once<'key>(&self, keys: impl IntoIterator<Item = &'key str>) -> bool {
        !self.is_cluster() || same_slot(keys)
    }

    /// Where these keys stand, together those that one command may touch.
    pub fn reached_together(&self, keys: &[impl AsRef<[u8]>]) -> Vec<Vec<usize>> {
        if self.is_cluster() { by_slot(keys) } else { vec![(0..keys.len()).collect()] }
    }

    /// What became of the connection, for those who watch.
    pub fn status(&self) -> &StatusBoard {
        match &self.topology {
            Topology::Node(node) => &node.status,
            Topology::Cluster(cluster) => &cluster.status,
        }
    }

    /// How many commands wait for some node of a cluster to take them.
    pub fn parked(&self) -> usize {
        match &self.topology {
            Topology::Node(_) => 0,
            Topology::Cluster(cluster) => cluster.parked(),
        }
    }

    /// Queues a command. The sink gets its outcome, by `deadline` at the latest. In a cluster: I/O thread only.
    pub fn send(&self, command: Command, deadline: Instant, sink: Sink) {
        match &self.topology {
            Topology::Node(node) => node.send(command, deadline, sink),
            Topology::Cluster(cluster) => cluster.send(command, deadline, sink),
        }
    }

    /// Sends a command whose outcome nobody waits for.
    pub fn tell(&self, command: Command) {
        self.send(command.repeatable(), self.call().deadline, Box::new(|_| ()));
    }

    /// Begins an operation of one or more commands that share one deadline.
    pub fn call(&self) -> Call<'_> {
        Call { client: self, deadline: Instant::now() + self.config.call_timeout() }
    }

    /// Proves that the server answers. That it does not allow PING is an answer.
    pub async fn ping(&self) -> Result<()> {
        match self.call().command(Command::new("PING").reads()).await {
            Err(error) if error.kind() != ErrorKind::NoPermission => Err(error),
            _ => Ok(()),
        }
    }

    /// Tries to connect at once or, unless it is `urgent`, soon, where the next attempt is being waited for.
    pub fn redial(&self, urgent: bool) {
        if let Topology::Node(node) = &self.topology {
            node.redial_if_lost(if urgent { Wish::Now } else { Wish::Hurry });
        }
    }

    /// Stops accepting commands; those accepted before, on whatever thread, have a second to finish.
    pub fn close(&self) {
        let mut waiter = lock(&self.waiter);
        self.closing.store(true, Ordering::Relaxed);
        if let Some(waiter) = waiter.take() {
            waiter.close();
        }
        match &self.topology {
            Topology::Node(node) => node.close(),
            Topology::Cluster(cluster) => cluster.close(),
        }
    }

    /// Waits until every call is settled and nothing is open any more.
    pub async fn closed(&self) {
        match &self.topology {
            Topology::Node(node) => node.closed().await,
            Topology::Cluster(cluster) => cluster.closed().await,
        }
    }

    /// The client for calls that [`Client::wait`] for replicas, started when it is first needed.
    pub fn waiter(&self) -> Result<Arc<Self>> {
        let mut waiter = lock(&self.waiter);
        // Nobody would close one that is started now.
        if self.closing.load(Ordering::Relaxed) {
            return Err(closed_error());
        }
        if let Some(client) = &*waiter {
            return Ok(Arc::clone(client));
        }
        Ok(Arc::clone(waiter.insert(Self::start(self.config.clone())?)))
    }

    /// Waits until so many replicas have what was written on the connection to the server of `key`, and says how many
    /// do. On another connection than that of the write the answer means nothing: compare [`Client::session_of`].
    pub async fn wait(&self, key: &str, replicas: u32, at_most: Duration) -> Result<u32> {
        // Sent again, it would be about another connection, and keep the caller waiting for an answer that says nothing.
        let wait = Command::new("WAIT").number(replicas).number(at_most.as_millis() as u64);
        let deadline = Instant::now() + at_most + self.config.call_timeout();
        let (sender, receiver) = oneshot::channel();
        let sink = Box::new(move |outcome| drop(sender.send(outcome)));
        match self.node_of(key) {
            Some(node) => node.send(wait, deadline, sink),
            None => return Ok(0),
        }
        Ok(received(receiver).await?.into_int()?.try_into().unwrap_or_default())
    }

    /// Names the present connection to the server of `key`; `None` if there was none yet.
    pub fn session_of(&self, key: &str) -> Option<(usize, u64)> {
        let node = self.node_of(key)?;
        let generation = node.status.generation();
        (generation > 0).then_some((Arc::as_ptr(&node) as usize, generation))
    }

    fn node_of(&self, key: &str) -> Option<Arc<Node>> {
        match &self.topology {
            Topology::Node(node) => Some(Arc::clone(node)),
            Topology::Cluster(cluster) => cluster.owner_of(key),
        }
    }

    /// Whether a script has yet to be sent in full to the server that has this key. Asked once, it counts as sent.
    pub fn first_use_of_script(&self, digest: &'static str, key: &str) -> bool {
        match &self.topology {
            Topology::Node(node) => node.first_use_of_script(digest),
            Topology::Cluster(cluster) => cluster.first_use_of_script(digest, key),
        }
    }

    /// What a script that announces something beside a key has to know of a channel in its slot: the name for
    /// `SPUBLISH`, or nothing outside of a cluster.
    pub fn sharded_name<'channel>(&self, channel: &'channel OwnChannel) -> &'channel str {
        if self.is_cluster() { &channel.sharded } else { "" }
    }

    /// Whether messages on a channel of our own that lies in another slot than what they are about are to be sent by
    /// themselves ([`Client::announce`]), and not by a script.
    pub fn announces_apart(&self, channel: &OwnChannel) -> bool {
        match &self.topology {
            Topology::Node(_) => false,
            Topology::Cluster(cluster) => cluster.shards(channel),
        }
    }

    /// Publishes on a channel of our own. Nobody waits for the outcome.
    pub fn announce(&self, channel: &OwnChannel, message: Vec<u8>) {
        match &self.topology {
            Topology::Node(_) => self.tell(Command::new("PUBLISH").arg(&channel.name).arg(message)),
            Topology::Cluster(cluster) => cluster.announce(channel.clone(), message),
        }
    }

    /// Listens to a channel of our own from the moment this resolves. I/O thread only.
    pub async fn listen(&self, channel: &OwnChannel) -> Result<Subscription> {
        match &self.topology {
            Topology::Node(node) => node.subscribe(&channel.name).await,
            Topology::Cluster(cluster) => cluster.listen(channel).await,
        }
    }

    /// Listens to a channel from the moment this resolves. I/O thread only.
    pub async fn subscribe(&self, channel: &str) -> Result<Subscription> {
        match &self.topology {
            Topology::Node(node) => node.subscribe(channel).await,
            Topology::Cluster(cluster) => cluster.subscribe(channel).await,
        }
    }
}

/// One operation: its commands share a deadline.
#[derive(Clone, Copy)]
pub struct Call<'client> {
    client: &'client Client,
    deadline: Instant,
}

impl Call<'_> {
    /// The connection it runs on.
    pub fn client(&self) -> &Client {
        self.client
    }

    /// Sends a command, at once, and waits for its reply.
    pub fn command(&self, command: Command) -> impl Future<Output = Result<Reply>> + Send + 'static {
        received(self.send(command))
    }

    /// Sends commands together and waits for all replies, in their order.
    pub async fn commands(&self, commands: impl IntoIterator<Item = Command>) -> Vec<Result<Reply>> {
        let sent: Vec<_> = commands.into_iter().map(|command| self.send(command)).collect();
        let mut replies = Vec::with_capacity(sent.len());
        for receiver in sent {
            replies.push(received(receiver).await);
        }
        replies
    }

    fn send(&self, command: Command) -> oneshot::Receiver<Result<Reply>> {
        let (sender, receiver) = oneshot::channel();
        // A receiver that is gone was cancelled and wants no reply.
        self.client.send(command, self.deadline, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver
    }

    /// Whether there is time for another attempt.
    pub fn has_time_left(&self) -> bool {
        Instant::now() < self.deadline
    }
}

async fn received(receiver: oneshot::Receiver<Result<Reply>>) -> Result<Reply> {
    receiver.await.unwrap_or_else(|_| Err(closed_error()))
}
