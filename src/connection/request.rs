//! A command on its way: what it may cost in time, what has become of it so far, and who wants its outcome.

use tokio::time::Instant;

use super::command::{Command, Repeat};
use super::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics;

/// Takes the outcome of a request.
pub type Sink = Box<dyn FnOnce(Result<Reply>) + Send>;

/// A command with the time it has and the place its reply goes to.
pub struct Request {
    pub(super) wire: Vec<u8>,
    pub(super) repeat: Repeat,
    pub(super) deadline: Instant,
    /// Bytes of it may have reached the server on an earlier connection.
    pub(super) attempted: bool,
    /// The server of another node must be told that we come from there (`ASKING`).
    pub(super) asking: bool,
    /// It is meant for one server and no other.
    pub(super) pinned: bool,
    /// How often a server has sent it elsewhere, and what the last one said. None of them did anything.
    refusals: u32,
    refusal: Option<Box<Error>>,
    /// Taken when the outcome is known. A request without one still occupies its place in the pipeline.
    pub(super) sink: Option<Sink>,
}

impl Request {
    /// A request.
    pub fn new(command: Command, deadline: Instant, sink: Sink) -> Self {
        Self {
            repeat: command.repeat(),
            wire: command.into_wire(),
            deadline,
            attempted: false,
            asking: false,
            pinned: false,
            refusals: 0,
            refusal: None,
            sink: Some(sink),
        }
    }

    /// A request whose reply nobody wants.
    pub(super) fn unheard(command: Command, deadline: Instant) -> Self {
        Self { sink: None, ..Self::new(command, deadline, Box::new(|_| ())) }
    }

    /// The bytes to send.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }

    /// When its time is over.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A server did not run it; it may go to another. Returns how often that has happened.
    pub fn refused(&mut self, error: Error) -> u32 {
        self.asking = false;
        self.refusal = Some(Box::new(error));
        self.refusals += 1;
        self.refusals
    }

    /// Whether some server did not run it.
    pub fn was_refused(&self) -> bool {
        self.refusals > 0
    }

    /// It goes to the node that is taking its slot over.
    pub fn ask(&mut self) {
        self.asking = true;
    }

    /// The same for another server, with what the server gets and who hears of it.
    pub(super) fn part(&self, wire: Vec<u8>, sink: Sink) -> Self {
        Self {
            wire,
            repeat: self.repeat,
            deadline: self.deadline,
            attempted: false,
            asking: false,
            pinned: true,
            refusals: 0,
            refusal: None,
            sink: Some(sink),
        }
    }

    /// It did not happen, for this reason, unless an earlier attempt may have.
    pub fn fail(mut self, error: Error) -> Option<Settled> {
        let sink = self.sink.take()?;
        // A read that was not answered did nothing; a write may have.
        let may_have_happened = self.attempted && self.repeat != Repeat::Read;
        Some(Settled(sink, Err(if may_have_happened { no_reply(self.repeat) } else { error })))
    }

    /// What the error of a server means for all copies of it: one that was refused did nothing, but the one before it
    /// may have, if its reply was lost.
    pub(super) fn judge(&self, error: Error) -> Error {
        if self.attempted && self.repeat != Repeat::Read { error.after_another_copy() } else { error }
    }

    /// Its time is over, and it was not answered. Of a read that was refused before, that is known at least.
    pub(super) fn unanswered(&self) -> Error {
        match &self.refusal {
            Some(refusal) if self.repeat == Repeat::Read => (**refusal).clone(),
            _ => no_reply(self.repeat),
        }
    }

    /// Its time is over before it was sent, or sent again.
    pub(super) fn late(&self, unavailable: &str) -> Error {
        match &self.refusal {
            _ if self.attempted => self.unanswered(),
            Some(refusal) => (**refusal).clone(),
            None => Error::new(ErrorKind::Unavailable, unavailable.to_owned()),
        }
    }
}

/// An outcome together with the sink that wants it. Sinks are called by whoever took them out, after the batch is
/// unlocked, so that a sink may use the batch.
#[must_use]
pub struct Settled(pub(super) Sink, pub(super) Result<Reply>);

impl Settled {
    /// Hands the outcome over.
    pub fn deliver(self) {
        if let Err(error) = &self.1 {
            metrics::command_failed(error.kind());
        }
        (self.0)(self.1);
    }
}

pub(super) fn outcome_unknown(reason: &str) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!(
            "the connection to Redis was lost before the reply, the write may or may not have happened: {reason}"
        ),
    )
}

pub(super) fn no_reply(repeat: Repeat) -> Error {
    match repeat {
        Repeat::Read => Error::new(ErrorKind::Timeout, "timeout: Redis did not reply in time"),
        Repeat::Write | Repeat::Never => Error::new(
            ErrorKind::OutcomeUnknown,
            "timeout: Redis did not reply in time, the write may or may not have happened",
        ),
    }
}
