//! What a program asks next is mostly an answer to results that it just got, and comes all at once. While such a burst
//! lasts, its calls are kept together, so that they leave together: a pipeline of many calls costs the I/O thread and
//! the server far less than many of a few.

use std::cell::RefCell;
use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::io_thread::{self, MayBegin, Work};

/// So many results at once are expected to be answered by as many calls.
pub(super) const ANSWERED: usize = 8;
/// So many calls leave together. While the server is at work on them, the next ones are made.
const TOGETHER: usize = 16;
/// The same for calls that begin on this thread, which then sends them as well.
const TOGETHER_HERE: usize = 32;
/// Calls leave after so long at the latest, if the thread looks, which it does at every fourth.
const LONGEST: Duration = Duration::from_micros(200);
const LOOK_EVERY: usize = 4;
/// If it does not, as it is busy with something else, the I/O thread ends the burst.
const LONGEST_UNSEEN: Duration = Duration::from_millis(1);
/// So long after a burst, the I/O thread still watches over the next one. It would have to be woken for that otherwise.
const WATCHED_FOR: Duration = Duration::from_millis(10);

thread_local! {
    static BURST: RefCell<Option<Burst>> = const { RefCell::new(None) };
    static KEPT: Kept = Kept::default();
}

/// A burst of the calls of one JavaScript thread.
struct Burst {
    expected: usize,
    made: usize,
    /// Calls that were made when the last ones left, and when that was.
    left: usize,
    since: Instant,
    /// What is kept may all begin on this thread.
    begins_here: bool,
}

/// The calls that one JavaScript thread keeps.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Keeping>>);

#[derive(Default)]
struct Keeping {
    work: Vec<Work>,
    /// A burst lasts, and calls were last let go at this moment.
    since: Option<Instant>,
    /// When the last burst ended.
    ended: Option<Instant>,
    /// The I/O thread has ended the burst.
    over: bool,
    /// The I/O thread looks whether the burst lasts too long.
    watched: bool,
}

impl fmt::Debug for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// Of the running thread.
    pub(super) fn here() -> Self {
        KEPT.with(Clone::clone)
    }

    fn open(&self) -> MutexGuard<'_, Keeping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A burst is likely to follow. I/O thread only, which need not be woken for it any more then.
    pub(super) fn expect(&self) {
        if !mem::replace(&mut self.open().watched, true) {
            tokio::spawn(self.clone().watch());
        }
    }

    async fn watch(self) {
        loop {
            tokio::time::sleep(LONGEST_UNSEEN).await;
            let mut keeping = self.open();
            let goes_on = match keeping.since {
                Some(since) => since.elapsed() < LONGEST_UNSEEN,
                None => keeping.ended.is_some_and(|ended| ended.elapsed() < WATCHED_FOR),
            };
            if goes_on {
                continue;
            }
            keeping.over = true;
            keeping.watched = false;
            // Before anybody else may see that it is over: what is called afterwards comes after it.
            io_thread::submit_all(mem::take(&mut keeping.work));
            return;
        }
    }
}

/// Expects so many calls from this thread. Whoever says so sees that [`end`] is called before the thread waits for
/// anything.
pub(super) fn begin(calls: usize) {
    end();
    let now = Instant::now();
    KEPT.with(|kept| {
        let mut keeping = kept.open();
        keeping.since = Some(now);
        keeping.over = false;
    });
    BURST.set(Some(Burst { expected: calls, made: 0, left: 0, since: now, begins_here: true }));
}

/// Keeps work while a burst lasts, and otherwise gives it back.
pub(super) fn keep(work: Work) -> Option<Work> {
    BURST.with_borrow_mut(|burst| {
        let Some(lasting) = burst else { return Some(work) };
        lasting.begins_here &= work.may_begin == MayBegin::Here;
        KEPT.with(|kept| {
            let mut keeping = kept.open();
            if keeping.over {
                *burst = None;
                return Some(work);
            }
            keeping.work.push(work);
            if !mem::replace(&mut keeping.watched, true) {
                drop(keeping);
                io_thread::submit_all([Work::task(kept.clone().watch())]);
            }
            None
        })
    })
}

