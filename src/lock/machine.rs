//! One acquisition as a state machine, without I/O and without a clock of its own: whoever runs it says what
//! happened and when, and carries out what it answers. So it runs on a simulated clock and network as well.
//!
//! ```text
//!   Trying ──granted──▶ Holding ──released by us──▶ Ended
//!    │  ▲                  │
//!   held │ woken, timer    └──expired, taken, owner gone──▶ Ended, and the loss is reported
//!    ▼  │
//!   Pausing ──budget spent, given up──▶ Ended, and the claim is withdrawn
//! ```

use super::{Attempt, Extent, QUEUE_LEASE, STRAY_ATTEMPT};
use crate::error::{Error, ErrorKind};
use crate::time::Millis;

mod words;

pub use words::{Action, Caps, Event, Loss, Moment, Outcome, Terms};

/// One acquisition.
#[derive(Debug)]
pub struct Machine {
    terms: Terms,
    phase: Phase,
    generation: u32,
    attempts: u32,
    give_up_at: Moment,
    holder: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Phase {
    /// An attempt is on its way. `announced` says that the lock was released meanwhile.
    Trying {
        sent_at: Moment,
        announced: bool,
    },
    /// Until the next attempt.
    Pausing {
        until: Moment,
    },
    /// The lock is ours.
    Holding(Holding),
    Ended,
}

#[derive(Debug)]
struct Holding {
    ttl: Millis,
    since: Moment,
    valid_until: Moment,
    /// When the next extension is due.
    renew_at: Moment,
    extension: Extension,
    /// No extension that is confirmed set a longer time left than this.
    longest: Millis,
    /// A shorter time left was asked for and not confirmed: until when that may still arrive, and cut off what was
    /// confirmed since.
    cut: Option<(Moment, Millis)>,
    alive_at: Moment,
    last_error: Option<Error>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extension {
    None,
    /// On its way since; `again` if another TTL was asked for meanwhile.
    Sent {
        at: Moment,
        ttl: Millis,
        again: bool,
    },
}

/// When a lock expires by our own clock: counted from before the request left, and a little early, since clocks differ
/// in rate and the server counts whole milliseconds.
pub(super) fn expiry(sent_at: Moment, ttl: Millis) -> Moment {
    let drift = ttl.get() / 100 + 2;
    sent_at + ttl.get().saturating_sub(drift)
}

/// How much later than its TTL a lock is tried again.
const EXPIRY_MARGIN: u64 = 1;
/// The longest pause after an extension that failed.
const MAX_RETRY_PAUSE: u64 = 500;

impl Machine {
    /// An acquisition that begins now.
    pub fn start(terms: Terms, now: Moment) -> (Self, Action) {
        let mut machine = Self {
            terms,
            phase: Phase::Ended,
            generation: 0,
            attempts: 0,
            give_up_at: now.saturating_add(terms.wait.get()),
            holder: None,
        };
        let first = machine.attempt(now);
        (machine, first)
    }

    /// Says what to do about an event, in this order.
    pub fn on(&mut self, now: Moment, event: Event) -> Vec<Action> {
        match &mut self.phase {
            Phase::Trying { announced, .. } => match event {
                Event::Answered(answer) => self.answered(now, answer),
                Event::Announced => {
                    *announced = true;
                    Vec::new()
                }
                Event::AskedToAbandon => self.end_waiting(Outcome::Abandoned),
                _ => Vec::new(),
            },
            Phase::Pausing { until } => match event {
                Event::AskedToAbandon => self.end_waiting(Outcome::Abandoned),
                _ if now >= self.give_up_at => self.refuse(),
                Event::Announced => vec![self.attempt(now)],
                _ if now >= *until => vec![self.attempt(now)],
                _ => Vec::new(),
            },
            Phase::Holding(_) => self.holding(now, event),
            Phase::Ended => Vec::new(),
        }
    }

    /// When [`Event::Elapsed`] is due, unless something happens earlier.
    pub fn next_timer(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Trying { .. } | Phase::Ended => None,
            Phase::Pausing { until } => Some((*until).min(self.give_up_at)),
            Phase::Holding(held) => {
                let mut next = held.valid_until;
                if self.terms.caps.liveness.is_some() && held.extension == Extension::None {
                    next = next.min(held.renew_at);
                }
                next = self.terms.caps.max_hold.map_or(next, |limit| next.min(held.since + limit.get()));
                Some(next)
            }
        }
    }

