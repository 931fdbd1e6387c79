//! The I/O thread: one per process, a current-thread tokio runtime, started on first use and never stopped (it
//! sleeps while nothing happens and does not keep the process alive).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::completion::CompletionList;
use super::pause;
use super::{burst, here};
use crate::error::{Error, ErrorKind, Result};

/// A future to run to its end.
pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Work for the I/O thread.
pub struct Work {
    pub(super) what: What,
    pub(super) may_begin: MayBegin,
}

pub(super) enum What {
    Step(Box<dyn FnOnce() + Send>),
    Task(Task),
}

/// Where work may begin, and then go on: not what only the I/O thread may do, such as to listen to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MayBegin {
    /// On the I/O thread only.
    There,
    /// Also on the thread that asks for it, if there is no other call and the I/O thread would have to be woken.
    HereAlone,
    /// Likewise, and also in a burst with others like it: the server has much to do for it.
    Here,
}

impl Work {
    /// A closure that hands something over, such as one command to its connection. Must not block.
    pub fn step(step: impl FnOnce() + Send + 'static) -> Self {
        Self { what: What::Step(Box::new(step)), may_begin: MayBegin::There }
    }

    /// A future to run to its end.
    pub fn task(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { what: What::Task(Box::pin(task)), may_begin: MayBegin::There }
    }

    /// The same work, which may begin elsewhere.
    pub fn may_begin(self, may_begin: MayBegin) -> Self {
        Self { may_begin, ..self }
    }
}

/// How long the thread looks for the next call before it sleeps. Waking a sleeping thread takes about as long,
/// and it spins only while traffic is one or two calls at a time: under load there is always work.
const SPIN: Duration = Duration::from_micros(50);
const SPIN_CALLS: usize = 2;

struct IoThread {
    runtime: Handle,
    submissions: Mutex<Vec<Work>>,
    /// Work was taken from there, of which some may not have begun.
    beginning: AtomicBool,
    /// The thread has nothing to do and must be woken for new work.
    asleep: AtomicBool,
    wake: Notify,
}

impl IoThread {
    fn submissions(&self) -> MutexGuard<'_, Vec<Work>> {
        self.submissions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static IO_THREAD: OnceLock<std::result::Result<Arc<IoThread>, String>> = OnceLock::new();
static CALLS_IN_FLIGHT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static ON_IO_THREAD: Cell<bool> = const { Cell::new(false) };
    static LAST_ACTIVITY: Cell<Option<Instant>> = const { Cell::new(None) };
    static TO_FLUSH: RefCell<Vec<Arc<CompletionList>>> = const { RefCell::new(Vec::new()) };
    static FLUSH: RefCell<Option<Arc<Notify>>> = const { RefCell::new(None) };
}

fn io_thread() -> Result<&'static Arc<IoThread>> {
    IO_THREAD
        .get_or_init(start)
        .as_ref()
        .map_err(|error| Error::new(ErrorKind::Internal, format!("cannot start the I/O thread: {error}")))
}

fn start() -> std::result::Result<Arc<IoThread>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .on_thread_unpark(pause::look)
        .build()
        .map_err(|error| error.to_string())?;
    let shared = Arc::new(IoThread {
        runtime: runtime.handle().clone(),
        submissions: Mutex::default(),
        beginning: AtomicBool::new(false),
        asleep: AtomicBool::new(false),
        wake: Notify::new(),
    });
    let for_thread = Arc::clone(&shared);
    std::thread::Builder::new()
        .name("ferroflow-io".to_owned())
        .spawn(move || {
            ON_IO_THREAD.set(true);
            let flush = Arc::new(Notify::new());
            FLUSH.set(Some(Arc::clone(&flush)));
            runtime.block_on(async move {
                tokio::spawn(flush_completions(flush));
                // Spawned, not polled by `block_on` itself, so that it takes turns with the connections.
                let _ = tokio::spawn(take_submissions(for_thread)).await;
            });
        })
        .map_err(|error| error.to_string())?;
    Ok(shared)
}

/// Hands work to the I/O thread, starting it if this is the first, or lets it begin here if it may.
pub fn submit(work: Work) -> Result<()> {
    let io = io_thread()?;
    let Some(work) = burst::keep(work) else { return Ok(()) };
    let alone = CALLS_IN_FLIGHT.load(Ordering::Relaxed) <= 1 && io.asleep.load(Ordering::Relaxed);
    if alone && work.may_begin >= MayBegin::HereAlone {
        begin_here(vec![work], false);
    } else {
        submit_all([work]);
    }
    Ok(())
}

/// Hands work to the I/O thread at once. Without one, it is dropped.
pub(super) fn submit_all(work: impl IntoIterator<Item = Work>) {
    let Ok(io) = io_thread() else { return };
    let has_work = {
        let mut submissions = io.submissions();
        submissions.extend(work);
        !submissions.is_empty()
    };
    if has_work && io.asleep.swap(false, Ordering::SeqCst) {
        io.wake.notify_one();
    }
}

/// Begins work on this thread, unless something is beginning here, or something that was submitted before has yet to
/// begin: then it follows that. `burst`: it is some of many calls at once.
pub(super) fn begin_here(work: Vec<Work>, burst: bool) {
    let Ok(io) = io_thread() else { return };
    let first = {
        let submissions = io.submissions();
        submissions.is_empty() && !io.beginning.load(Ordering::Acquire) && !here::is_beginning()
    };
    if first {
        here::begin(&io.runtime, work, burst);
    } else {
        submit_all(work);
    }
}

/// Hands out on this thread what has come for tasks. Whoever calls this looks at `list` afterwards.
#[cfg(unix)]
pub(super) fn hand_out_here<R>(list: &Arc<CompletionList>, hand_out: impl FnOnce() -> R) -> Result<R> {
    Ok(here::hand_out(&io_thread()?.runtime, list, hand_out))
}

