//! Runs the machine until the lock is granted, or is not.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::engine::Locks;
use super::machine::{Action, Event, Machine, Outcome, Terms};
use super::token::Signature;
use super::underway::Underway;
use super::{Claim, ReleaseWatch, Replicas};
use crate::metrics::LOCKS;
use crate::runtime::io_thread;

/// A lock that is wanted.
#[derive(Debug, Clone)]
pub struct Request {
    /// The lock.
    pub key: String,
    /// How it is wanted.
    pub terms: Terms,
    /// Who wants it.
    pub signature: Signature,
    /// How many replicas must know of it.
    pub replicas: Option<Replicas>,
}

/// How it went.
pub struct Acquisition {
    /// The machine, which goes on if the lock is held.
    pub machine: Machine,
    /// The result.
    pub outcome: Outcome,
    /// The claim that the last attempt made.
    pub claim: Claim,
    /// Closing waits until somebody has taken note of this.
    _underway: Underway,
}

/// Acquires a lock, unless `given_up` resolves first.
pub async fn acquire(
    locks: &Arc<Locks>,
    request: Request,
    given_up: impl Future<Output = ()>,
) -> Acquisition {
    let (trial, claim, first) = Trial::start(locks, request);
    trial.go_on(locks, claim, first, given_up).await
}

/// Acquires a lock that nobody gives up but the owner of all locks, by closing them, and calls `then`, mostly
/// on the I/O thread. The first attempt is no task of its own: it leaves and ends with all others of its round.
pub fn acquire_then(
    locks: &Arc<Locks>,
    request: Request,
    then: impl FnOnce(&Arc<Locks>, Acquisition) + Send + 'static,
) {
    let (mut trial, claim, _) = Trial::start(locks, request);
    let owner = Arc::clone(locks);
    locks.attempt_then(claim, move |mut claim, answer| {
        let event = answer.map_or(Event::AskedToAbandon, Event::Answered);
        match trial.on(&owner, &mut claim, event) {
            Step::End(outcome) => then(&owner, trial.end(claim, outcome)),
            step => {
                // Without an I/O thread nobody would be here.
                let _ = io_thread::spawn(async move {
                    let acquisition = trial.go_on(&owner, claim, step, owner.until_closing()).await;
                    then(&owner, acquisition);
                });
            }
        }
    });
}

/// The attempts to acquire one lock.
struct Trial {
    machine: Machine,
    signature: Signature,
    generation: u32,
    since: Instant,
    /// Closing waits for it, since it may come to hold a lock.
    underway: Underway,
}

/// What an acquisition comes to next.
enum Step {
    Attempt,
    Pause,
    End(Outcome),
}

impl Trial {
    fn start(locks: &Arc<Locks>, request: Request) -> (Self, Claim, Step) {
        let Request { key, terms, signature, replicas } = request;
        let (machine, first) = Machine::start(terms, (locks.now)());
        let mut claim = Claim {
            key,
            id: signature.claim(),
            ttl: terms.ttl,
            attempt: 0,
            repetition: 0,
            floor: 0,
            fair: terms.fair,
            replicas,
        };
        let mut trial =
            Self { machine, signature, generation: 0, since: Instant::now(), underway: locks.begin() };
        let step = trial.carry_out(locks, &mut claim, [first]);
        (trial, claim, step)
    }

    fn on(&mut self, locks: &Arc<Locks>, claim: &mut Claim, event: Event) -> Step {
        let actions = self.machine.on((locks.now)(), event);
        self.carry_out(locks, claim, actions)
    }

    fn carry_out(
        &mut self,
        locks: &Arc<Locks>,
        claim: &mut Claim,
        actions: impl IntoIterator<Item = Action>,
    ) -> Step {
        let mut step = Step::Pause;
        for action in actions {
            match action {
                Action::Attempt { generation } => {
                    if generation != self.generation {
                        self.generation = generation;
                        claim.id = self.signature.claim();
                    }
                    claim.attempt = self.machine.attempts();
                    claim.floor = locks.floor();
                    step = Step::Attempt;
                }
                Action::Withdraw { .. } => {
                    locks.withdraw_later(claim.key.clone(), claim.id.clone(), claim.ttl);
                }
                Action::Settle(outcome) => step = Step::End(outcome),
                // They belong to a lock that is held.
                Action::Extend { .. } | Action::Release | Action::Probe | Action::Report(_) => {}
            }
        }
        step
    }

