//! What a program asks next is mostly an answer to results that it just got, and comes all at once. While such a burst
//! lasts, its calls are kept together, so that they leave together: a pipeline of many calls costs the I/O thread and
//! the server far less than many of a few.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::io_thread::{self, Work};

/// So many calls leave together. While the server is at work on them, the next ones are made.
const TOGETHER: usize = 16;
/// A burst is over after so long at the latest, if the thread looks, which it does at every fourth call.
const LONGEST: Duration = Duration::from_micros(200);
const LOOK_EVERY: usize = 4;
/// If it does not, as it is busy with something else, the I/O thread ends the burst.
const LONGEST_UNSEEN: Duration = Duration::from_millis(1);

thread_local! {
    static BURST: RefCell<Option<Burst>> = const { RefCell::new(None) };
}

/// A burst of the calls of one JavaScript thread.
struct Burst {
    kept: Arc<Mutex<Kept>>,
    expected: usize,
    made: usize,
    since: Instant,
}

#[derive(Default)]
struct Kept {
    work: Vec<Work>,
    /// The I/O thread has ended the burst.
    over: bool,
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Expects so many calls from this thread. Whoever says so sees that [`end`] is called before the thread waits for
/// anything.
pub(super) fn begin(calls: usize) {
    end();
    BURST.set(Some(Burst { kept: Arc::default(), expected: calls, made: 0, since: Instant::now() }));
}

/// Keeps work while a burst lasts, and otherwise gives it back.
pub(super) fn keep(work: Work) -> Option<Work> {
    BURST.with_borrow_mut(|burst| {
        let kept = match burst {
            Some(burst) => Arc::clone(&burst.kept),
            None => return Some(work),
        };
        let mut all = lock(&kept);
        if all.over {
            *burst = None;
            return Some(work);
        }
        all.work.push(work);
        let first = all.work.len() == 1;
        drop(all);
        if first {
            io_thread::submit_all([Work::Task(Box::pin(end_unseen(kept)))]);
        }
        None
    })
}

/// A call was made.
pub(super) fn called() {
    let still_expected = BURST.with_borrow_mut(|burst| {
        let burst = burst.as_mut()?;
        burst.made += 1;
        let over = burst.made >= burst.expected.min(TOGETHER)
            || (burst.made.is_multiple_of(LOOK_EVERY) && burst.since.elapsed() >= LONGEST);
        over.then(|| burst.expected.saturating_sub(burst.made))
    });
    match still_expected {
        Some(0) => end(),
        Some(calls) => begin(calls),
        None => {}
    }
}

/// Hands over what is kept.
pub(super) fn end() {
    if let Some(burst) = BURST.take() {
        let work = std::mem::take(&mut lock(&burst.kept).work);
        if !work.is_empty() {
            io_thread::submit_all(work);
        }
    }
}

async fn end_unseen(kept: Arc<Mutex<Kept>>) {
    tokio::time::sleep(LONGEST_UNSEEN).await;
    let work = {
        let mut kept = lock(&kept);
        kept.over = true;
        std::mem::take(&mut kept.work)
    };
    if !work.is_empty() {
        io_thread::submit_all(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn submit() -> Receiver<()> {
        let (sender, receiver) = channel();
        io_thread::submit(Work::Step(Box::new(move || sender.send(()).unwrap()))).unwrap();
        receiver
    }

    fn is_burst() -> bool {
        BURST.with_borrow(Option::is_some)
    }

    fn arrives(receiver: &Receiver<()>) {
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_burst_ends_with_its_last_call() {
        begin(2);
        let both = [submit(), submit()];
        called();
        called();
        assert!(!is_burst());
        both.iter().for_each(arrives);
    }

    #[test]
    fn a_long_burst_leaves_in_parts() {
        begin(3 * TOGETHER);
        let all: Vec<_> = (0..2 * TOGETHER)
            .map(|_| {
                let receiver = submit();
                called();
                receiver
            })
            .collect();
        // Although others are expected.
        all.iter().for_each(arrives);
        end();
        assert!(!is_burst());
    }

    #[test]
    fn a_thread_that_turns_to_something_else_holds_nothing_up() {
        begin(10);
        let kept = submit();
        arrives(&kept);
        // What comes afterwards is kept no longer.
        arrives(&submit());
        assert!(!is_burst());
    }
}
