//! What a server says, on its way to whoever waits for it.

use redis::{PushKind, Value};

use super::drive::lost;
use super::inbox::Inbox;
use super::node::{Node, Role, deliver};
use super::overseer::Sharded;
use super::reply;
use crate::error::Error;
use crate::runtime::io_thread::note_activity;

impl Node {
    /// Hands out what is complete of what was just received. An error: the connection is of no use any more.
    pub(super) fn received(&self, inbox: &mut Inbox, bytes: usize) -> Result<(), Error> {
        self.metrics.bytes_received.add(bytes);
        self.batch().heard();
        loop {
            match inbox.codec.decode(&mut inbox.input) {
                Ok(Some(value)) => self.take(value),
                Ok(None) => return Ok(()),
                Err(violation) => {
                    let what = violation.text();
                    return Err(lost(&format!(
                        "the server sent something that is not the Redis protocol: {what}"
                    )));
                }
            }
        }
    }

    fn take(&self, value: Value) {
        let value = match value {
            Value::Array(items) if self.role == Role::Subscriber => as_push(items),
            other => other,
        };
        if let Value::Push { kind: PushKind::Message | PushKind::SMessage, .. } = &value {
            // Whoever waited for it is likely to ask for something now, and to wait for the answer.
            note_activity();
        }
        match value {
            Value::Push { kind: PushKind::Message, data } => {
                if let Ok([Value::BulkString(channel), Value::BulkString(payload)]) =
                    <[Value; 2]>::try_from(data)
                {
                    self.subscriptions.message(&channel, payload);
                }
            }
            // The confirmation is the command's reply.
            value @ Value::Push { kind: PushKind::Subscribe | PushKind::Unsubscribe, .. } => {
                self.settle(value)
            }
            Value::Push { kind: PushKind::SMessage, data } => {
                if let (Ok([Value::BulkString(channel), Value::BulkString(payload)]), Some(overseer)) =
                    (<[Value; 2]>::try_from(data), &self.overseer)
                {
                    overseer.sharded(Sharded::Message(&channel, payload));
                }
            }
            Value::Push { kind: kind @ (PushKind::SSubscribe | PushKind::SUnsubscribe), data } => {
                if let (Some(Value::BulkString(channel)), Some(overseer)) = (data.first(), &self.overseer) {
                    overseer.sharded(match kind {
                        PushKind::SSubscribe => Sharded::Joined(channel),
                        _ => Sharded::Left(channel),
                    });
                    self.settle(Value::Push { kind, data });
                }
            }
            Value::Push { .. } => {}
            value => self.settle(value),
        }
    }

    fn settle(&self, value: Value) {
        if self.role == Role::Subscriber
            && let Some(overseer) = &self.overseer
            && !self.batch().oldest().is_some_and(|request| overseer.expects(request.wire(), &value))
        {
            return;
        }
        let outcome = reply::from_value(value);
        if let (Err(error), Some(overseer)) = (&outcome, &self.overseer)
            && overseer.minds(error)
        {
            let denial = self.batch().take_denial();
            if let Some(denial) = denial {
                let settled = self.batch().reply(Err(denial));
                return deliver(settled);
            }
            let request = self.batch().take_answered();
            if let (Some(request), Err(error)) = (request, outcome) {
                overseer.refused(self, request, error);
            }
            return;
        }
        let settled = self.batch().reply(outcome);
        deliver(settled);
    }
}

/// On a RESP2 subscriber connection, messages and confirmations are plain arrays.
fn as_push(items: Vec<Value>) -> Value {
    let kind = match items.first() {
        Some(Value::BulkString(kind)) => match kind.as_slice() {
            b"message" => PushKind::Message,
            b"subscribe" => PushKind::Subscribe,
            b"unsubscribe" => PushKind::Unsubscribe,
            b"smessage" => PushKind::SMessage,
            b"ssubscribe" => PushKind::SSubscribe,
            b"sunsubscribe" => PushKind::SUnsubscribe,
            _ => return Value::Array(items),
        },
        _ => return Value::Array(items),
    };
    Value::Push { kind, data: items.into_iter().skip(1).collect() }
}
