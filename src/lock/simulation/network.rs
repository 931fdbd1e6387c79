//! The network: every message is delayed, and may be lost, repeated or overtaken.

use super::lock_name;
use super::server::{Answer, Request};
use super::world::{Call, Happening, MAX_STRAY, MS, Purpose, World};
use crate::error::{Error, ErrorKind, Result as Answered};
use crate::lock::engine::withdraw_again;
use crate::lock::machine::Moment;
use crate::lock::{Attempt, Extent};

impl World {
    /// How long a message takes, in microseconds.
    pub(super) fn latency(&mut self) -> u64 {
        let slow = self.faults.slow;
        if self.dice.chance(slow) {
            self.dice.spread(MS, (3 * self.scale).min(MAX_STRAY))
        } else {
            self.dice.between(50, 800)
        }
    }

    /// Sends a request, as the connection does: it may be lost on either way, sent again, and arrive in any order.
    /// In the end the caller hears something.
    pub(super) fn send(&mut self, task: usize, request: Request, purpose: Purpose) -> u64 {
        self.next_call += 1;
        let call = self.next_call;
        self.calls.insert(call, Call { task, purpose });
        let drops = self.faults.drops;
        let mut request = request;
        let repeated = match &request {
            // Not sent twice.
            Request::Extend { extent: Extent::ExactOnce, .. } => false,
            _ => self.dice.chance(self.faults.repeats),
        };
        let mut delay = 0;
        if repeated {
            let stray = self.dice.spread(50, (3 * self.scale).min(MAX_STRAY));
            self.after(stray, Happening::Arrive { call, request: request.clone(), heard: false });
            delay = self.dice.spread(50, self.deadline / 2);
            if let Request::Acquire(claim) = &mut request {
                claim.repetition = 1;
            }
        }
        let never_left = !repeated && self.down && self.dice.chance(500);
        if !never_left && !self.dice.chance(drops) {
            delay += self.latency();
            self.after(delay, Happening::Arrive { call, request, heard: true });
        }
        let kind = if never_left { ErrorKind::Unavailable } else { ErrorKind::OutcomeUnknown };
        let answer = Err(Error::new(kind, "no answer"));
        self.after(self.deadline, Happening::Answer { call, answer });
        call
    }

    pub(super) fn arrive(&mut self, call: u64, request: &Request, heard: bool) -> Result<(), String> {
        if self.down {
            return Ok(());
        }
        let time = self.server.set_time(self.now);
        let answer = self.server.run(request);
        let key = match request {
            Request::Acquire(claim) => &claim.key,
            Request::Extend { key, .. }
            | Request::Release { key, .. }
            | Request::Withdraw { key, .. }
            | Request::Force { key } => key,
        };
        let lock = super::lock_number(key);
        match (request, &answer) {
            (Request::Acquire(claim), Ok(Answer::Attempt(Attempt::Granted { token, fence }))) => {
                self.checks.granted(lock, claim, token, *fence, time)?;
                self.free_since[lock] = self.now + claim.ttl.get() * MS;
            }
            (Request::Acquire(claim), Ok(Answer::Attempt(_))) if claim.fair => {
                self.checks.queued(lock, &claim.id, time);
            }
            (Request::Extend { ttl, .. }, _) => {
                self.free_since[lock] = self.free_since[lock].max(self.now + ttl.get() * MS);
            }
            (Request::Withdraw { claim, .. }, _) => self.checks.withdrawn(lock, claim),
            _ => {}
        }
        self.note(|_| format!("    the server answers {answer:?}"));
        if self.server.announced(lock) {
            self.free_since[lock] = self.now;
            for client in 0..self.clients.len() {
                let lost = self.faults.drops;
                if self.rooms.contains_key(&(client, lock)) && !self.dice.chance(lost) {
                    let delay = self.latency();
                    self.after(delay, Happening::Announce { client, lock });
                }
            }
        }
        if heard && !self.dice.chance(self.faults.drops) {
            let delay = self.latency();
            self.after(delay, Happening::Answer { call, answer });
        }
        Ok(())
    }

    /// A connection that was lost may have missed any release.
    pub(super) fn announce_everywhere(&mut self) {
        for client in 0..self.clients.len() {
            for lock in 0..self.free_since.len() {
                let delay = self.latency();
                self.after(delay, Happening::Announce { client, lock });
            }
        }
    }

    pub(super) fn withdraw(&mut self, task: usize, claim: String, until: Moment) {
        let request = Request::Withdraw { key: lock_name(self.tasks[task].lock), claim: claim.clone() };
        self.send(task, request, Purpose::Withdrawal { claim, until });
    }

    /// What `withdraw_later` does with an answer.
    pub(super) fn withdrawal_answered(
        &mut self,
        task: usize,
        claim: String,
        until: Moment,
        answer: &Answered<Answer>,
    ) {
        match answer {
            Ok(_) => self.checks.buried(self.tasks[task].lock, &claim),
            Err(error) if !withdraw_again(error) || self.local(task) >= until => {}
            Err(_) => self.after(500 * MS, Happening::WithdrawAgain { task, claim, until }),
        }
    }
}
