//! The batcher: commands wait here, leave together as one pipeline, and get their replies in order. A state machine
//! without I/O of its own; [`super::drive`] and [`super::bypass`] move the bytes.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Buf, BytesMut};
use tokio::time::Instant;

use super::bypass::Bypass;
use super::reply::Reply;
use super::request::{Request, Settled};
use crate::error::{Error, ErrorKind, Result};

/// Comes before a command whose slot is on its way to the node.
const ASKING: &[u8] = b"*1\r\n$6\r\nASKING\r\n";

/// How much may wait while there is no connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Commands.
    pub commands: usize,
    /// Bytes of commands.
    pub bytes: usize,
}

/// What keeps commands from being sent at the moment.
#[derive(Debug, Clone)]
pub enum Gate {
    /// Nothing: a connection is up.
    Open,
    /// There is no connection, for the given reason; commands wait for the next.
    Waiting(Error),
    /// Commands are refused with this error: the owner closed the connection, or the server refuses us.
    Refusing(Error),
}

struct Sent {
    request: Request,
    /// Position of its first byte in all bytes of this connection.
    start: u64,
    /// The reply to `ASKING` comes before its own.
    asked: bool,
    /// Why `ASKING` was refused.
    denied: Option<Box<Error>>,
}

/// More than this is not copied into the write buffer at once; the socket would not take it anyway.
const WRITE_AHEAD: usize = 256 * 1024;

/// Commands of one connection.
pub struct Batch {
    gate: Gate,
    limits: Limits,
    pending: VecDeque<Request>,
    pending_bytes: usize,
    sent: VecDeque<Sent>,
    /// How many of them, at the end, the socket has not taken a byte of.
    untouched: usize,
    /// Bytes that the socket has yet to take.
    output: BytesMut,
    /// Bytes that were ever put there, and bytes that the socket took.
    buffered: u64,
    written: u64,
    /// Replies that did not come in time, in a row.
    timeouts: u32,
    heard: bool,
    earliest_deadline: Option<Instant>,
    driver: Option<Waker>,
    /// The driver lets nothing be sent for a while.
    held_back: bool,
    /// The way past the driver.
    pub(super) bypass: Bypass,
}

impl Batch {
    /// An empty batch that waits for its first connection.
    pub fn new(limits: Limits) -> Self {
        Self {
            gate: Gate::Waiting(Error::new(ErrorKind::Unavailable, "the connection is being established")),
            limits,
            pending: VecDeque::new(),
            pending_bytes: 0,
            sent: VecDeque::new(),
            untouched: 0,
            output: BytesMut::new(),
            buffered: 0,
            written: 0,
            timeouts: 0,
            heard: false,
            earliest_deadline: None,
            driver: None,
            held_back: false,
            bypass: Bypass::default(),
        }
    }

    /// Queues a request; a refused one is handed back with the reason.
    pub fn push(&mut self, request: Request) -> std::result::Result<Option<Waker>, Settled> {
        let refusal = match &self.gate {
            Gate::Open => None,
            Gate::Refusing(error) => Some(error.clone()),
            Gate::Waiting(reason) => self.queue_full(&request, reason),
        };
        if let Some(error) = refusal {
            return match request.fail(error) {
                Some(settled) => Err(settled),
                None => Ok(None),
            };
        }
        self.enqueue(request);
        Ok(self.driver.take())
    }

    /// Queues a request that was accepted before, so that no bound applies.
    pub fn put_back(&mut self, request: Request) -> Option<Waker> {
        self.enqueue(request);
        self.driver.take()
    }

    fn enqueue(&mut self, request: Request) {
        self.earliest_deadline =
            Some(self.earliest_deadline.map_or(request.deadline, |earliest| earliest.min(request.deadline)));
        self.pending_bytes += request.wire.len();
        self.pending.push_back(request);
    }

