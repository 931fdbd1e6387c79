//! The ties between a cluster and its connections.

use std::sync::Weak;

use async_trait::async_trait;
use redis::{PushKind, Value};

use super::Cluster;
use super::redirect::Refusal;
use super::route::words;
use crate::connection::command::Command;
use crate::connection::config::{Address, Endpoint};
use crate::connection::handshake::Session;
use crate::connection::node::{Node, deliver, lock};
use crate::connection::overseer::{Overseer, Sharded};
use crate::connection::reply::from_value;
use crate::connection::request::Request;
use crate::connection::status::Status;
use crate::error::{Error, ErrorKind, Result};
use crate::key::slot;

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
    fn allows_bypass(&self) -> bool {
        // Nodes come and go on the I/O thread, and so do the calls that are made of them.
        false
    }

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

    fn silent(&self, _node: &Node) {
        if let Some(cluster) = self.0.upgrade() {
            cluster.table.suspect();
        }
    }
}

/// A connection to a master that carries the sharded channels of its slots.
pub(super) struct Ear {
    pub(super) cluster: Weak<Cluster>,
    pub(super) address: Address,
}

#[async_trait]
impl Overseer for Ear {
    async fn locate(&self) -> Result<Endpoint> {
        Ok(Endpoint::Tcp(self.address.clone()))
    }

    fn changed(&self, node: &Node) {
        if node.status.get() != Status::Ready
            && let Some(cluster) = self.cluster.upgrade()
        {
            cluster.table.wish(None);
            cluster.deafened(&self.address);
        }
    }

    fn silent(&self, _node: &Node) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.table.suspect();
        }
    }

    fn listens(&self) -> bool {
        self.cluster.upgrade().is_some_and(|cluster| cluster.shards.listens())
    }

    fn sharded(&self, said: Sharded<'_>) {
        if let Some(cluster) = self.cluster.upgrade() {
            cluster.said(&self.address, said);
        }
    }

    fn expects(&self, wire: &[u8], said: &Value) -> bool {
        let mut words = words(wire);
        let (name, channel) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let confirms = |data: &[Value]| data.first() == Some(&Value::BulkString(channel.to_vec()));
        match said {
            Value::Push { kind: PushKind::SSubscribe, data } => name == b"SSUBSCRIBE" && confirms(data),
            // Also said unasked, when the slot leaves the server. Then the reply is MOVED.
            Value::Push { kind: PushKind::SUnsubscribe, data } => name == b"SUNSUBSCRIBE" && confirms(data),
            Value::ServerError(_) => match from_value(said.clone()).as_ref().err().and_then(Refusal::of) {
                Some(Refusal::Moved { slot: moved, .. }) => name != b"PING" && slot(channel) == moved,
                _ => true,
            },
            _ => name == b"PING",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_unasked_is_no_reply() {
        let ear = Ear { cluster: Weak::new(), address: Address { host: "h".to_owned(), port: 1 } };
        let said = |resp: &str| redis::parse_redis_value(resp.as_bytes()).unwrap();
        let push = |kind, channel: &str| Value::Push {
            kind,
            data: vec![Value::BulkString(channel.as_bytes().to_vec()), Value::Int(0)],
        };
        let join = Command::new("SSUBSCRIBE").arg("a").into_wire();
        let leave = Command::new("SUNSUBSCRIBE").arg("a").into_wire();
        let ping = Command::new("PING").into_wire();
        for (wire, value, expected) in [
            (&join, push(PushKind::SSubscribe, "a"), true),
            (&join, push(PushKind::SSubscribe, "b"), false),
            (&join, push(PushKind::SUnsubscribe, "a"), false),
            (&leave, push(PushKind::SUnsubscribe, "a"), true),
            (&leave, push(PushKind::SUnsubscribe, "b"), false),
            (&ping, push(PushKind::SUnsubscribe, "a"), false),
            (&join, said(&format!("-MOVED {} h:1\r\n", slot(b"a"))), true),
            (&leave, said(&format!("-MOVED {} h:1\r\n", slot(b"a"))), true),
            (&join, said(&format!("-MOVED {} h:1\r\n", slot(b"b"))), false),
            (&ping, said(&format!("-MOVED {} h:1\r\n", slot(b"a"))), false),
            (&join, said("-CLUSTERDOWN x\r\n"), true),
            (&ping, said("-NOPERM x\r\n"), true),
            (&ping, said("*2\r\n$4\r\npong\r\n$0\r\n\r\n"), true),
            (&join, said("+PONG\r\n"), false),
        ] {
            assert_eq!(ear.expects(wire, &value), expected, "{} {value:?}", String::from_utf8_lossy(wire));
        }
    }
}
