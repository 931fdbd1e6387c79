//! What the machine is told, and what it answers.

use crate::error::Error;
use crate::lock::{Attempt, Extent};
use crate::time::Millis;

/// A moment, in milliseconds of the clock that goes on while the machine is suspended.
pub type Moment = u64;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long the lock lasts if nothing extends it.
    pub ttl: Millis,
    /// How long to wait for it. Zero: one attempt.
    pub wait: Millis,
    /// The longest time between two attempts. The release by a ferroflow process wakes us at once; one by the
    /// packages that ferroflow replaces does not, and they may share the key.
    pub poll: Millis,
    /// Whether it waits in the order of arrival.
    pub fair: bool,
    /// When its renewal ends.
    pub caps: Caps,
}

/// When a lock ends that nobody releases. One that is renewed for ever would survive the sense of its owner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// How long it is renewed without a sign of life of its owner; `None`: it is not renewed, and expires.
    pub liveness: Option<Millis>,
    /// How long it may be held in all.
    pub max_hold: Option<Millis>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The attempt was answered.
    Answered(Result<Attempt, Error>),
    /// The lock was released by somebody, or may have been.
    Announced,
    /// The extension was answered: `Ok(false)` if the lock is not ours any more.
    Extended(Result<bool, Error>),
    /// Whoever waits or holds wants this TTL from now on.
    AskedToExtend(Millis),
    /// The owner releases the lock.
    AskedToRelease,
    /// Nobody wants the lock any more: the caller gave up, or the owner of all locks closes.
    AskedToAbandon,
    /// The owner showed a sign of life.
    Alive,
    /// Nothing; but time has passed.
    Elapsed,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Send an attempt with the claim of this generation, and answer with [`Event::Answered`].
    Attempt {
        /// Counts the claims.
        generation: u32,
    },
    /// Send an extension, and answer with [`Event::Extended`].
    Extend {
        /// The time left that is wanted.
        ttl: Millis,
        /// What becomes of a longer one.
        extent: Extent,
    },
    /// See that this claim comes to nothing. In the background: the machine wants no answer.
    Withdraw {
        /// Counts the claims.
        generation: u32,
    },
    /// Send the release. The machine wants no answer.
    Release,
    /// Have the owner show a sign of life, if it can: [`Event::Alive`].
    Probe,
    /// The waiting is over.
    Settle(Outcome),
    /// The lock was held and is not any more, although nobody released it.
    Report(Loss),
}

/// How an acquisition went.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The lock is ours, under this token.
    Granted {
        /// The claim and what the server added.
        token: String,
        /// Greater than that of any earlier grant.
        fence: u64,
    },
    /// Somebody else held it all the time.
    Refused {
        /// The holder's token, where it is known.
        holder: Option<Vec<u8>>,
    },
    /// Too few replicas knew of it in time; it is released again.
    NotReplicated {
        /// How many did.
        reached: u32,
    },
    /// It was given up.
    Abandoned,
    /// It cannot be said, or not be tried.
    Failed(Error),
}

/// Why a lock was lost.
#[derive(Debug, Clone, PartialEq)]
pub enum Loss {
    /// The server said so: it expired there, was taken from us, or deleted.
    Gone,
    /// Its time was over by our own clock, before an extension was confirmed.
    Expired(Option<Error>),
    /// Its owner showed no sign of life, so it was not renewed.
    OwnerHung,
    /// It was held for as long as was allowed.
    HeldTooLong,
}
