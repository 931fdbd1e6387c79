//! The view of a node on whoever put it there.

use std::sync::Arc;

use async_trait::async_trait;

use super::config::Endpoint;
use super::handshake::Session;
use super::node::Node;
use super::request::Request;
use crate::error::{Error, Result};

/// Who knows where the server is and what becomes of what it refuses: the Sentinels of a master, or a cluster.
#[async_trait]
pub(super) trait Overseer: Send + Sync {
    /// A node begins to exist.
    fn started(&self, _node: &Arc<Node>) {}

    /// Whether many others may have been told of this node in the same moment, so that even the first attempt to
    /// connect is put off for a part of the time between two.
    fn is_one_of_many(&self) -> bool {
        false
    }

    /// Where to connect to next.
    async fn locate(&self) -> Result<Endpoint>;

    /// Whether the server on a new connection is the one that was meant.
    async fn verify(&self, session: &mut Session, endpoint: &Endpoint) -> Result<()>;

    /// Whether a command that was answered with this error is to be handed to [`Overseer::refused`].
    fn minds(&self, error: &Error) -> bool;

    /// Takes a command that the server did not run.
    fn refused(&self, node: &Node, request: Request, error: Error);

    /// The connection is up, or was lost.
    fn changed(&self, node: &Node);

    /// Replies are awaited, and nothing has been heard for a while.
    fn silent(&self, node: &Node);

    /// The node was closed. What comes back to the caller is refused.
    fn ended(&self, node: &Node, left: Vec<Request>) -> Vec<Request>;
}