    /// Takes out everything that waits, to be sent elsewhere.
    pub fn take_pending(&mut self) -> VecDeque<Request> {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    fn queue_full(&self, request: &Request, reason: &Error) -> Option<Error> {
        let Limits { commands, bytes } = self.limits;
        let full = self.pending.len() >= commands || self.pending_bytes + request.wire.len() > bytes;
        full.then(|| {
            Error::new(
                ErrorKind::QueueFull,
                format!(
                    "{} commands ({} bytes) already wait for a connection; nothing was sent ({})",
                    self.pending.len(),
                    self.pending_bytes,
                    reason.message()
                ),
            )
        })
    }

    /// Remembers whom to wake when there is something to send.
    pub fn register_driver(&mut self, waker: &Waker) {
        match &mut self.driver {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Takes whoever waits for something to send.
    pub fn take_driver(&mut self) -> Option<Waker> {
        self.driver.take()
    }

    /// A new connection is up, with this way past the driver: counting starts again.
    pub fn open(&mut self, bypass: Bypass) {
        self.gate = Gate::Open;
        self.bypass = bypass;
        self.held_back = false;
        self.buffered = 0;
        self.written = 0;
        self.timeouts = 0;
    }

    /// Lets nothing be sent for a while, or again what waits.
    pub fn hold_back(&mut self, held_back: bool) {
        self.held_back = held_back;
    }

    /// Whether what waits may be sent.
    pub fn may_send(&self) -> bool {
        matches!(self.gate, Gate::Open) && !self.held_back
    }

    /// Moves waiting commands to what the socket gets.
    pub fn fill(&mut self) {
        while self.output.len() < WRITE_AHEAD
            && let Some(request) = self.pending.pop_front()
        {
            self.pending_bytes -= request.wire.len();
            self.send_first(request);
        }
    }

    /// What the socket gets next.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Whether the socket has everything.
    pub fn is_written(&self) -> bool {
        self.output.is_empty() && self.pending.is_empty()
    }

    /// Moves a request to what the socket gets, before everything that waits.
    pub fn send_first(&mut self, request: Request) {
        let start = self.buffered;
        let asked = request.asking;
        if asked {
            self.output.extend_from_slice(ASKING);
            self.buffered += ASKING.len() as u64;
        }
        self.output.extend_from_slice(&request.wire);
        self.buffered += request.wire.len() as u64;
        self.sent.push_back(Sent { request, start, asked, denied: None });
        self.untouched += 1;
    }

    /// The socket took so many bytes. Returns of how many commands that was the first.
    pub fn wrote(&mut self, bytes: usize) -> usize {
        self.output.advance(bytes);
        self.written += bytes as u64;
        let untouched = self.untouched;
        // Replies come in order, so what is untouched is at the end.
        while let Some(next) =
            self.sent.len().checked_sub(self.untouched).and_then(|next| self.sent.get(next))
            && next.start < self.written
        {
            self.untouched -= 1;
        }
        untouched - self.untouched
    }

    /// How many requests wait to be sent, and how many for their reply.
    pub fn lengths(&self) -> (usize, usize) {
        (self.pending.len(), self.sent.len())
    }

    /// The server sent something, be it only a part of a reply: it is there.
    pub fn heard(&mut self) {
        self.timeouts = 0;
        self.heard = true;
    }

    /// Whether nothing at all was heard since this was asked before.
    pub fn is_silent(&mut self) -> bool {
        !std::mem::take(&mut self.heard)
    }

    /// The request whose reply comes next.
    pub fn oldest(&self) -> Option<&Request> {
        self.sent.front().map(|sent| &sent.request)
    }

    /// Matches a reply with the oldest request. `None` if its caller gave up, or nobody asked.
    pub fn reply(&mut self, outcome: Result<Reply>) -> Option<Settled> {
        if let (Some(first), Err(error)) = (self.sent.front_mut(), &outcome)
            && first.asked
            && error.kind() == ErrorKind::NoPermission
        {
            first.denied = Some(Box::new(error.clone()));
        }
        let mut request = self.take_answered()?;
        let sink = request.sink.take()?;
        Some(Settled(sink, outcome.map_err(|error| request.judge(error))))
    }

    /// Why what is answered next was sent without `ASKING` taking effect. Nobody else would tell it from a slot that has
    /// moved, and it would be sent to and fro.
    pub fn take_denial(&mut self) -> Option<Error> {
        let first = self.sent.front_mut().filter(|first| !first.asked)?;
        first.denied.take().map(|error| *error)
    }

    /// Takes out the request that a reply belongs to, to be settled or sent elsewhere. `None` if the reply is not the
    /// last that belongs to it.
    pub fn take_answered(&mut self) -> Option<Request> {
        let first = self.sent.front_mut()?;
        if std::mem::take(&mut first.asked) {
            return None;
        }
        let answered = self.sent.pop_front();
        self.untouched = self.untouched.min(self.sent.len());
        answered.map(|sent| sent.request)
    }

    /// Whether replies are awaited.
    pub fn awaits_replies(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether nobody waits any more for the reply that comes next. Who asked later may still wait behind it.
    pub fn next_is_unwanted(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.request.sink.is_none())
    }

    /// Whether requests wait or are on their way.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.sent.is_empty()
    }

    /// How often in a row replies were missed while nothing at all was heard. A few of them mean that the connection
    /// is dead although nobody closed it.
    pub fn timeouts_in_a_row(&self) -> u32 {
        self.timeouts
    }

    /// When [`Batch::expire`] has something to do next.
    pub fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }
}

mod endings;
#[cfg(test)]
mod tests;
