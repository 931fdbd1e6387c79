//! Work that may begin on the thread that asks for it. What it has to send leaves from there, so that the I/O thread
//! need not be woken before there are replies.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::runtime::Handle;

use super::io_thread::{self, Task};

type Later = Box<dyn FnOnce()>;

thread_local! {
    /// What is put off until everything has begun. `None` while nothing begins on this thread.
    static PUT_OFF: RefCell<Option<Vec<Later>>> = const { RefCell::new(None) };
}

/// Begins tasks in their order, and does then what they put off. They go on on the I/O thread, which has this runtime.
pub(super) fn begin(runtime: &Handle, tasks: impl IntoIterator<Item = Task>) {
    let _entered = runtime.enter();
    PUT_OFF.set(Some(Vec::new()));
    tasks.into_iter().for_each(begin_one);
    for later in PUT_OFF.take().into_iter().flatten() {
        drop(catch_unwind(AssertUnwindSafe(later)));
    }
}

/// Puts something off until everything has begun that begins on this thread now. `false` if nothing does.
pub fn put_off(later: impl FnOnce() + 'static) -> bool {
    PUT_OFF.with_borrow_mut(|all| all.as_mut().map(|all| all.push(Box::new(later))).is_some())
}

fn begin_one(mut task: Task) {
    let begun = Arc::new(Begun::default());
    let waker = Waker::from(Arc::clone(&begun));
    let polled = catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(&mut Context::from_waker(&waker))));
    // One that panicked is dropped, as it would be on the I/O thread.
    if matches!(polled, Ok(Poll::Pending)) {
        begun.rest().wait(task);
    }
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
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use futures_util::future::poll_fn;
    use tokio::sync::oneshot;

    use super::*;
    use crate::runtime::io_thread::{Work, begin_here, runtime, submit_all};

    const LONG: Duration = Duration::from_secs(10);

    /// A task that says on which thread it begins and ends, and ends when it is told to.
    fn task() -> (Task, oneshot::Sender<()>, Receiver<ThreadId>) {
        let (end, ended) = oneshot::channel();
        let (sender, threads) = channel();
        let task = Box::pin(async move {
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
            [Box::pin(poll_fn(move |context| {
                sender.send(thread::current().id()).unwrap();
                left -= 1;
                context.waker().wake_by_ref();
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })) as Task],
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
            [Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                sender.send(thread::current().id()).unwrap();
            }) as Task],
        );
        assert_ne!(done.recv_timeout(LONG).unwrap(), thread::current().id());
    }

    #[test]
    fn what_is_put_off_comes_after_everything_that_begins() {
        assert!(!put_off(|| unreachable!()));
        let (sender, order) = channel();
        let begins = |name: &'static str| -> Task {
            let sender = sender.clone();
            Box::pin(async move {
                sender.send(name).unwrap();
                assert!(put_off(move || sender.send("put off").unwrap()));
            })
        };
        begin(runtime(), [begins("first"), begins("second")]);
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["first", "second", "put off", "put off"]);
        assert!(!put_off(|| unreachable!()));
    }

    #[test]
    fn a_panic_costs_one_task() {
        let explodes: Task = Box::pin(poll_fn(|_| panic!("boom")));
        let (task, _end, threads) = task();
        begin(runtime(), [explodes, task]);
        assert_eq!(threads.try_recv().unwrap(), thread::current().id());
    }

    #[test]
    fn nothing_overtakes_what_was_submitted_before() {
        for _ in 0..200 {
            let (sender, order) = channel();
            let (first, second) = (sender.clone(), sender);
            submit_all([Work::Task(Box::pin(async move { first.send(1).unwrap() }))]);
            begin_here(vec![Work::Anywhere(Box::pin(async move { second.send(2).unwrap() }))]);
            let both = [order.recv_timeout(LONG).unwrap(), order.recv_timeout(LONG).unwrap()];
            assert_eq!(both, [1, 2]);
        }
    }

    #[test]
    fn what_must_not_begin_here_takes_the_others_with_it() {
        let (anywhere, _end, threads) = task();
        let (sender, ran) = channel();
        let step = Work::Step(Box::new(move || sender.send(thread::current().id()).unwrap()));
        begin_here(vec![Work::Anywhere(anywhere), step]);
        let io = ran.recv_timeout(LONG).unwrap();
        assert_ne!(io, thread::current().id());
        assert_eq!(threads.recv_timeout(LONG).unwrap(), io);
    }
}
