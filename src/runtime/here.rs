//! Work that may begin on the thread that asks for it. What it has to send leaves from there, so that the I/O thread
//! need not be woken before there are replies, and not even then where this thread reads them.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::runtime::Handle;

use super::completion::CompletionList;
use super::io_thread::{self, Task, What, Work};

type Later = Box<dyn FnOnce()>;

/// What happens on this thread at the moment.
struct Here {
    /// What is put off until everything has begun.
    put_off: Vec<Later>,
    /// What begins is one of many.
    burst: bool,
    /// Tasks that were woken, each with how it is woken, if they go on here.
    woken: Option<Vec<(Arc<Begun>, Task)>>,
    /// The list that this thread looks at next, so that nobody need wake it for that.
    looked_at_next: Option<Arc<CompletionList>>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Begins work in its order, and does then what it put off. The runtime is that of the I/O thread, where tasks go on.
/// `burst`: it is some of many calls at once.
pub(super) fn begin(runtime: &Handle, work: impl IntoIterator<Item = Work>, burst: bool) {
    let here = Here { put_off: Vec::new(), burst, woken: None, looked_at_next: None };
    during(runtime, here, || {
        for work in work {
            match work.what {
                What::Step(step) => drop(catch_unwind(AssertUnwindSafe(step))),
                What::Task(task) => poll(Arc::default(), task),
            }
        }
    });
}

/// Hands out what has come for tasks: those that have begun on whatever thread go on here. Whoever calls this looks at
/// `list` afterwards.
#[cfg(any(unix, test))]
pub(super) fn hand_out<R>(runtime: &Handle, list: &Arc<CompletionList>, hand_out: impl FnOnce() -> R) -> R {
    let looked_at_next = Some(Arc::clone(list));
    let here = Here { put_off: Vec::new(), burst: false, woken: Some(Vec::new()), looked_at_next };
    during(runtime, here, || {
        let outcome = hand_out();
        while let Some(woken) = take_woken() {
            for (begun, task) in woken {
                poll(begun, task);
            }
        }
        outcome
    })
}

fn during<R>(runtime: &Handle, here: Here, act: impl FnOnce() -> R) -> R {
    let _entered = runtime.enter();
    HERE.set(Some(here));
    let outcome = act();
    let put_off = HERE.take().map(|here| here.put_off);
    for later in put_off.into_iter().flatten() {
        drop(catch_unwind(AssertUnwindSafe(later)));
    }
    outcome
}

#[cfg(any(unix, test))]
fn take_woken() -> Option<Vec<(Arc<Begun>, Task)>> {
    HERE.with_borrow_mut(|here| {
        let woken = here.as_mut()?.woken.as_mut()?;
        (!woken.is_empty()).then(|| std::mem::take(woken))
    })
}

/// Puts something off until everything has begun that begins on this thread now. `false` if nothing does.
pub fn put_off(later: impl FnOnce() + 'static) -> bool {
    HERE.with_borrow_mut(|here| here.as_mut().map(|here| here.put_off.push(Box::new(later))).is_some())
}

/// Whether something is beginning, or going on, on this thread now.
pub fn is_beginning() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// Whether what begins on this thread now is some of many calls at once.
pub fn is_burst() -> bool {
    HERE.with_borrow(|here| here.as_ref().is_some_and(|here| here.burst))
}

/// Whether this thread looks at the list next anyway.
pub(super) fn looks_next_at(list: &Arc<CompletionList>) -> bool {
    let is_it = |here: &Here| here.looked_at_next.as_ref().is_some_and(|next| Arc::ptr_eq(next, list));
    HERE.with_borrow(|here| here.as_ref().is_some_and(is_it))
}

fn poll(begun: Arc<Begun>, mut task: Task) {
    let waker = Waker::from(Arc::clone(&begun));
    begun.rest().woken = false;
    // One that panicked is dropped, as it would be on the I/O thread.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            begun.rest().wait(task);
        }
    }));
}

/// A task that has begun. Whoever has something for it lets it go on: here if this thread is handing out what has come,
/// otherwise on the I/O thread.
#[derive(Default)]
struct Begun(Mutex<Rest>);

#[derive(Default)]
struct Rest {
    task: Option<Task>,
    woken: bool,
}

impl Begun {
    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn wait(&mut self, task: Task) {
        if self.woken {
            // It lets others go first.
            io_thread::go_on(task);
        } else {
            self.task = Some(task);
        }
    }
}

