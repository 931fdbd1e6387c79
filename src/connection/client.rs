//! A connection as the domains see it, whatever the topology behind it.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::command::Command;
use super::config::{Config, Endpoint};
use super::node::{Node, Role, closed_error};
use super::overseer::Overseer;
use super::pubsub::Subscription;
use super::reply::Reply;
use super::request::Sink;
use super::sentinel::Sentinels;
use super::status::StatusBoard;
use crate::error::{ErrorKind, Result};

/// A connection to a server, to the master of Sentinels, or to a cluster.
pub struct Client {
    config: Config,
    topology: Topology,
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
        Ok(Arc::new(Self { config, topology }))
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What became of the connection, for those who watch.
    pub fn status(&self) -> &StatusBoard {
        match &self.topology {
            Topology::Node(node) => &node.status,
            Topology::Cluster(cluster) => &cluster.status,
        }
    }

    /// Queues a command. The sink gets its outcome, by `deadline` at the latest. I/O thread only.
    pub fn send(&self, command: Command, deadline: Instant, sink: Sink) {
        match &self.topology {
            Topology::Node(node) => node.send(command, deadline, sink),
            Topology::Cluster(cluster) => cluster.send(command, deadline, sink),
        }
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

    /// Stops accepting commands; those accepted before, on whatever thread, have a second to finish.
    pub fn close(&self) {
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

    /// Whether a script has yet to be sent in full to the server that has this key. Asked once, it counts as sent.
    pub fn first_use_of_script(&self, digest: &'static str, key: &str) -> bool {
        match &self.topology {
            Topology::Node(node) => node.first_use_of_script(digest),
            Topology::Cluster(cluster) => cluster.first_use_of_script(digest, key),
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

    /// Sends a command and waits for its reply.
    pub async fn command(&self, command: Command) -> Result<Reply> {
        received(self.send(command)).await
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
