//! Work that may begin on the thread that asks for it. What it has to send leaves from there, so that the I/O thread
//! need not be woken before there are replies.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

use tokio::runtime::Handle;

use super::io_thread::{self, Task, What, Work};

type Later = Box<dyn FnOnce()>;

thread_local! {
    /// What is put off until everything has begun. `None` while nothing begins on this thread.
    static PUT_OFF: RefCell<Option<Vec<Later>>> = const { RefCell::new(None) };
}

/// Begins work in its order, and does then what it put off. Tasks go on on the I/O thread, which has this runtime.
pub(super) fn begin(runtime: &Handle, work: impl IntoIterator<Item = Work>) {
    let _entered = runtime.enter();
    PUT_OFF.set(Some(Vec::new()));
    for work in work {
        match work.what {
            What::Step(step) => drop(catch_unwind(AssertUnwindSafe(step))),
            What::Task(task) => begin_task(task),
        }
    }
    for later in PUT_OFF.take().into_iter().flatten() {
        drop(catch_unwind(AssertUnwindSafe(later)));
    }
}

/// Puts something off until everything has begun that begins on this thread now. `false` if nothing does.
pub fn put_off(later: impl FnOnce() + 'static) -> bool {
    PUT_OFF.with_borrow_mut(|all| all.as_mut().map(|all| all.push(Box::new(later))).is_some())
}

/// Whether something is beginning on this thread now.
pub fn is_beginning() -> bool {
    PUT_OFF.with_borrow(Option::is_some)
}

fn begin_task(mut task: Task) {
    let begun = Arc::new(Begun::default());
    let waker = Waker::from(Arc::clone(&begun));
    // One that panicked is dropped, as it would be on the I/O thread.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            begun.rest().wait(task);
        }
    }));
}

/// A task that has begun. The I/O thread gets it when there is something to do for it.
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
        if let Some(task) = task {
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
        begin(runtime(), [task]);
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
        );
        let threads: Vec<_> = (0..3).map(|_| polls.recv_timeout(LONG).unwrap()).collect();
        assert_eq!(threads[0], thread::current().id());
        assert!(threads[1] != threads[0] && threads[2] == threads[1]);
        assert!(polls.recv_timeout(LONG).is_err(), "it was dropped, not polled again");
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
        begin(runtime(), [begins("first"), begins("second")]);
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
            begin_here(vec![Work::step(move || inner.send(thread::current().id()).unwrap())]);
        });
        begin(runtime(), [asks]);
        let both = [order.recv_timeout(LONG).unwrap(), order.recv_timeout(LONG).unwrap()];
        assert!(both[0] != both[1] && both.contains(&here));
    }

    #[test]
    fn a_panic_costs_one_call() {
        let step = Work::step(|| panic!("boom"));
        let explodes = Work::task(poll_fn(|_| panic!("boom")));
        let (task, _end, threads) = task();
        begin(runtime(), [step, explodes, task]);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn nothing_overtakes_what_was_submitted_before() {
        for _ in 0..200 {
            let (sender, order) = channel();
            let (first, second) = (sender.clone(), sender);
            submit_all([Work::task(async move { first.send(1).unwrap() })]);
            begin_here(vec![Work::task(async move { second.send(2).unwrap() })]);
            let both = [order.recv_timeout(LONG).unwrap(), order.recv_timeout(LONG).unwrap()];
            assert_eq!(both, [1, 2]);
        }
    }
}
