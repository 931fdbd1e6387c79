//! The driver of an established connection: moves bytes between the socket and the batch until one of them ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use redis::{PushKind, Value};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::dial::errno_name;
use super::handshake::Session;
use super::reply;
use super::single::{CLOSE_TIMEOUT, Client, Role, deliver};
use crate::error::{Error, ErrorKind};

/// So many replies missing in a row mean that nobody is there any more.
const DEAD_AFTER_TIMEOUTS: u32 = 3;
/// Room made in the input buffer before each read.
const READ_SIZE: usize = 64 * 1024;

/// Runs until the connection is lost or closed, and says why.
pub async fn drive(client: &Client, session: Session) -> Error {
    let mut driver = Driver {
        client,
        session,
        timer: Box::pin(sleep_until(Instant::now())),
        timer_at: None,
        close_by: None,
    };
    std::future::poll_fn(|context| driver.poll(context)).await
}

struct Driver<'client> {
    client: &'client Client,
    session: Session,
    /// Fires at `timer_at`, for the earliest deadline of the batch.
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    /// Set once the client is closing.
    close_by: Option<Instant>,
}

impl Driver<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            if let Poll::Ready(reason) = self.poll_read(context) {
                return Poll::Ready(reason);
            }
            if let Poll::Ready(reason) = self.poll_write(context) {
                return Poll::Ready(reason);
            }
            if let Poll::Ready(reason) = self.poll_close() {
                return Poll::Ready(reason);
            }
            if self.poll_deadlines(context).is_pending() {
                return Poll::Pending;
            }
            if self.client.batch().timeouts_in_a_row() >= DEAD_AFTER_TIMEOUTS {
                return Poll::Ready(lost("ETIMEDOUT the server stopped replying"));
            }
        }
    }

    /// Reads until the socket has no more, handing out replies as they are complete.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            self.session.input.reserve(READ_SIZE);
            let stream = Pin::new(&mut self.session.stream);
            match ready!(poll_read_buf(stream, context, &mut self.session.input)) {
                Ok(0) => return Poll::Ready(lost("ECONNRESET the server closed the connection")),
                Ok(_) => {
                    self.client.batch().heard();
                    if let Err(reason) = self.take_replies() {
                        return Poll::Ready(reason);
                    }
                }
                Err(error) => {
                    return Poll::Ready(lost(&format!("{} {error}", errno_name(&error))));
                }
            }
        }
    }

    fn take_replies(&mut self) -> Result<(), Error> {
        loop {
            match self.session.codec.decode(&mut self.session.input) {
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

    fn take(&mut self, value: Value) {
        let value = match value {
            Value::Array(items) if self.client.role() == Role::Subscriber => as_push(items),
            other => other,
        };
        match value {
            Value::Push { kind: PushKind::Message, data } => {
                if let Ok([Value::BulkString(channel), Value::BulkString(payload)]) =
                    <[Value; 2]>::try_from(data)
                {
                    self.client.subscriptions.message(&channel, payload);
                }
            }
            // The confirmation is the command's reply.
            value @ Value::Push { kind: PushKind::Subscribe | PushKind::Unsubscribe, .. } => {
                self.answer(value)
            }
            Value::Push { .. } => {}
            value => self.answer(value),
        }
    }

    fn answer(&self, value: Value) {
        let settled = self.client.batch().reply(reply::from_value(value));
        deliver(settled);
    }

    /// Writes what waits until the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            {
                let mut batch = self.client.batch();
                batch.fill(&mut self.session.output);
                batch.register_driver(context.waker());
            }
            let stream = Pin::new(&mut self.session.stream);
            if self.session.output.is_empty() {
                return match ready!(stream.poll_flush(context)) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(lost(&format!("{} {error}", errno_name(&error)))),
                };
            }
            match ready!(stream.poll_write(context, &self.session.output)) {
                Ok(written) => {
                    self.session.output.advance(written);
                    self.client.batch().wrote(written);
                }
                Err(error) => return Poll::Ready(lost(&format!("{} {error}", errno_name(&error)))),
            }
        }
    }

    /// Ends a closing connection once nothing is under way, or time is over.
    fn poll_close(&mut self) -> Poll<Error> {
        if !self.client.is_closing() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let close_by = *self.close_by.get_or_insert(now + CLOSE_TIMEOUT);
        if self.client.batch().is_idle() || now >= close_by {
            return Poll::Ready(Error::new(ErrorKind::Closed, "the connection was closed"));
        }
        Poll::Pending
    }

    /// Keeps the deadlines of requests. Ready when some have passed.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let earliest = self.client.batch().earliest_deadline();
        let wanted = match (earliest, self.close_by) {
            (Some(deadline), Some(close_by)) => Some(deadline.min(close_by)),
            (deadline, close_by) => deadline.or(close_by),
        };
        // An earlier alarm than needed does no harm, and setting one for every request would cost.
        if let Some(wanted) = wanted
            && self.timer_at.is_none_or(|at| wanted < at)
        {
            self.timer.as_mut().reset(wanted);
            self.timer_at = Some(wanted);
        }
        if self.timer_at.is_none() {
            return Poll::Pending;
        }
        ready!(self.timer.as_mut().poll(context));
        self.timer_at = None;
        let settled = self.client.batch().expire(Instant::now());
        deliver(settled);
        Poll::Ready(())
    }
}

fn lost(reason: &str) -> Error {
    Error::new(ErrorKind::Unavailable, reason.to_owned())
}

/// On a RESP2 subscriber connection, messages and confirmations are plain arrays.
fn as_push(items: Vec<Value>) -> Value {
    let kind = match items.first() {
        Some(Value::BulkString(kind)) => match kind.as_slice() {
            b"message" => PushKind::Message,
            b"subscribe" => PushKind::Subscribe,
            b"unsubscribe" => PushKind::Unsubscribe,
            _ => return Value::Array(items),
        },
        _ => return Value::Array(items),
    };
    Value::Push { kind, data: items.into_iter().skip(1).collect() }
}
