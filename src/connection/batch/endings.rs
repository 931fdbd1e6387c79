//! How requests end that get no reply: with their connection, with their owner, or with their time.

use bytes::BytesMut;
use tokio::time::Instant;

use super::{Batch, Gate, Sent};
use crate::connection::bypass::Bypass;
use crate::connection::command::Repeat;
use crate::connection::request::{Settled, outcome_unknown};
use crate::error::Error;

impl Batch {
    /// The connection is gone. What was never sent, or may be sent twice, waits for the next one; the outcome of
    /// the rest is unknown.
    pub fn lost(&mut self, reason: &Error) -> Vec<Settled> {
        let written = self.written;
        self.bypass = Bypass::default();
        // With what it has grown to.
        self.output = BytesMut::new();
        self.untouched = 0;
        let mut settled = Vec::new();
        for Sent { mut request, start, .. } in std::mem::take(&mut self.sent).into_iter().rev() {
            let Some(sink) = request.sink.take() else { continue };
            let untouched = start >= written && !request.attempted;
            if untouched || request.repeat != Repeat::Never {
                request.attempted = !untouched;
                request.sink = Some(sink);
                self.pending_bytes += request.wire.len();
                self.pending.push_front(request);
            } else {
                settled.push(Settled(sink, Err(outcome_unknown(reason.message()))));
            }
        }
        self.gate = Gate::Waiting(reason.clone());
        settled.reverse();
        settled
    }

    /// There is still no connection, for a new reason.
    pub fn wait(&mut self, reason: Error) {
        self.gate = Gate::Waiting(reason);
    }

    /// The connection is about to be given up: commands wait for the next.
    pub fn pause(&mut self, reason: Error) {
        if matches!(self.gate, Gate::Open) {
            self.gate = Gate::Waiting(reason);
        }
    }

    /// Refuses what waits and what comes. Replies to what was sent are still delivered.
    pub fn refuse(&mut self, error: Error) -> Vec<Settled> {
        self.gate = Gate::Refusing(error.clone());
        self.pending_bytes = 0;
        let settled = std::mem::take(&mut self.pending);
        settled.into_iter().filter_map(|request| request.fail(error.clone())).collect()
    }

    /// Accepts no more, but sends what waits.
    pub fn finish(&mut self, error: Error) {
        self.gate = Gate::Refusing(error);
    }

    /// Ends every request whose time is over. Those already sent keep their place in the pipeline.
    pub fn expire(&mut self, now: Instant) -> Vec<Settled> {
        if self.earliest_deadline.is_none_or(|earliest| now < earliest) {
            return Vec::new();
        }
        let mut settled = Vec::new();
        let mut earliest: Option<Instant> = None;
        let mut unanswered = false;
        let mut keep = |deadline: Instant| {
            earliest = Some(earliest.map_or(deadline, |known| known.min(deadline)));
        };
        for Sent { request, .. } in &mut self.sent {
            if request.sink.is_some() && request.deadline > now {
                keep(request.deadline);
            } else if let Some(sink) = request.sink.take() {
                unanswered = true;
                settled.push(Settled(sink, Err(request.unanswered())));
            }
        }
        // However many were waiting: they were waiting for the same thing.
        self.timeouts += u32::from(unanswered);
        let reason = match &self.gate {
            Gate::Open => "the server does not take commands fast enough",
            Gate::Waiting(reason) | Gate::Refusing(reason) => reason.message(),
        };
        let unavailable = format!("no connection to Redis in time, nothing was sent: {reason}");
        self.pending.retain_mut(|request| {
            if request.deadline > now {
                keep(request.deadline);
                return true;
            }
            self.pending_bytes -= request.wire.len();
            if let Some(sink) = request.sink.take() {
                let error = request.late(&unavailable);
                settled.push(Settled(sink, Err(error)));
            }
            false
        });
        self.earliest_deadline = earliest;
        settled
    }
}