/// The runtime of the I/O thread.
#[cfg(test)]
pub(super) fn runtime() -> &'static Handle {
    &io_thread().unwrap().runtime
}

/// Lets a task that has begun go on.
pub(super) fn go_on(task: Task) {
    if ON_IO_THREAD.get() {
        drop(tokio::spawn(task));
    } else {
        submit_all([Work::task(task)]);
    }
}

/// Runs a future on the I/O thread, from any thread.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    begin(task, MayBegin::There)
}

/// Runs a future that may begin here, from any thread.
pub fn begin(task: impl Future<Output = ()> + Send + 'static, may_begin: MayBegin) -> Result<()> {
    if ON_IO_THREAD.get() {
        tokio::spawn(task);
        Ok(())
    } else {
        submit(Work::task(task).may_begin(may_begin))
    }
}

async fn take_submissions(io: Arc<IoThread>) {
    let mut batch = Vec::new();
    loop {
        {
            let mut submissions = io.submissions();
            std::mem::swap(&mut batch, &mut *submissions);
            io.beginning.store(!batch.is_empty(), Ordering::Release);
        }
        if !batch.is_empty() {
            note_activity();
            for work in batch.drain(..) {
                match work.what {
                    // A panic rejects the one call: its settler is dropped with the step.
                    What::Step(step) => drop(catch_unwind(AssertUnwindSafe(step))),
                    What::Task(task) => drop(tokio::spawn(task)),
                }
            }
            // The connections write what they were just given, and more calls may have come meanwhile.
            yield_now().await;
        } else if worth_spinning() {
            // On a busy machine the server or the JavaScript thread may be waiting for this very core.
            std::thread::yield_now();
            yield_now().await;
        } else {
            io.asleep.store(true, Ordering::SeqCst);
            // A call that came before the flag was up woke nobody.
            if io.submissions().is_empty() {
                io.wake.notified().await;
            }
            io.asleep.store(false, Ordering::SeqCst);
        }
    }
}

/// Runs a future so that a panic in it becomes an error. Not an `async` function, which would hold the future twice: as
/// its argument, and where it is polled. Thousands of them may wait for a connection.
pub fn catch_panic<T>(task: impl Future<Output = T>) -> impl Future<Output = Result<T>> {
    AssertUnwindSafe(task)
        .catch_unwind()
        .map(|outcome| outcome.map_err(|payload| Error::from_panic(&*payload)))
}

/// Remembers that something happened, for [`worth_spinning`]. Of no use on other threads.
pub fn note_activity() {
    LAST_ACTIVITY.set(Some(Instant::now()));
}

fn worth_spinning() -> bool {
    CALLS_IN_FLIGHT.load(Ordering::Relaxed) <= SPIN_CALLS
        && LAST_ACTIVITY.get().is_some_and(|last| last.elapsed() < SPIN)
}

pub(super) fn call_started() {
    CALLS_IN_FLIGHT.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn call_ended() {
    CALLS_IN_FLIGHT.fetch_sub(1, Ordering::Relaxed);
}

/// Wakes the list's environment once the current round of tasks is over, or at once from any other thread, but that
/// which looks at it next anyway.
pub(super) fn flush_later(list: Arc<CompletionList>) {
    if !ON_IO_THREAD.get() {
        if here::looks_next_at(&list) {
            list.is_looked_at();
        } else {
            list.wake();
        }
        return;
    }
    note_activity();
    TO_FLUSH.with_borrow_mut(|lists| lists.push(list));
    FLUSH.with_borrow(|flush| {
        if let Some(flush) = flush {
            flush.notify_one();
        }
    });
}

/// Woken by the first completion of a round, it is queued behind the tasks that the same replies woke, and so runs
/// when all of them have added theirs.
async fn flush_completions(flush: Arc<Notify>) {
    loop {
        flush.notified().await;
        for list in TO_FLUSH.take() {
            list.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_task_becomes_an_error() {
        let explode = || -> u32 { panic!("boom {}", 1) };
        let error = catch_panic(async { explode() }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.message().ends_with("boom 1"));
        assert_eq!(catch_panic(async { 7 }).await.unwrap(), 7);
    }

    #[test]
    fn what_catches_panics_is_no_larger_than_what_it_runs() {
        let task = async |state: [u8; 1000]| {
            yield_now().await;
            state[0]
        };
        let bare = size_of_val(&task([0; 1000]));
        assert!(size_of_val(&catch_panic(task([0; 1000]))) <= bare + 16);
    }

    #[test]
    fn a_panic_in_a_step_leaves_the_thread_at_work() {
        submit(Work::step(|| panic!("boom"))).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        submit(Work::step(move || sender.send(()).unwrap())).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    /// Whether work began on the thread that asked for it.
    fn begins_here(may_begin: MayBegin) -> bool {
        let (sender, thread) = std::sync::mpsc::channel();
        let step = move || sender.send(std::thread::current().id()).unwrap();
        submit(Work::step(step).may_begin(may_begin)).unwrap();
        thread.recv_timeout(Duration::from_secs(10)).unwrap() == std::thread::current().id()
    }

    #[test]
    fn a_call_alone_need_not_wake_the_thread() {
        // Unless other tests keep it awake.
        assert!((0..100_000).any(|_| begins_here(MayBegin::HereAlone)));
        assert!(!(0..1000).any(|_| begins_here(MayBegin::There)));
        call_started();
        call_started();
        assert!(!(0..1000).any(|_| begins_here(MayBegin::Here)));
        call_ended();
        call_ended();
    }
}
