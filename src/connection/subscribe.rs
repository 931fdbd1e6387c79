//! Subscriptions of a node: on its own socket under RESP3, and otherwise on one that is opened when first needed.

use std::sync::Arc;

use super::command::Command;
use super::config::Config;
use super::node::{Node, Role, closed_error, lock};
use super::pubsub::Subscription;
use super::reply::Reply;
use super::status::Status;
use crate::error::{ErrorKind, Result};

impl Node {
    /// Listens to a channel from the moment this resolves. I/O thread only.
    pub async fn subscribe(self: &Arc<Self>, channel: &str) -> Result<Subscription> {
        // Which connection carries subscriptions is known once one has been up.
        if self.status.get() != Status::Ready {
            self.answer(Command::new("PING").reads()).await.or_else(|error| match error.kind() {
                ErrorKind::NoPermission => Ok(Reply::Nil),
                _ => Err(error),
            })?;
        }
        let speaker = self.subscriber()?;
        let deserted = Arc::downgrade(&speaker);
        let subscription = speaker.subscriptions.listen(
            channel,
            Box::new(move |channel| {
                if let Some(node) = deserted.upgrade() {
                    node.tell(Command::new("UNSUBSCRIBE").arg(channel));
                }
            }),
        );
        speaker.answer(Command::new("SUBSCRIBE").arg(channel).repeatable()).await?;
        subscription.confirm();
        Ok(subscription)
    }

    /// The connection that carries subscriptions: this one under RESP3, otherwise a second one.
    fn subscriber(self: &Arc<Self>) -> Result<Arc<Self>> {
        if self.role == Role::Subscriber || self.status.speaks_resp3() {
            return Ok(Arc::clone(self));
        }
        let mut subscriber = lock(&self.subscriber);
        // Nobody would close one that is started now.
        if self.is_closing() {
            return Err(closed_error());
        }
        if let Some(node) = &*subscriber {
            return Ok(Arc::clone(node));
        }
        let config = Config { protocol: 2, ..self.config.clone() };
        Ok(Arc::clone(subscriber.insert(Self::start(config, Role::Subscriber, self.overseer.clone())?)))
    }
}
