//! When to redial a connection that was lost, so that the clients of a restarted server do not all come back at once.
//!
//! The first attempt follows a random part of the pace after the loss, and then two thirds to the whole of the pace lie
//! between the beginnings of two. So a client keeps the phase that chance gave it, and the attempts of many that lose
//! their server in the same moment are spread evenly from the first one on, whenever it comes back: with the default
//! pace, 1,000 clients make at most 200 attempts in any 100 ms. Delays drawn from zero on each time (full jitter) would
//! have to be twice as long for that, and so would what a client waits.
//!
//! Nothing but chance keeps strangers apart. A client that loses its connection cannot know whether it is the only one,
//! so the first attempt is never made at once.
//!
//! The pace slows down with the time that the server has been away, not with the number of attempts: a few attempts in
//! a row must not make a short blip a long one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// No delay is longer, unless the pace is.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// A connection that lasted this long was a success: the next loss is a new one.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// The pace is at least the time without a server, divided by this.
const SHARE_OF_OUTAGE: u32 = 5;

/// What others wish of a connection that is not up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Somebody waits: the pace is to be that of the beginning.
    Hurry,
    /// There is a server again, or it is elsewhere. Many hear that in the same moment.
    Afresh,
    /// An attempt at once.
    Now,
}

/// The wish that was not fulfilled yet.
#[derive(Default)]
pub struct Wishes {
    wish: Mutex<Option<Wish>>,
    made: Notify,
}

impl Wishes {
    /// Makes a wish. A greater one is not forgotten over it.
    pub fn make(&self, wish: Wish) {
        let mut slot = self.slot();
        *slot = (*slot).max(Some(wish));
        self.made.notify_one();
    }

    /// Takes the wish, if there is one.
    pub fn take(&self) -> Option<Wish> {
        self.slot().take()
    }

    /// Waits until what is wished is an attempt that is not the present one.
    pub async fn for_another(&self) {
        loop {
            if *self.slot() == Some(Wish::Afresh) {
                return;
            }
            self.made.notified().await;
        }
    }

    async fn next(&self) -> Wish {
        loop {
            if let Some(wish) = self.take() {
                return wish;
            }
            self.made.notified().await;
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Wish>> {
        self.wish.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The delays between attempts to reach one server.
pub struct Redial {
    /// At first, attempts are two thirds to the whole of this apart.
    pace: Duration,
    /// It slows down no further than to this.
    slowest: Duration,
    /// Since when the server is away, if an attempt was put off already.
    since: Option<Instant>,
    /// When the last attempt began that belongs to the same loss.
    attempted: Option<Instant>,
}

impl Redial {
    /// Nothing was lost so far. `located` says that somebody else knows where the server is: the next attempt may well
    /// go to another, so the pace stays.
    pub fn new(pace: Duration, located: bool) -> Self {
        let slowest = if located { pace } else { MAX_DELAY.max(pace) };
        Self { pace, slowest, since: None, attempted: None }
    }

    /// An attempt begins.
    pub fn attempt(&mut self) {
        self.attempted = Some(Instant::now());
    }

    /// A connection that was made at `opened` is lost.
    pub fn lost(&mut self, opened: Instant) {
        if opened.elapsed() >= STABLE_AFTER {
            self.since = None;
        }
    }

    /// Waits until the next attempt is due.
    pub async fn wait(&mut self, wishes: &Wishes) {
        let mut due = Instant::now() + self.delay();
        loop {
            let wish = tokio::select! {
                () = sleep_until(due) => return,
                wish = wishes.next() => wish,
            };
            due = match wish {
                Wish::Now => return,
                Wish::Afresh => Instant::now() + self.afresh(),
                Wish::Hurry => self.hurry(due),
            };
        }
    }

    /// How long to wait before the next attempt.
    pub fn delay(&mut self) -> Duration {
        let now = Instant::now();
        let bound = match self.since {
            Some(since) => ((now - since) / SHARE_OF_OUTAGE).clamp(self.pace, self.slowest),
            None => {
                self.since = Some(now);
                self.attempted = None;
                self.pace
            }
        };
        let spacing = bound.mul_f64((2.0 + rand::random::<f64>()) / 3.0);
        let Some(attempted) = self.attempted else { return spacing.mul_f64(rand::random()) };
        // The phase that chance has given it is kept, however long the attempt took: many may have waited for the
        // same thing, and have been told in the same moment that there is none.
        let rounds = (now - attempted).as_secs_f64() / spacing.as_secs_f64();
        spacing.mul_f64(1.0 - rounds.fract())
    }

    /// The same in a phase of its own, whenever the last attempt was.
    pub fn afresh(&mut self) -> Duration {
        self.since = None;
        self.delay()
    }

    /// When an attempt that was due at `due` is due for someone who cannot wait for as long.
    fn hurry(&mut self, due: Instant) -> Instant {
        let now = Instant::now();
        self.since = Some(now);
        if due <= now + self.pace { due } else { now + self.delay() }
    }
}

#[cfg(test)]
mod tests;
