//! Notices that the process did not run for a while: it was stopped, its host froze it, or the machine slept. Its
//! connections may have died meanwhile without a word.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::io_thread;
use crate::time::{since_boot, unix_micros};

/// How often the I/O thread runs at least, while anybody wants to know.
const BEAT: Duration = Duration::from_secs(1);
/// Without a sign of life for so long, it did not run. A busy machine may take its time.
const NOTICEABLE_MILLIS: u64 = 2000;
/// What goes wrong so soon after a pause is due to it.
const FRESH_MILLIS: u64 = 2000;

/// Milliseconds since the machine started, and of the wall clock, of the last sign of life. A virtual machine that is
/// frozen may know its pause only by the latter; setting it forwards looks like a pause, and costs no more than a probe.
static SEEN_AT: AtomicU64 = AtomicU64::new(0);
static SEEN_AT_WALL: AtomicU64 = AtomicU64::new(0);
static PAUSES: AtomicU64 = AtomicU64::new(0);
static LENGTH: AtomicU64 = AtomicU64::new(0);
static ENDED_AT: AtomicU64 = AtomicU64::new(0);

static WATCHERS: AtomicUsize = AtomicUsize::new(0);
static BEATING: AtomicBool = AtomicBool::new(false);

/// Pauses of the process since this was made.
pub struct Pauses {
    known: u64,
}

impl Pauses {
    /// Begins to watch. I/O thread only.
    pub fn watch() -> Self {
        WATCHERS.fetch_add(1, Ordering::AcqRel);
        if !BEATING.swap(true, Ordering::AcqRel) {
            // Until now nobody showed a sign of life.
            remember(now());
            // Without an I/O thread there is nothing that could be paused.
            let _ = io_thread::spawn(beat());
        }
        Self { known: PAUSES.load(Ordering::Acquire) }
    }

    /// How many pauses are known, of all since the process started.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// How long the process was paused, if it was since this was asked before.
    pub fn news(&mut self) -> Option<Duration> {
        let pauses = PAUSES.load(Ordering::Acquire);
        (pauses != std::mem::replace(&mut self.known, pauses))
            .then(|| Duration::from_millis(LENGTH.load(Ordering::Acquire)))
    }

    /// Whether there was one since this was asked before, and it ended so recently that it is the reason for what
    /// happens now.
    pub fn ended_just_now(&mut self) -> bool {
        let ended = || since_boot().get().saturating_sub(ENDED_AT.load(Ordering::Acquire));
        self.news().is_some() && ended() < FRESH_MILLIS
    }
}

impl Drop for Pauses {
    fn drop(&mut self) {
        WATCHERS.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Shows a sign of life, and notices that there was none for long. I/O thread only, before anything else that it does
/// after it slept.
pub fn look() {
    let now = now();
    let away = between(seen(), now);
    if away >= NOTICEABLE_MILLIS && BEATING.load(Ordering::Acquire) {
        LENGTH.store(away, Ordering::Release);
        ENDED_AT.store(now.0, Ordering::Release);
        PAUSES.fetch_add(1, Ordering::AcqRel);
    }
    // At last, so that nobody takes a pause for noticed that is not counted.
    remember(now);
}

/// Whether the process was paused since so many pauses were known, or seems to have been.
pub fn since(known: u64) -> bool {
    // The I/O thread has yet to look, or is late at least.
    let unnoticed = BEATING.load(Ordering::Acquire) && between(seen(), now()) >= NOTICEABLE_MILLIS;
    unnoticed || PAUSES.load(Ordering::Acquire) != known
}

/// Milliseconds by both clocks.
type Moment = (u64, u64);

fn now() -> Moment {
    (since_boot().get(), unix_micros() / 1000)
}

fn seen() -> Moment {
    (SEEN_AT.load(Ordering::Acquire), SEEN_AT_WALL.load(Ordering::Acquire))
}

fn remember(now: Moment) {
    SEEN_AT.store(now.0, Ordering::Release);
    SEEN_AT_WALL.store(now.1, Ordering::Release);
}

fn between(before: Moment, after: Moment) -> u64 {
    after.0.saturating_sub(before.0).max(after.1.saturating_sub(before.1))
}

/// Ends when nobody watches any more.
async fn beat() {
    while WATCHERS.load(Ordering::Acquire) > 0 {
        sleep(BEAT).await;
        // After this long without a sleep, nothing else would have looked.
        look();
    }
    BEATING.store(false, Ordering::Release);
}