    /// When waiting ends, whatever happens.
    pub fn gives_up_at(&self) -> Moment {
        self.give_up_at
    }

    /// Until when the lock is ours for certain, if it is.
    pub fn valid_until(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Holding(held) => Some(held.valid_until),
            _ => None,
        }
    }

    /// Whether there is nothing left to do.
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// How often the lock was tried.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    fn attempt(&mut self, now: Moment) -> Action {
        self.phase = Phase::Trying { sent_at: now, announced: false };
        self.attempts = self.attempts.saturating_add(1);
        Action::Attempt { generation: self.generation }
    }

    fn answered(&mut self, now: Moment, answer: Result<Attempt, Error>) -> Vec<Action> {
        let Phase::Trying { sent_at, announced } = self.phase else { return Vec::new() };
        match answer {
            Ok(Attempt::Granted { token, fence }) => {
                let valid_until = expiry(sent_at, self.terms.ttl);
                if now >= valid_until {
                    return self.start_over(now);
                }
                self.phase = Phase::Holding(Holding {
                    ttl: self.terms.ttl,
                    since: now,
                    valid_until,
                    renew_at: sent_at + self.terms.ttl.get() / 3,
                    extension: Extension::None,
                    longest: self.terms.ttl,
                    cut: None,
                    alive_at: now,
                    last_error: None,
                });
                vec![Action::Settle(Outcome::Granted { token, fence })]
            }
            Ok(Attempt::Held { look_again, holder }) => {
                self.holder = holder;
                if now >= self.give_up_at {
                    return self.refuse();
                }
                if announced {
                    return vec![self.attempt(now)];
                }
                // Every attempt renews the place in the queue.
                let poll = if self.terms.fair { QUEUE_LEASE.get() / 3 } else { u64::MAX };
                let poll = poll.min(self.terms.poll.get());
                let pause =
                    look_again.map_or(poll, |expiry| poll.min(expiry.get().saturating_add(EXPIRY_MARGIN)));
                self.phase = Phase::Pausing { until: now.saturating_add(pause) };
                Vec::new()
            }
            Ok(Attempt::NotReplicated { reached }) => self.end_waiting(Outcome::NotReplicated { reached }),
            Err(error) => self.end_waiting(Outcome::Failed(error)),
        }
    }

    /// The grant took longer to arrive than it lasts: somebody else may hold the lock by now. Its claim is worn out.
    fn start_over(&mut self, now: Moment) -> Vec<Action> {
        let withdraw = Action::Withdraw { generation: self.generation };
        self.generation += 1;
        let next = if now >= self.give_up_at {
            self.phase = Phase::Ended;
            Action::Settle(Outcome::Refused { holder: None })
        } else {
            self.attempt(now)
        };
        vec![withdraw, next]
    }

    fn refuse(&mut self) -> Vec<Action> {
        let holder = self.holder.take();
        self.end_waiting(Outcome::Refused { holder })
    }

    fn end_waiting(&mut self, outcome: Outcome) -> Vec<Action> {
        let on_its_way = matches!(self.phase, Phase::Trying { .. });
        let left_behind = self.terms.fair
            || match &outcome {
                Outcome::Granted { .. } | Outcome::Refused { .. } => false,
                Outcome::NotReplicated { .. } => true,
                Outcome::Abandoned => on_its_way,
                // What never left, or what the server refused, is nowhere.
                Outcome::Failed(error) => matches!(
                    error.kind(),
                    ErrorKind::Timeout | ErrorKind::OutcomeUnknown | ErrorKind::Closed | ErrorKind::Internal
                ),
            };
        self.phase = Phase::Ended;
        let withdraw = left_behind.then_some(Action::Withdraw { generation: self.generation });
        withdraw.into_iter().chain([Action::Settle(outcome)]).collect()
    }

    fn holding(&mut self, now: Moment, event: Event) -> Vec<Action> {
        let Phase::Holding(held) = &mut self.phase else { return Vec::new() };
        match event {
            Event::AskedToRelease => {
                self.phase = Phase::Ended;
                return vec![Action::Release];
            }
            Event::AskedToAbandon => {
                self.phase = Phase::Ended;
                return Vec::new();
            }
            Event::Alive => {
                held.alive_at = held.alive_at.max(now);
                return Vec::new();
            }
            Event::Extended(answer) => {
                let sent = std::mem::replace(&mut held.extension, Extension::None);
                let Extension::Sent { at, ttl: sent_ttl, again } = sent else { return Vec::new() };
                match answer {
                    // Too late: by our own clock the lock was over before anybody knew better. On the server it is
                    // not, and the claim has to be withdrawn.
                    Ok(true) if now >= held.valid_until => held.extension = sent,
                    Ok(true) => {
                        held.last_error = None;
                        held.longest = sent_ttl;
                        let cut = held.cut.filter(|(until, _)| at < *until);
                        let certain = cut.map_or(sent_ttl, |(_, ttl)| ttl.min(sent_ttl));
                        held.valid_until = expiry(at, certain);
                        held.renew_at = at + certain.get() / 3;
                    }
                    Ok(false) => return self.lose(Loss::Gone),
                    Err(error) => {
                        if sent_ttl < held.longest {
                            let shortest = held.cut.map_or(sent_ttl, |(_, ttl)| ttl.min(sent_ttl));
                            held.cut = Some((now + STRAY_ATTEMPT.get(), shortest));
                        }
                        held.last_error = Some(error);
                        held.renew_at = now + (held.ttl.get() / 20).clamp(5, MAX_RETRY_PAUSE);
                    }
                }
                if again && now < held.valid_until {
                    return self.extend(now);
                }
            }
            Event::AskedToExtend(ttl) => {
                held.ttl = ttl;
                return match &mut held.extension {
                    Extension::Sent { again, .. } => {
                        *again = true;
                        Vec::new()
                    }
                    Extension::None => self.extend(now),
                };
            }
            Event::Answered(_) | Event::Announced | Event::Elapsed => {}
        }
        self.look_at_the_clock(now)
    }

    fn look_at_the_clock(&mut self, now: Moment) -> Vec<Action> {
        let Phase::Holding(held) = &mut self.phase else { return Vec::new() };
        let Caps { liveness, max_hold } = self.terms.caps;
        let hung = liveness.is_some_and(|limit| now.saturating_sub(held.alive_at) >= limit.get());
        if now >= held.valid_until {
            let error = held.last_error.clone();
            return self.lose(if hung { Loss::OwnerHung } else { Loss::Expired(error) });
        }
        if max_hold.is_some_and(|limit| now >= held.since + limit.get()) {
            return self.lose(Loss::HeldTooLong);
        }
        if liveness.is_none() {
            return Vec::new();
        }
        if held.extension != Extension::None || now < held.renew_at {
            return Vec::new();
        }
        if hung {
            // It may come back while the lock is still valid.
            held.renew_at = now + held.ttl.get() / 3;
            return vec![Action::Probe];
        }
        let mut actions = self.extend(now);
        actions.push(Action::Probe);
        actions
    }

    fn extend(&mut self, now: Moment) -> Vec<Action> {
        let Phase::Holding(held) = &mut self.phase else { return Vec::new() };
        held.extension = Extension::Sent { at: now, ttl: held.ttl, again: false };
        // Whether it arrives is not known yet, so the earlier of the two ends counts.
        held.valid_until = held.valid_until.min(expiry(now, held.ttl));
        let extent = if held.ttl < held.longest { Extent::ExactOnce } else { Extent::AtLeast };
        vec![Action::Extend { ttl: held.ttl, extent }]
    }

    fn lose(&mut self, loss: Loss) -> Vec<Action> {
        let Phase::Holding(held) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return Vec::new();
        };
        // An extension that may still be on its way must not keep a lock that nobody believes in.
        let stray = held.extension != Extension::None || held.last_error.is_some();
        let withdraw =
            (stray || loss == Loss::HeldTooLong).then_some(Action::Withdraw { generation: self.generation });
        withdraw.into_iter().chain([Action::Report(loss)]).collect()
    }
}

#[cfg(test)]
mod tests;
