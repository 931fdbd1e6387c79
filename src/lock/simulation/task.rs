//! One acquisition: what `acquire` and `hold` keep beside the machine.

use crate::lock::Claim;
use crate::lock::machine::{Machine, Moment, Terms};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Planned,
    Acquiring,
    Holding,
    Done,
}

pub struct Task {
    pub client: usize,
    pub lock: usize,
    pub terms: Terms,
    pub stage: Stage,
    pub machine: Option<Machine>,
    pub claim: Claim,
    pub generation: u32,
    /// A timer of an earlier epoch is void.
    pub epoch: u64,
    /// The calls whose answers the machine waits for.
    pub attempt: Option<u64>,
    pub extension: Option<u64>,
    pub alive_at: Moment,
    /// When the owner last asked for an extension.
    pub asked_at: Moment,
    /// When it began to wait, in microseconds of true time.
    pub began: u64,
    pub token: String,
    pub fence: u64,
    /// Which grant of the lock it is, as the checks count.
    pub grant: u64,
    /// How much the machine's clock is behind: none, but in a mutation.
    pub skew: u64,
    /// When the attempt was sent, by the client's clock.
    pub sent_at: Moment,
    /// It was seen not to be valid any more.
    pub was_invalid: bool,
    /// It reported its loss.
    pub lost: bool,
}

impl Task {
    pub fn new(client: usize, lock: usize, terms: Terms) -> Self {
        let claim = Claim {
            key: super::lock_name(lock),
            id: String::new(),
            ttl: terms.ttl,
            attempt: 0,
            repetition: 0,
            floor: 0,
            fair: terms.fair,
            replicas: None,
        };
        Self {
            client,
            lock,
            terms,
            stage: Stage::Planned,
            machine: None,
            claim,
            generation: 0,
            epoch: 0,
            attempt: None,
            extension: None,
            alive_at: 0,
            asked_at: 0,
            began: 0,
            token: String::new(),
            fence: 0,
            grant: 0,
            skew: 0,
            sent_at: 0,
            was_invalid: false,
            lost: false,
        }
    }

    /// Whether it believes that the lock is its own.
    pub fn is_valid(&self, local: Moment) -> bool {
        let until = self.machine.as_ref().and_then(Machine::valid_until).unwrap_or(0);
        self.stage == Stage::Holding && until > local.saturating_sub(self.skew)
    }
}

/// One process.
pub struct Client {
    /// How fast its clock goes, in millionths.
    pub rate: u64,
    pub started: u64,
    pub paused: bool,
    /// Since when its event loop does not turn, by its own clock.
    pub hung_since: Option<Moment>,
    /// The highest fence it has seen.
    pub floor: u64,
}

impl Client {
    /// Its clock, in milliseconds, at this microsecond of the true time.
    pub fn clock(&self, now: u64) -> Moment {
        (self.started + now * self.rate / 1_000_000) / 1000
    }

    /// The first microsecond at which its clock shows this.
    pub fn when(&self, moment: Moment) -> u64 {
        let elapsed = moment.saturating_mul(1000).saturating_sub(self.started);
        (u128::from(elapsed) * 1_000_000).div_ceil(u128::from(self.rate)) as u64
    }
}