impl Wake for Begun {
    fn wake(self: Arc<Self>) {
        let task = {
            let mut rest = self.rest();
            rest.woken = true;
            rest.task.take()
        };
        let Some(task) = task else { return };
        let left = HERE.with_borrow_mut(|here| match here.as_mut().and_then(|here| here.woken.as_mut()) {
            Some(woken) => {
                woken.push((self, task));
                None
            }
            None => Some(task),
        });
        if let Some(task) = left {
            io_thread::go_on(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::task::Poll;
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use futures_util::future::poll_fn;
    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::io_thread::{begin_here, runtime, submit_all};

    const LONG: Duration = Duration::from_secs(10);

    impl What {
        fn task(self) -> Task {
            match self {
                What::Task(task) => task,
                What::Step(_) => unreachable!("a step"),
            }
        }
    }

    /// A task that says on which thread it begins and ends, and ends when it is told to.
    fn task() -> (Work, oneshot::Sender<()>, Receiver<ThreadId>) {
        let (end, ended) = oneshot::channel();
        let (sender, threads) = channel();
        let task = Work::task(async move {
            sender.send(thread::current().id()).unwrap();
            ended.await.unwrap();
            sender.send(thread::current().id()).unwrap();
        });
        (task, end, threads)
    }

    #[test]
    fn what_began_here_goes_on_on_the_io_thread() {
        let (task, end, threads) = task();
        begin(runtime(), [task], false);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
        assert!(threads.try_recv().is_err());
        end.send(()).unwrap();
        assert_ne!(threads.recv_timeout(LONG).unwrap(), thread::current().id());
    }

    #[test]
    fn what_is_woken_while_it_begins_goes_on() {
        let (sender, polls) = channel();
        let mut left = 3;
        begin(
            runtime(),
            [Work::task(poll_fn(move |context| {
                sender.send(thread::current().id()).unwrap();
                left -= 1;
                context.waker().wake_by_ref();
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            }))],
            false,
        );
        let threads: Vec<_> = (0..3).map(|_| polls.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(threads[0], thread::current().id());
        assert!(threads[1] != threads[0] && threads[2] == threads[1]);
        assert!(polls.recv_timeout(LONG).is_err(), "it was dropped, not polled again");
    }

    fn list() -> Arc<CompletionList> {
        Arc::new(CompletionList::new(std::ptr::null_mut()))
    }

    #[test]
    fn what_has_begun_anywhere_goes_on_where_something_is_handed_out() {
        let (task, end, threads) = task();
        thread::spawn(|| begin(runtime(), [task], false)).join().unwrap();
        assert_ne!(threads.recv_timeout(LONG).unwrap(), thread::current().id());
        assert_eq!(hand_out(runtime(), &list(), || end.send(()).map(|()| 7)), Ok(7));
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn what_is_woken_by_what_goes_on_goes_on_as_well() {
        let (first, end_first, first_threads) = task();
        let (second, end_second, second_threads) = task();
        let then = Work::task(async move {
            first.what.task().await;
            end_second.send(()).unwrap();
        });
        begin(runtime(), [then, second], false);
        let list = list();
        hand_out(runtime(), &list, || {
            assert!(looks_next_at(&list) && !looks_next_at(&self::list()));
            end_first.send(()).unwrap();
        });
        assert!(!looks_next_at(&list));
        for threads in [first_threads, second_threads] {
            assert_eq!(threads.try_iter().collect::<Vec<_>>(), [thread::current().id(); 2]);
        }
    }

    #[test]
    fn what_lets_others_go_first_does_so_on_the_io_thread() {
        let (task, end, threads) = task();
        let (sender, last) = channel();
        let yields = Work::task(async move {
            task.what.task().await;
            tokio::task::yield_now().await;
            sender.send(thread::current().id()).unwrap();
        });
        begin(runtime(), [yields], false);
        hand_out(runtime(), &list(), || end.send(()).unwrap());
        assert_eq!(threads.try_iter().count(), 2);
        assert_ne!(last.recv_timeout(LONG).unwrap(), thread::current().id());
    }

    #[test]
    fn what_goes_on_may_put_something_off() {
        let (sender, order) = channel();
        let (end, ended) = oneshot::channel();
        let then = sender.clone();
        let task = Work::task(async move {
            let () = ended.await.unwrap();
            assert!(is_beginning() && !is_burst());
            let later = then.clone();
            assert!(put_off(move || later.send("put off").unwrap()));
            then.send("went on").unwrap();
        });
        begin(runtime(), [task], true);
        hand_out(runtime(), &list(), || {
            end.send(()).unwrap();
            sender.send("handed out").unwrap();
        });
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["handed out", "went on", "put off"]);
    }

    #[test]
    fn what_can_sleep_can_begin_here() {
        let (sender, done) = channel();
        begin(
            runtime(),
            [Work::task(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.send(thread::current().id()).unwrap();
            })],
            false,
        );
        assert_ne!(done.recv_timeout(LONG).unwrap(), thread::current().id());
    }

    #[test]
    fn what_is_put_off_comes_after_everything_that_begins() {
        assert!(!put_off(|| unreachable!()));
        let (sender, order) = channel();
        let begins = |name: &'static str| {
            let sender = sender.clone();
            Work::task(async move {
                sender.send(name).unwrap();
                assert!(put_off(move || sender.send("put off").unwrap()));
            })
        };
        begin(runtime(), [begins("first"), begins("second")], false);
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["first", "second", "put off", "put off"]);
        assert!(!put_off(|| unreachable!()));
    }

    #[test]
    fn what_is_asked_for_while_something_begins_begins_there() {
        let (sender, order) = channel();
        let (inner, outer) = (sender.clone(), sender);
        let here = thread::current().id();
        let asks = Work::step(move || {
            put_off(move || outer.send(thread::current().id()).unwrap());
            begin_here(vec![Work::step(move || inner.send(thread::current().id()).unwrap())], false);
        });
        begin(runtime(), [asks], false);
        let both = [order.recv_timeout(LONG).unwrap(), order.recv_timeout(LONG).unwrap()];
        assert!(both[0] != both[1] && both.contains(&here));
    }

    #[test]
    fn a_panic_costs_one_call() {
        let step = Work::step(|| panic!("boom"));
        let explodes = Work::task(poll_fn(|_| panic!("boom")));
        let (task, _end, threads) = task();
        begin(runtime(), [step, explodes, task], false);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn nothing_overtakes_what_was_submitted_before() {
        for _ in 0..200 {
            let (sender, order) = channel();
            let (first, second) = (sender.clone(), sender);
            submit_all([Work::task(async move { first.send(1).unwrap() })]);
            begin_here(vec![Work::task(async move { second.send(2).unwrap() })], false);
            let both = [order.recv_timeout(LONG).unwrap(), order.recv_timeout(LONG).unwrap()];
            assert_eq!(both, [1, 2]);
        }
    }
}
