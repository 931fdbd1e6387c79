//! What is asked of the store at the same time, and so may be asked together. The first of a round of the I/O thread, or
//! of a burst of calls, waits until the others have come, which costs nobody anything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::engine::Locks;
use super::{Attempt, Claim, Release};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread::{self, MayBegin};

/// As many as one script may be given: it holds up everybody else.
const MOST: usize = 64;

/// What is done with a question and its answer.
type Then<Q, A> = Box<dyn FnOnce(Q, A) + Send>;

/// Questions of one kind, each with what follows.
struct Group<Q, A> {
    questions: Vec<Q>,
    then: Vec<Then<Q, A>>,
}

impl<Q, A> Default for Group<Q, A> {
    fn default() -> Self {
        Self { questions: Vec::new(), then: Vec::new() }
    }
}

impl<Q, A> Group<Q, A> {
    fn push(&mut self, question: Q, then: impl FnOnce(Q, A) + Send + 'static) {
        self.questions.push(question);
        self.then.push(Box::new(then));
    }

    fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// In groups of at most so many.
    fn split(mut self, most: usize) -> Vec<Self> {
        let mut groups = Vec::new();
        while !self.is_empty() {
            let end = self.questions.len().min(most);
            let rest = Self { questions: self.questions.split_off(end), then: self.then.split_off(end) };
            groups.push(std::mem::replace(&mut self, rest));
        }
        groups
    }

    fn answer(self, answers: Vec<A>) {
        for ((question, then), answer) in self.questions.into_iter().zip(self.then).zip(answers) {
            // A panic rejects the one call: its settler is dropped with what was to follow.
            drop(catch_unwind(AssertUnwindSafe(|| then(question, answer))));
        }
    }
}

/// `None`: nobody wants the lock any more, as its owner closes.
type Tried = Option<Result<Attempt>>;

/// The round that is open.
#[derive(Default)]
pub(super) struct Round(Mutex<Questions>);

#[derive(Default)]
struct Questions {
    /// Locks and tokens.
    releases: Group<(String, String), Result<Release>>,
    /// The same with tokens that were not acquired here, or are over.
    from_elsewhere: Group<(String, String), Result<Release>>,
    attempts: Group<Claim, Tried>,
}

impl Questions {
    fn is_empty(&self) -> bool {
        self.releases.is_empty() && self.from_elsewhere.is_empty() && self.attempts.is_empty()
    }
}

impl Round {
    fn open(&self) -> MutexGuard<'_, Questions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Locks {
    /// Makes an attempt, and calls `then`, mostly on the I/O thread.
    pub(super) fn attempt_then(
        self: &Arc<Self>,
        claim: Claim,
        then: impl FnOnce(Claim, Tried) + Send + 'static,
    ) {
        self.ask(|round| round.attempts.push(claim, then));
    }

    /// Makes an attempt.
    pub(super) async fn attempt(self: &Arc<Self>, claim: &Claim) -> Result<Attempt> {
        if claim.fair || claim.replicas.is_some() || !self.store.gains_by_rounds() {
            return self.store.try_acquire(claim).await;
        }
        let (sender, answer) = oneshot::channel();
        self.attempt_then(claim.clone(), |_, tried| drop(sender.send(tried)));
        answer.await.ok().flatten().unwrap_or_else(|| Err(unanswered()))
    }

    /// Frees a lock, and calls `then`, mostly on the I/O thread. `is_ours`: it was acquired here, and is ours by our own clock.
    pub(super) fn release_then(
        self: &Arc<Self>,
        lock: (String, String),
        is_ours: bool,
        then: impl FnOnce((String, String), Result<Release>) + Send + 'static,
    ) {
        self.ask(|round| {
            let group = if is_ours { &mut round.releases } else { &mut round.from_elsewhere };
            group.push(lock, then);
        });
    }

    /// Frees a lock.
    pub(super) async fn free(self: &Arc<Self>, key: &str, token: &str) -> Result<Release> {
        if !self.store.gains_by_rounds() {
            return self.store.release(key, token).await;
        }
        let (sender, answer) = oneshot::channel();
        self.release_then((key.to_owned(), token.to_owned()), true, |_, freed| drop(sender.send(freed)));
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Frees several locks, each with its token, as far as they are still held.
    pub(super) async fn free_all(&self, locks: &[(String, String)]) {
        join_all(locks.chunks(MOST).map(|locks| self.store.release_all(locks))).await;
    }

    fn ask(self: &Arc<Self>, join: impl FnOnce(&mut Questions)) {
        let first = {
            let mut round = self.round.open();
            let first = round.is_empty();
            join(&mut round);
            first
        };
        if first {
            let this = Arc::clone(self);
            let end = async move { this.end_round().await };
            // A cluster's nodes come and go on the I/O thread.
            let may_begin = if self.store.gains_by_rounds() { MayBegin::Here } else { MayBegin::There };
            if io_thread::begin(end, may_begin).is_err() {
                // Nobody will answer; those who asked notice that what was to follow is gone.
                let round = std::mem::take(&mut *self.round.open());
                drop(round);
            }
        }
    }

    /// Sends what was asked. Releases first: whoever releases and acquires again expects it in this order.
    async fn end_round(&self) {
        let Questions { releases, from_elsewhere, attempts } = std::mem::take(&mut *self.round.open());
        // Those of a group wait for each other, which is for nothing where each asks for itself: in a cluster a node that
        // is slow would hold up what others have granted.
        let most = if self.store.gains_by_rounds() { MOST } else { 1 };
        let releases = releases.split(most).into_iter().map(async |group| {
            let answers = self.store.release_all(&group.questions).await;
            group.answer(answers);
        });
        let from_elsewhere = from_elsewhere.split(1).into_iter().map(async |group| {
            let released =
                group.questions.iter().map(|(key, token)| self.store.release_from_elsewhere(key, token));
            let answers = join_all(released).await;
            group.answer(answers);
        });
        let attempts = attempts.split(most).into_iter().map(async |group| {
            // Closing first: what is granted afterwards is for nobody.
            let answers = tokio::select! {
                biased;
                () = self.until_closing() => group.questions.iter().map(|_| None).collect(),
                answers = self.store.try_acquire_all(&group.questions) => {
                    answers.into_iter().map(Some).collect()
                }
            };
            group.answer(answers);
        });
        tokio::join!(biased; join_all(releases), join_all(from_elsewhere), join_all(attempts));
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Internal, "a question to the locks was dropped")
}
