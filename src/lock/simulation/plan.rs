//! What may happen in a run.

use super::dice::Dice;
use crate::lock::machine::{Caps, Terms};
use crate::time::Millis;

/// Which faults a run has, most of them in so many of a thousand cases.
#[derive(Debug, Clone)]
pub struct Faults {
    pub drops: u64,
    pub repeats: u64,
    pub slow: u64,
    pub aborts: u64,
    pub crashes: u64,
    pub pauses: bool,
    pub hangs: bool,
    pub outages: bool,
    pub data_loss: bool,
    pub clock_steps: bool,
    pub forced: bool,
}

impl Faults {
    pub fn throw(dice: &mut Dice) -> Self {
        let mut rate = |share, most| if dice.chance(share) { dice.spread(5, most) } else { 0 };
        let (drops, repeats) = (rate(500, 300), rate(500, 300));
        let (slow, aborts, crashes) = (rate(600, 500), rate(400, 300), rate(300, 200));
        Self {
            drops,
            repeats,
            slow,
            aborts,
            crashes,
            pauses: dice.chance(500),
            hangs: dice.chance(300),
            outages: dice.chance(300),
            data_loss: dice.chance(150),
            clock_steps: dice.chance(150),
            forced: dice.chance(150),
        }
    }

    /// Whether the server may give a lock away before its time.
    pub fn server_may_forget(&self) -> bool {
        self.data_loss || self.clock_steps || self.forced
    }

    /// None any more.
    pub fn heal(&mut self) {
        *self = Self {
            drops: 0,
            repeats: 0,
            slow: 0,
            aborts: 0,
            crashes: 0,
            pauses: false,
            hangs: false,
            outages: false,
            data_loss: self.data_loss,
            clock_steps: self.clock_steps,
            forced: self.forced,
        };
    }
}

/// How one lock is wanted. `scale` is the TTL that most in this run have, in milliseconds.
pub fn terms(dice: &mut Dice, scale: u64) -> Terms {
    let ttl = if dice.chance(800) { scale } else { dice.spread(10, 30_000) };
    let wait = if dice.chance(150) { 0 } else { dice.spread(10, 10 * scale).min(60_000) };
    let liveness = dice.chance(600).then(|| Millis::new(dice.spread(ttl, 10 * ttl)));
    let capped = liveness.is_some() && dice.chance(200);
    let max_hold = capped.then(|| Millis::new(dice.spread(ttl, 10 * ttl)));
    let caps = Caps { liveness, max_hold };
    // A few polls a TTL, as in production, so that a run does not drown in them.
    let poll = Millis::new((wait / 10).clamp(10, 2_000));
    Terms { ttl: Millis::new(ttl), wait: Millis::new(wait), poll, fair: dice.chance(400), caps }
}
