//! The view of a node on whoever put it there.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use super::config::Endpoint;
use super::handshake::Session;
use super::node::{Node, deliver};
use super::request::Request;
use crate::error::{Error, Result};

/// What a server says of a sharded channel.
pub(super) enum Sharded<'said> {
    /// A message.
    Message(&'said [u8], Vec<u8>),
    /// It is listened to from now on.
    Joined(&'said [u8]),
    /// It is listened to no more, asked for or because the slot has left the server.
    Left(&'said [u8]),
}

/// Who knows where the server is and what becomes of what it refuses: the Sentinels of a master, or a cluster.
#[async_trait]
pub(super) trait Overseer: Send + Sync {
    /// A node begins to exist.
    fn started(&self, _node: &Arc<Node>) {}

    /// Whether commands may be written to the node by the threads that make calls.
    fn allows_bypass(&self) -> bool {
        true
    }

    /// Whether many others may have been told of this node in the same moment, so that even the first attempt to
    /// connect is put off for a part of the time between two.
    fn is_one_of_many(&self) -> bool {
        false
    }

    /// Where to connect to next.
    async fn locate(&self) -> Result<Endpoint>;

    /// Whether the server on a new connection is the one that was meant.
    async fn verify(&self, _session: &mut Session, _endpoint: &Endpoint) -> Result<()> {
        Ok(())
    }

    /// Whether a command that was answered with this error is to be handed to [`Overseer::refused`].
    fn minds(&self, _error: &Error) -> bool {
        false
    }

    /// Takes a command that the server did not run.
    fn refused(&self, _node: &Node, request: Request, error: Error) {
        deliver(request.fail(error));
    }

    /// The connection is up, or was lost.
    fn changed(&self, _node: &Node) {}

    /// Replies are awaited, and nothing has been heard for a while.
    fn silent(&self, node: &Node);

    /// Whether somebody listens to sharded channels.
    fn listens(&self) -> bool {
        false
    }

    /// Takes what the server says of sharded channels.
    fn sharded(&self, _said: Sharded<'_>) {}

    /// Whether what a server says can be the reply to this request: servers also speak unasked.
    fn expects(&self, _wire: &[u8], _said: &Value) -> bool {
        true
    }

    /// The node was closed. What comes back to the caller is refused.
    fn ended(&self, _node: &Node, left: Vec<Request>) -> Vec<Request> {
        left
    }
}
