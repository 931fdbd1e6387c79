//! The driver of an established connection: moves bytes between the socket and the batch until one of them ends.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use redis::{PushKind, Value};
use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::dial::errno_name;
use super::handshake::Session;
use super::node::{CLOSE_TIMEOUT, Node, Role, deliver, ping};
use super::overseer::Sharded;
use super::reply;
use crate::error::{Error, ErrorKind};
use crate::runtime::io_thread::note_activity;
use crate::runtime::pause::Pauses;

/// So many replies missing in a row mean that nobody is there any more.
const DEAD_AFTER_TIMEOUTS: u32 = 3;
/// How often it is looked whether anything was heard, while replies are awaited.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The same while there are only subscriptions to lose.
const LOOK_EVERY_LISTENING: Duration = Duration::from_secs(3);
/// After so many looks in vain, the server is sent something that its system must acknowledge: `TCP_USER_TIMEOUT` then
/// ends a connection whose other side is gone, while a server that is only busy may take its time.
const PROBE_AFTER_LOOKS: u32 = 3;
/// A connection is gone on which nothing was heard for so long, although something was asked, and who asked has given up.
/// A system that acknowledges what nobody reads would keep it for ever otherwise.
const SILENT_FOR: Duration = Duration::from_secs(6);
/// How soon the server must answer after the process was paused for long, before anything else is sent.
const VALIDATE_WITHIN: Duration = Duration::from_millis(500);
/// What is long where TCP keepalive does not say it.
const LONG_PAUSE: Duration = Duration::from_secs(30);
/// How long a connection that is given up still waits for what it was asked.
const ABANDON_AFTER: Duration = Duration::from_millis(100);
/// Room made in the input buffer before each read.
const READ_SIZE: usize = 64 * 1024;

/// Runs until the connection is lost or closed, and says why.
pub async fn drive(node: &Node, session: Session) -> Error {
    let mut driver = Driver {
        node,
        session,
        timer: Box::pin(sleep_until(Instant::now())),
        timer_at: None,
        close_by: None,
        abandon_by: None,
        pauses: Pauses::watch(),
        told_of_pauses: None,
        validate_by: None,
        look_at: None,
        looks_since: Instant::now(),
        silent_looks: 0,
        silent_since: None,
    };
    std::future::poll_fn(|context| driver.poll(context)).await
}

struct Driver<'node> {
    node: &'node Node,
    session: Session,
    /// Fires at `timer_at`, for the earliest deadline of the batch.
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
    /// Set once the node is closing.
    close_by: Option<Instant>,
    /// Set once the connection is to be given up.
    abandon_by: Option<Instant>,
    pauses: Pauses,
    /// After how many of them others may send past this driver.
    told_of_pauses: Option<u64>,
    /// Set after a long pause, until the server has shown that it is there.
    validate_by: Option<Instant>,
    /// Set while replies are awaited: when to look whether anything was heard.
    look_at: Option<Instant>,
    /// Since when the next look looks back.
    looks_since: Instant,
    silent_looks: u32,
    silent_since: Option<Instant>,
}

