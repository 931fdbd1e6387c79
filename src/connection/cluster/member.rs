//! The ties between a cluster and its connections.

use std::sync::Weak;

use async_trait::async_trait;

use super::Cluster;
use super::redirect::Refusal;
use crate::connection::command::Command;
use crate::connection::config::{Address, Endpoint};
use crate::connection::handshake::Session;
use crate::connection::node::{Node, deliver, lock};
use crate::connection::overseer::Overseer;
use crate::connection::request::Request;
use crate::connection::status::Status;
use crate::error::{Error, ErrorKind, Result};

/// What connects a node to its cluster.
pub(super) struct Member {
    pub(super) cluster: Weak<Cluster>,
    pub(super) address: Address,
    /// It is a replica, and only asked.
    pub(super) reads: bool,
    /// It was not news for everybody.
    pub(super) at_once: bool,
}

#[async_trait]
impl Overseer for Member {
    fn is_one_of_many(&self) -> bool {
        !self.at_once
    }

    async fn locate(&self) -> Result<Endpoint> {
        Ok(Endpoint::Tcp(self.address.clone()))
    }

    async fn verify(&self, session: &mut Session, _endpoint: &Endpoint) -> Result<()> {
        if self.reads {
            // Whoever may not send this reads from masters: the replica sends every call there.
            session.ask([Command::new("READONLY")]).await?;
        }
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
                if self.reads {
                    // Others can answer these; only a master is waited for.
                    cluster.redirect_pending(node);
                }
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
pub(super) struct Speaker(pub(super) Weak<Cluster>);

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
