//! What must hold, whatever happens. Each check knows only what went over the network and what the machines say.

use std::collections::{HashMap, HashSet};

use crate::lock::{Claim, QUEUE_LEASE};

/// What is known of one lock.
#[derive(Default)]
struct History {
    /// Tokens by their grant, counted from 1.
    grants: HashMap<String, u64>,
    last_fence: u64,
    /// The protected resource: the highest fence it has seen, and the grant of the last write it accepted.
    resource_fence: u64,
    last_write: u64,
    /// Claims whose end was confirmed.
    buried: HashSet<String>,
    queue: Vec<Waiter>,
}

struct Waiter {
    claim: String,
    /// Until when its place is certain, by the server's clock.
    lease: u64,
    /// It came back after its lease was over: its place is anybody's guess.
    uncertain: bool,
}

/// All invariants over what the server does.
pub struct Checks {
    locks: Vec<History>,
    pub highest_fence: u64,
    /// No tombstone was lost: neither with the data, nor because the clock ran ahead.
    pub tombstones_last: bool,
    /// No queue was lost.
    pub queues_last: bool,
}

impl Checks {
    pub fn new(locks: usize) -> Self {
        let locks = (0..locks).map(|_| History::default()).collect();
        Self { locks, highest_fence: 0, tombstones_last: true, queues_last: true }
    }

    /// The server granted a lock, or recognised a grant. Says which grant it is.
    pub fn granted(
        &mut self,
        lock: usize,
        claim: &Claim,
        token: &str,
        fence: u64,
        time: u64,
    ) -> Result<u64, String> {
        let (tombstones, queues) = (self.tombstones_last, self.queues_last);
        let history = &mut self.locks[lock];
        if tombstones && history.buried.contains(&claim.id) {
            return Err(format!("(c) {} holds lock {lock} after its end was confirmed", claim.id));
        }
        let next = history.grants.len() as u64 + 1;
        let grant = *history.grants.entry(token.to_owned()).or_insert(next);
        if grant == next {
            if fence <= history.last_fence {
                return Err(format!("(a) fence {fence} after {} of lock {lock}", history.last_fence));
            }
            history.last_fence = fence;
            self.highest_fence = self.highest_fence.max(fence);
            if claim.fair && queues {
                history.in_turn(lock, &claim.id, time)?;
            }
        }
        self.locks[lock].queue.retain(|waiter| waiter.claim != claim.id);
        Ok(grant)
    }

    /// Which grant a token is of.
    pub fn grant_of(&self, lock: usize, token: &str) -> u64 {
        self.locks[lock].grants.get(token).copied().unwrap_or(0)
    }

    /// A fair attempt was answered: not yet.
    pub fn queued(&mut self, lock: usize, claim: &str, time: u64) {
        self.locks[lock].see(claim, time);
    }

    /// The server carried out a withdrawal.
    pub fn withdrawn(&mut self, lock: usize, claim: &str) {
        self.locks[lock].queue.retain(|waiter| waiter.claim != claim);
    }

    /// A client knows that a claim has come to its end.
    pub fn buried(&mut self, lock: usize, claim: &str) {
        self.locks[lock].buried.insert(claim.to_owned());
    }

    /// A write arrives at the protected resource.
    pub fn write(&mut self, lock: usize, fence: u64, grant: u64) -> Result<bool, String> {
        let history = &mut self.locks[lock];
        if fence < history.resource_fence {
            return Ok(false);
        }
        history.resource_fence = fence;
        if grant < history.last_write {
            return Err(format!("(a) a write of grant {grant} after one of {}", history.last_write));
        }
        history.last_write = grant;
        Ok(true)
    }
}

impl History {
    fn see(&mut self, claim: &str, time: u64) {
        let lease = time + QUEUE_LEASE.get();
        match self.queue.iter_mut().find(|waiter| waiter.claim == claim) {
            Some(waiter) => {
                waiter.uncertain |= waiter.lease <= time;
                waiter.lease = lease;
            }
            None => self.queue.push(Waiter { claim: claim.to_owned(), lease, uncertain: false }),
        }
    }

    fn in_turn(&mut self, lock: usize, claim: &str, time: u64) -> Result<(), String> {
        self.see(claim, time);
        for waiter in &self.queue {
            if waiter.claim == claim {
                break;
            }
            let certain = self.queue.iter().any(|other| other.claim == claim && !other.uncertain);
            if certain && !waiter.uncertain && waiter.lease > time {
                return Err(format!("(d) {claim} was served before {} on lock {lock}", waiter.claim));
            }
        }
        Ok(())
    }
}