/// A call was made.
pub(super) fn called() {
    let next = BURST.with_borrow_mut(|burst| burst.as_mut().map_or(Next::Stay, Burst::called));
    match next {
        Next::Stay => {}
        Next::LetGo(now, begins_here) => let_go(Some(now), begins_here),
        Next::End => end(),
    }
}

/// What follows a call.
enum Next {
    Stay,
    LetGo(Instant, bool),
    End,
}

impl Burst {
    fn called(&mut self) -> Next {
        self.made += 1;
        if self.made >= self.expected {
            return Next::End;
        }
        let most = if self.begins_here { TOGETHER_HERE } else { TOGETHER };
        let together = self.made - self.left >= most;
        let late = self.made.is_multiple_of(LOOK_EVERY) && self.since.elapsed() >= LONGEST;
        if !together && !late {
            return Next::Stay;
        }
        self.left = self.made;
        self.since = Instant::now();
        Next::LetGo(self.since, mem::replace(&mut self.begins_here, true))
    }
}

/// Hands over what is kept.
pub(super) fn end() {
    if let Some(burst) = BURST.take() {
        let_go(None, burst.begins_here);
    }
}

fn let_go(since: Option<Instant>, begins_here: bool) {
    let work = KEPT.with(|kept| {
        let mut keeping = kept.open();
        keeping.since = since;
        if since.is_none() {
            keeping.ended = Some(Instant::now());
        }
        mem::take(&mut keeping.work)
    });
    if begins_here && !work.is_empty() {
        io_thread::begin_here(work, true);
    } else {
        io_thread::submit_all(work);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    fn submit() -> Receiver<()> {
        let (sender, receiver) = channel();
        io_thread::submit(Work::step(move || sender.send(()).unwrap())).unwrap();
        receiver
    }

    fn make_calls(count: usize) -> Vec<Receiver<()>> {
        let make = |_| {
            let receiver = submit();
            called();
            receiver
        };
        (0..count).map(make).collect()
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
        let all = make_calls(2 * TOGETHER);
        // Although others are expected.
        all.iter().for_each(arrives);
        end();
        assert!(!is_burst());
    }

    #[test]
    fn a_thread_that_turns_to_something_else_after_many_calls_holds_nothing_up() {
        begin(10 * TOGETHER);
        let all = make_calls(3 * TOGETHER + 1);
        all.iter().for_each(arrives);
        end();
    }

    #[test]
    fn one_burst_after_another_is_watched() {
        for _ in 0..3 {
            begin(10);
            arrives(&submit());
            end();
        }
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

    /// Work that says on which thread it began.
    fn telling(may_begin: MayBegin) -> (Work, Receiver<ThreadId>) {
        let (sender, thread) = channel();
        let work = Work::step(move || sender.send(thread::current().id()).unwrap()).may_begin(may_begin);
        (work, thread)
    }

    /// Where the works of one burst began: here?
    fn begun(all: &[MayBegin]) -> Vec<bool> {
        begin(all.len() + 1);
        let (work, threads): (Vec<_>, Vec<_>) = all.iter().copied().map(telling).unzip();
        for work in work {
            io_thread::submit(work).unwrap();
            called();
        }
        end();
        let began = |thread: Receiver<ThreadId>| thread.recv_timeout(Duration::from_secs(10)).unwrap();
        threads.into_iter().map(|thread| began(thread) == thread::current().id()).collect()
    }

    #[test]
    fn a_burst_begins_on_one_thread() {
        use MayBegin::{Here, HereAlone, There};
        assert_eq!(begun(&[There, There]), [false, false]);
        assert_eq!(begun(&[Here, There, Here]), [false, false, false]);
        assert_eq!(begun(&[Here, HereAlone]), [false, false]);
        // Unless other tests are just handing work to the I/O thread, which this must not overtake.
        assert!((0..1000).any(|_| begun(&[Here, Here]) == [true, true]));
    }
}