    async fn go_on(
        mut self,
        locks: &Arc<Locks>,
        mut claim: Claim,
        mut step: Step,
        given_up: impl Future<Output = ()>,
    ) -> Acquisition {
        let mut given_up = pin!(given_up);
        let mut waiting: Option<Waiting> = None;
        loop {
            let event = match step {
                Step::Attempt => tokio::select! {
                    biased;
                    () = &mut given_up => Event::AskedToAbandon,
                    answer = locks.attempt(&claim) => Event::Answered(answer),
                },
                Step::Pause => {
                    let waiting = waiting.get_or_insert_with(|| Waiting::enter(locks, &claim.key));
                    // Of those who wait here without an order, one is enough to watch the lock.
                    let alone = claim.fair || waiting.has_turn();
                    let timer = if alone {
                        self.machine.next_timer().unwrap_or_default()
                    } else {
                        self.machine.gives_up_at()
                    };
                    let pause = Duration::from_millis(timer.saturating_sub((locks.now)()));
                    tokio::select! {
                        biased;
                        () = &mut given_up => Event::AskedToAbandon,
                        () = waiting.announced() => Event::Announced,
                        () = sleep(pause) => Event::Elapsed,
                    }
                }
                Step::End(outcome) => return self.end(claim, outcome),
            };
            step = self.on(locks, &mut claim, event);
        }
    }

    fn end(self, claim: Claim, outcome: Outcome) -> Acquisition {
        match &outcome {
            Outcome::Granted { .. } => {
                LOCKS.wait.observe(self.since.elapsed());
                LOCKS.granted.add(1);
            }
            Outcome::Refused { .. } => LOCKS.refused.add(1),
            Outcome::NotReplicated { .. } => LOCKS.not_replicated.add(1),
            Outcome::Abandoned => LOCKS.abandoned.add(1),
            Outcome::Failed(_) => LOCKS.failed.add(1),
        }
        Acquisition { machine: self.machine, outcome, claim, _underway: self.underway }
    }
}

/// Those who wait for one lock in this process. They take turns in their order of arrival: only the first looks at
/// the lock when it is released, and keeps the subscription for the next.
#[derive(Default)]
struct Room {
    turn: tokio::sync::Mutex<Option<Box<dyn ReleaseWatch>>>,
}

/// The rooms of all locks that somebody waits for.
#[derive(Clone, Default)]
pub(super) struct Rooms(Arc<Mutex<HashMap<String, Arc<Room>>>>);

impl Rooms {
    fn enter(&self, key: &str) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rooms.entry(key.to_owned()).or_default())
    }

    /// The last one closes the room, and with it the subscription.
    fn leave(&self, key: &str, room: Arc<Room>) {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&room) <= 2 {
            rooms.remove(key);
        }
    }
}

/// One who waits.
struct Waiting {
    signals: Arc<Signals>,
    /// Never ends, and is polled with the waiting.
    listening: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    rooms: Rooms,
    key: String,
    room: Option<Arc<Room>>,
}

#[derive(Default)]
struct Signals {
    wake: Notify,
    has_turn: AtomicBool,
}

impl Waiting {
    fn enter(locks: &Arc<Locks>, key: &str) -> Self {
        let room = locks.rooms.enter(key);
        let signals = Arc::<Signals>::default();
        // Known before the first pause: who has the turn polls, also while nothing is subscribed to yet.
        signals.has_turn.store(room.turn.try_lock().is_ok(), Ordering::Relaxed);
        let listening = listen(Arc::clone(locks), key.to_owned(), Arc::clone(&room), Arc::clone(&signals));
        Self {
            signals,
            listening: Some(Box::pin(listening)),
            rooms: locks.rooms.clone(),
            key: key.to_owned(),
            room: Some(room),
        }
    }

    fn has_turn(&self) -> bool {
        self.signals.has_turn.load(Ordering::Relaxed)
    }

    /// The lock was released, or it is our turn to see whether it was.
    async fn announced(&mut self) {
        let Some(listening) = &mut self.listening else { return };
        tokio::select! {
            biased;
            () = self.signals.wake.notified() => {}
            () = listening => {}
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // First the turn goes to the next, then the room may close.
        self.listening = None;
        if let Some(room) = self.room.take() {
            self.rooms.leave(&self.key, room);
        }
    }
}

/// Waits for the turn and then announces every release. Beside the attempts and not before them: a subscription may
/// take its time, or not be allowed at all, and polling goes on.
async fn listen(locks: Arc<Locks>, key: String, room: Arc<Room>, signals: Arc<Signals>) {
    let mut watch = match room.turn.try_lock() {
        Ok(turn) => turn,
        Err(_) => {
            let turn = room.turn.lock().await;
            // Whoever had it before may have left the lock free.
            signals.wake.notify_one();
            turn
        }
    };
    signals.has_turn.store(true, Ordering::Relaxed);
    if watch.is_none()
        && let Ok(subscribed) = locks.store.watch(&key).await
    {
        *watch = Some(subscribed);
        // For a release between the attempt and the subscription.
        signals.wake.notify_one();
    }
    if let Some(watch) = watch.as_mut() {
        loop {
            watch.released().await;
            signals.wake.notify_one();
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests;