impl Driver<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            if let Poll::Ready(reason) = self.poll_read(context) {
                return Poll::Ready(reason);
            }
            if let Poll::Ready(reason) = self.poll_validate() {
                return Poll::Ready(reason);
            }
            if let Poll::Ready(reason) = self.poll_abandon() {
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
            let gone = self.silent_since.is_some_and(|since| since.elapsed() >= SILENT_FOR)
                && self.node.batch().next_is_unwanted();
            if gone || self.node.batch().timeouts_in_a_row() >= DEAD_AFTER_TIMEOUTS {
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
                Ok(read) => {
                    self.node.metrics.bytes_received.add(read);
                    self.node.batch().heard();
                    self.silent_since = None;
                    self.validate_by = None;
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
            Value::Array(items) if self.node.role == Role::Subscriber => as_push(items),
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
                    self.node.subscriptions.message(&channel, payload);
                }
            }
            // The confirmation is the command's reply.
            value @ Value::Push { kind: PushKind::Subscribe | PushKind::Unsubscribe, .. } => {
                self.answer(value)
            }
            Value::Push { kind: PushKind::SMessage, data } => {
                if let (Ok([Value::BulkString(channel), Value::BulkString(payload)]), Some(overseer)) =
                    (<[Value; 2]>::try_from(data), &self.node.overseer)
                {
                    overseer.sharded(Sharded::Message(&channel, payload));
                }
            }
            Value::Push { kind: kind @ (PushKind::SSubscribe | PushKind::SUnsubscribe), data } => {
                if let (Some(Value::BulkString(channel)), Some(overseer)) =
                    (data.first(), &self.node.overseer)
                {
                    overseer.sharded(match kind {
                        PushKind::SSubscribe => Sharded::Joined(channel),
                        _ => Sharded::Left(channel),
                    });
                    self.answer(Value::Push { kind, data });
                }
            }
            Value::Push { .. } => {}
            value => self.answer(value),
        }
    }

    fn answer(&self, value: Value) {
        if self.node.role == Role::Subscriber
            && let Some(overseer) = &self.node.overseer
            && !self.node.batch().oldest().is_some_and(|request| overseer.expects(request.wire(), &value))
        {
            return;
        }
        let outcome = reply::from_value(value);
        if let (Err(error), Some(overseer)) = (&outcome, &self.node.overseer)
            && overseer.minds(error)
        {
            let denial = self.node.batch().take_denial();
            if let Some(denial) = denial {
                let settled = self.node.batch().reply(Err(denial));
                return deliver(settled);
            }
            let request = self.node.batch().take_answered();
            if let (Some(request), Err(error)) = (request, outcome) {
                overseer.refused(self.node, request, error);
            }
            return;
        }
        let settled = self.node.batch().reply(outcome);
        deliver(settled);
    }

    /// After a long pause, asks the server for a sign of life before anything else. What was received before is read
    /// by then, so whatever comes is one.
    fn poll_validate(&mut self) -> Poll<Error> {
        let now = Instant::now();
        if self.validate_by.is_some_and(|by| now >= by) {
            return Poll::Ready(lost(
                "ETIMEDOUT the connection has not survived that the process was paused",
            ));
        }
        let long = self.node.config.keep_alive().unwrap_or(LONG_PAUSE);
        let pause = self.pauses.news();
        let known = Some(self.pauses.known());
        if self.told_of_pauses != known {
            let mut batch = self.node.batch();
            if pause.is_some_and(|pause| pause > long) {
                batch.send_first(ping());
                batch.hold_back(true);
                self.validate_by = Some(now + VALIDATE_WITHIN);
            }
            batch.bypass.pauses = known;
            self.told_of_pauses = known;
        }
        Poll::Pending
    }

    /// Ends a connection that is to be given up, once everything is answered or time is over.
    fn poll_abandon(&mut self) -> Poll<Error> {
        if !self.node.is_abandoned() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let abandon_by = *self.abandon_by.get_or_insert(now + ABANDON_AFTER);
        if now >= abandon_by || !self.node.batch().awaits_replies() {
            return Poll::Ready(lost("the connection was given up for another server"));
        }
        Poll::Pending
    }

    /// Writes what waits until the socket takes no more.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Error> {
        loop {
            let mut batch = self.node.batch();
            let held_back = self.abandon_by.is_some() || self.validate_by.is_some();
            batch.hold_back(held_back);
            if !held_back {
                batch.fill();
            }
            batch.register_driver(context.waker());
            let stream = Pin::new(&mut self.session.stream);
            if batch.output().is_empty() {
                drop(batch);
                return match ready!(stream.poll_flush(context)) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(lost(&format!("{} {error}", errno_name(&error)))),
                };
            }
            match ready!(stream.poll_write(context, batch.output())) {
                Ok(written) => {
                    let commands = batch.wrote(written);
                    drop(batch);
                    self.node.metrics.commands.add(commands);
                    self.node.metrics.bytes_sent.add(written);
                }
                Err(error) => return Poll::Ready(lost(&format!("{} {error}", errno_name(&error)))),
            }
        }
    }

    /// Ends a closing connection once nothing is under way, or time is over.
    fn poll_close(&mut self) -> Poll<Error> {
        if !self.node.is_closing() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let close_by = *self.close_by.get_or_insert(now + CLOSE_TIMEOUT);
        if self.node.batch().is_idle() || now >= close_by {
            return Poll::Ready(Error::new(ErrorKind::Closed, "the connection was closed"));
        }
        Poll::Pending
    }

    /// Keeps the deadlines of requests. Ready when some have passed.
    fn poll_deadlines(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let earliest = {
            let mut batch = self.node.batch();
            let look_again = match self.look_at {
                Some(_) => None,
                None if batch.awaits_replies() => Some(LOOK_EVERY),
                None if !self.node.listens() => None,
                None => Some(LOOK_EVERY_LISTENING),
            };
            if let Some(interval) = look_again {
                // From now on.
                batch.is_silent();
                self.looks_since = Instant::now();
                self.look_at = Some(self.looks_since + interval);
            }
            batch.earliest_deadline()
        };
        let moments = [earliest, self.close_by, self.abandon_by, self.validate_by, self.look_at];
        let wanted = moments.into_iter().flatten().min();
        // An earlier alarm than needed does no harm, and setting one for every request would cost.
        if let Some(wanted) = wanted
            && self.timer_at.is_none_or(|at| wanted < at)
        {
            self.timer.as_mut().reset(wanted);
            self.timer_at = Some(wanted);
            self.node.batch().bypass.alarm = self.timer_at;
        }
        if self.timer_at.is_none() {
            return Poll::Pending;
        }
        ready!(self.timer.as_mut().poll(context));
        self.timer_at = None;
        self.node.batch().bypass.alarm = None;
        let now = Instant::now();
        let settled = self.node.batch().expire(now);
        deliver(settled);
        if self.look_at.is_some_and(|look_at| now >= look_at) {
            self.look_at = None;
            self.look();
        }
        Poll::Ready(())
    }

    /// Looks whether the server still says anything.
    fn look(&mut self) {
        let (silent, awaits_replies) = {
            let mut batch = self.node.batch();
            (batch.is_silent(), batch.awaits_replies())
        };
        if !silent || !awaits_replies {
            self.silent_looks = 0;
        }
        if !silent {
            self.silent_since = None;
        } else if awaits_replies || !self.node.subscriptions.is_empty() {
            self.silent_since.get_or_insert(self.looks_since);
        }
        if silent && awaits_replies {
            self.silent_looks += 1;
            if let Some(overseer) = &self.node.overseer {
                overseer.silent(self.node);
            }
            if self.silent_looks == PROBE_AFTER_LOOKS {
                self.node.probe();
            }
        } else if silent && self.node.listens() {
            // Who only listens would never know.
            self.node.probe();
        }
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
            b"smessage" => PushKind::SMessage,
            b"ssubscribe" => PushKind::SSubscribe,
            b"sunsubscribe" => PushKind::SUnsubscribe,
            _ => return Value::Array(items),
        },
        _ => return Value::Array(items),
    };
    Value::Push { kind, data: items.into_iter().skip(1).collect() }
}
