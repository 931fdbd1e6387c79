//! The driver of an established connection: moves bytes between the socket and the batch until one of them ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::io::poll_read_buf;

use super::dial::{Stream, errno_name};
use super::handshake::Session;
use super::inbox::{Inbox, READ_SIZE};
use super::loan::{self, Look};
use super::node::{CLOSE_TIMEOUT, Node, deliver, lock, ping};
use crate::error::{Error, ErrorKind};
use crate::runtime::pause::{self, Pauses};

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
/// So often in a row is read what nobody attended to.
const MOST_UNATTENDED: u32 = 8;

/// Runs until the connection is lost or closed, and says why.
pub async fn drive(node: &Node, session: Session) -> Error {
    *lock(&node.inbox) = Inbox::new(session.codec, session.input);
    let mut driver = Driver {
        node,
        stream: session.stream,
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
        loan_look_at: None,
    };
    std::future::poll_fn(|context| driver.poll(context)).await
}

struct Driver<'node> {
    node: &'node Node,
    stream: Stream,
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
    /// Set while another thread reads: when to look after that.
    loan_look_at: Option<Instant>,
}

impl Drop for Driver<'_> {
    /// Nobody reads any more. Other handles of the socket are closed when their threads come to it, so the connection is
    /// ended, that the server knows.
    fn drop(&mut self) {
        *lock(&self.node.inbox) = Inbox::default();
        self.node.batch().bypass.end();
    }
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
        let node = self.node;
        let mut reads = 0;
        loop {
            // Once for each part, as other threads may be waiting for it.
            let mut inbox = lock(&node.inbox);
            if let Some(reason) = inbox.loans.take_lost() {
                return Poll::Ready(reason);
            }
            match self.look_after_loan(&mut inbox) {
                Ok(true) => return Poll::Pending,
                Ok(false) => {}
                Err(error) => return Poll::Ready(lost_by(&error)),
            }
            inbox.input.reserve(READ_SIZE);
            match poll_read_buf(Pin::new(&mut self.stream), context, &mut inbox.input) {
                Poll::Ready(Ok(0)) => return Poll::Ready(server_closed()),
                Poll::Ready(Ok(read)) => {
                    // Whoever had it lent is too busy to read.
                    inbox.loans.take_back();
                    reads += 1;
                    self.silent_since = None;
                    self.validate_by = None;
                    if let Err(reason) = node.received(&mut inbox, read) {
                        return Poll::Ready(reason);
                    }
                    // Attended, it takes turns with others.
                    if reads >= MOST_UNATTENDED
                        && let Err(error) = self.stream.attend()
                    {
                        return Poll::Ready(lost_by(&error));
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(lost_by(&error)),
                Poll::Pending if inbox.loans.is_lent() || self.stream.is_attended() => return Poll::Pending,
                // Only now that nothing is left to read: what arrives from here on is noticed.
                Poll::Pending => {
                    if let Err(error) = self.stream.attend() {
                        return Poll::Ready(lost_by(&error));
                    }
                }
            }
        }
    }

    /// Whether another thread reads, and does so in time.
    fn look_after_loan(&mut self, inbox: &mut Inbox) -> io::Result<bool> {
        if inbox.loans.was_read() {
            self.silent_since = None;
        }
        let is_lent = inbox.loans.is_lent();
        let needed_here = self.node.is_closing()
            || self.node.is_abandoned()
            || self.validate_by.is_some()
            || is_lent && self.told_of_pauses.is_none_or(pause::since);
        inbox.loans.allow(!needed_here);
        self.loan_look_at = None;
        if !is_lent {
            return Ok(false);
        }
        let now = Instant::now();
        let look = inbox.loans.look(now);
        if look == Look::TakeBack {
            inbox.loans.take_back();
        } else {
            self.stream.leave()?;
            self.loan_look_at = Some(now + loan::LOOK_EVERY);
        }
        Ok(look == Look::Leave)
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
            let is_long = pause.is_some_and(|pause| pause > long);
            if is_long {
                // What comes next is to be seen here.
                lock(&self.node.inbox).loans.allow(false);
            }
            let mut batch = self.node.batch();
            if is_long {
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
            let stream = Pin::new(&mut self.stream);
            if batch.output().is_empty() {
                drop(batch);
                return match ready!(stream.poll_flush(context)) {
                    Ok(()) => Poll::Pending,
                    Err(error) => Poll::Ready(lost_by(&error)),
                };
            }
            match ready!(stream.poll_write(context, batch.output())) {
                Ok(written) => {
                    let commands = batch.wrote(written);
                    drop(batch);
                    self.node.metrics.commands.add(commands);
                    self.node.metrics.bytes_sent.add(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(batch);
                    // Nobody would say when it takes more, unless it is attended.
                    lock(&self.node.inbox).loans.take_back();
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(lost_by(&error)),
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
        let moments =
            [earliest, self.close_by, self.abandon_by, self.validate_by, self.look_at, self.loan_look_at];
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

pub(super) fn lost(reason: &str) -> Error {
    Error::new(ErrorKind::Unavailable, reason.to_owned())
}

pub(super) fn lost_by(error: &io::Error) -> Error {
    lost(&format!("{} {error}", errno_name(error)))
}

pub(super) fn server_closed() -> Error {
    lost("ECONNRESET the server closed the connection")
}
