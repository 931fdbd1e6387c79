//! Random histories of locks on a simulated clock and network, from seeds.
//!
//! Clients run the real machines, in the way of `acquire` and `hold`, against the real store of the embedded engine.
//! Between them is a network that delays, loses, repeats and reorders; clients stop for a while or hang, the server
//! restarts with its data or without, somebody sets its clock. A resource accepts a write only with a fence that is not
//! below the highest it has seen. What must hold in every run:
//!
//! - (a) No write is accepted after one of a later grant. Fences of a lock grow from grant to grant, whatever happens,
//!   if the server's clock is past the last fence when its data is lost. (Clock set back and then data lost: nobody
//!   knows the last fence but a client that saw it, and its next attempt says so.)
//! - (b) Never two valid holders at one instant, with clocks that differ by 1 % in rate, unless the server forgets
//!   (data lost, clock set, lock released by force).
//! - (c) A claim whose release or withdrawal was confirmed never holds the lock again, as long as no copy of a request is
//!   on its way for longer than a tombstone lasts, and tombstones are not lost.
//! - (d) When the faults stop, whoever waits gets the lock or is told in time, in order if it waits in order; every lock
//!   gets free, and nothing is left on the server.
//! - (e) A loss is reported once, and who was not valid is never valid again. Who hangs is not renewed for long.
//!
//! `LOCK_SEEDS=1 LOCK_SEED=4711 cargo test lock::simulation` runs one history again, and prints its end.
//! `npm run test:simulation` runs a million new ones.

mod checks;
mod client;
mod dice;
mod network;
mod plan;
mod server;
mod task;
mod verdict;
mod world;

use world::{Tally, World};

/// A mistake made on purpose, so that we see it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// A withdrawal leaves nothing for the attempts that come after it.
    NoTombstones,
    /// A repeated attempt does not bar its earlier copies.
    CopiesNotBarred,
    /// A renewal that comes late cuts off a longer extension.
    RenewalsShorten,
    /// The TTL is counted from the answer.
    CountedFromTheAnswer,
    /// The TTL is counted to its end.
    NoDrift,
    /// An extension that is confirmed after its time brings the lock back.
    LateExtensionAccepted,
    /// Fences come from a counter alone, and it is lost with the data.
    FencesOnlyCounted,
    /// A release frees the lock of whoever holds it.
    ReleaseWithoutCompare,
    /// Who waits in order does not.
    LastComeFirstServed,
    /// Who waits sleeps to the end of its budget.
    NobodyWakes,
    /// The owner's sign of life is taken for granted.
    RenewedForTheHung,
}

fn lock_name(number: usize) -> String {
    format!("{number}")
}

fn lock_number(name: &str) -> usize {
    name.parse().unwrap()
}

/// One history; if it goes wrong, what and how.
fn run(seed: u64, mutation: Mutation) -> Result<Tally, String> {
    let mut world = World::new(seed, mutation, false);
    let Err(violation) = world.run() else { return Ok(world.tally) };
    if mutation != Mutation::None {
        return Err(violation);
    }
    // Once more, and this time we listen.
    let mut world = World::new(seed, mutation, true);
    let faults = world.faults.clone();
    let _ = world.run();
    let trace = world.take_trace();
    Err(format!("{violation}\nLOCK_SEEDS=1 LOCK_SEED={seed}\n{faults:?}\n{trace}\n{violation}"))
}

fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(digits) => digits.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {digits}")),
        Err(_) => default,
    }
}

fn run_all(seeds: impl Iterator<Item = u64>) -> Result<Tally, String> {
    let mut total = Tally::default();
    for seed in seeds {
        total.add(run(seed, Mutation::None)?);
    }
    Ok(total)
}

#[test]
fn every_history_keeps_the_promises() {
    let (first, count) = (number_from("LOCK_SEED", 1), number_from("LOCK_SEEDS", 10_000));
    let threads = number_from("LOCK_THREADS", 1).max(1);
    let share = |thread: u64| (first + thread..first + count).step_by(threads as usize);
    let total = std::thread::scope(|scope| {
        let running: Vec<_> =
            (0..threads).map(|thread| scope.spawn(move || run_all(share(thread)))).collect();
        running.into_iter().fold(Tally::default(), |mut total, thread| {
            match thread.join().unwrap() {
                Ok(tally) => total.add(tally),
                Err(violation) => panic!("{violation}"),
            }
            total
        })
    });
    // A simulation in which nothing happens would keep every promise.
    if count >= 1_000 {
        assert!(total.grants > 2 * count && total.writes > count, "{total:?}");
        assert!(total.losses > count / 10 && total.rejected > count / 100, "{total:?}");
    }
}

#[test]
fn every_mistake_is_found() {
    for (mutation, promise) in [
        (Mutation::NoTombstones, "(c)"),
        (Mutation::CopiesNotBarred, "(c)"),
        (Mutation::RenewalsShorten, "(b)"),
        (Mutation::CountedFromTheAnswer, "(b)"),
        (Mutation::NoDrift, "(b)"),
        (Mutation::LateExtensionAccepted, "(e)"),
        (Mutation::FencesOnlyCounted, "(a)"),
        (Mutation::ReleaseWithoutCompare, "(b)"),
        (Mutation::LastComeFirstServed, "(d)"),
        (Mutation::NobodyWakes, "(d)"),
        (Mutation::RenewedForTheHung, "(e)"),
    ] {
        let found =
            (1..=10_000).find_map(|seed| run(seed, mutation).err().map(|violation| (seed, violation)));
        let (seed, violation) = found.unwrap_or_else(|| panic!("{mutation:?} was never found"));
        assert!(violation.starts_with(promise), "{mutation:?} broke another promise: {seed}: {violation}");
    }
}
