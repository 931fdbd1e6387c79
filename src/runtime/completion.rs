//! The completion list of an environment: finished calls on their way back to JavaScript.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use napi::sys;

use super::burst::{ANSWERED, Kept};
use super::io_thread;
use super::output::Output;
use crate::error::{Error, ErrorKind};
use crate::metrics::{Operation, Timer};

/// What a finished call resolves or rejects with.
pub type Answer = Result<Output, Error>;

/// A promise's native half. Opaque here; only the environment that made it settles it, on its own thread.
#[derive(Debug)]
pub(super) struct Deferred(pub(super) sys::napi_deferred);

// SAFETY: the pointer is carried, never dereferenced, off the JavaScript thread; `Environment::drain` uses it on
// the thread that created it.
unsafe impl Send for Deferred {}

/// One entry of the list.
#[derive(Debug)]
pub(super) enum Completion {
    /// A call that ended.
    Settle { deferred: Deferred, answer: Answer },
    /// Something that happened by itself, for the environment's event sink.
    Event { source: u32, name: &'static str, detail: Output },
    /// A question whether the event loop turns: the moment when it is read is the answer.
    Probe { alive_at: Arc<AtomicU64> },
}

/// The half of an environment that other threads may touch.
#[derive(Debug)]
pub(super) struct CompletionList {
    entries: Mutex<Vec<Completion>>,
    /// The way to wake the JavaScript thread; gone once the environment ends. Calls are made under the lock, so
    /// that the environment cannot end in the middle of one.
    wake: Mutex<Option<WakeHandle>>,
    /// A wake is on its way, and the entries added until it arrives need no other.
    wake_pending: AtomicBool,
    /// The list is on the I/O thread's round of lists to flush.
    flush_pending: AtomicBool,
    /// What the environment's thread keeps for a moment.
    kept: Kept,
}

#[derive(Debug)]
struct WakeHandle(sys::napi_threadsafe_function);

// SAFETY: a threadsafe function is made to be called from any thread.
unsafe impl Send for WakeHandle {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl CompletionList {
    pub(super) fn new(wake: sys::napi_threadsafe_function) -> Self {
        Self {
            entries: Mutex::default(),
            wake: Mutex::new(Some(WakeHandle(wake))),
            wake_pending: AtomicBool::new(false),
            flush_pending: AtomicBool::new(false),
            kept: Kept::here(),
        }
    }

    /// Adds an entry, of which the environment is told: by the I/O thread at the end of its round.
    pub(super) fn push(self: &Arc<Self>, completion: Completion) {
        lock(&self.entries).push(completion);
        if !self.flush_pending.swap(true, Ordering::AcqRel) {
            io_thread::flush_later(Arc::clone(self));
        }
    }

    /// Wakes the environment's thread at the end of a round. I/O thread only.
    pub(super) fn flush(&self) {
        if lock(&self.entries).len() >= ANSWERED {
            self.kept.expect();
        }
        self.wake();
    }

    /// Wakes the environment's thread, unless a wake is already on its way.
    pub(super) fn wake(&self) {
        self.flush_pending.store(false, Ordering::Release);
        if self.wake_pending.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(WakeHandle(function)) = &*lock(&self.wake) {
            // SAFETY: the function lives until `end`, which takes it out under the same lock.
            unsafe {
                sys::napi_call_threadsafe_function(
                    *function,
                    std::ptr::null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                );
            }
        }
    }

    /// Its thread looks at it next anyway.
    pub(super) fn is_looked_at(&self) {
        self.flush_pending.store(false, Ordering::Release);
    }

    /// Takes all entries, leaving `spare` for the next ones. JavaScript thread only.
    pub(super) fn take(&self, spare: Vec<Completion>) -> Vec<Completion> {
        self.wake_pending.store(false, Ordering::Release);
        mem::replace(&mut *lock(&self.entries), spare)
    }

    /// The environment is ending: nobody may wake it any more.
    pub(super) fn end(&self) {
        lock(&self.wake).take();
        lock(&self.entries).clear();
    }

    pub(super) fn has_ended(&self) -> bool {
        lock(&self.wake).is_none()
    }
}

/// The obligation to settle one promise. A settler that is dropped unused (a panic, a task that was cancelled)
/// rejects the promise, so that no call is left pending.
#[derive(Debug)]
pub struct Settler {
    parts: Option<(Arc<CompletionList>, Deferred, Timer)>,
}

impl Settler {
    pub(super) fn new(list: Arc<CompletionList>, deferred: Deferred, operation: &'static Operation) -> Self {
        io_thread::call_started();
        Self { parts: Some((list, deferred, operation.begin())) }
    }

    /// Hands the answer to the promise.
    pub fn settle(mut self, answer: Answer) {
        self.finish(answer);
    }

    fn finish(&mut self, answer: Answer) {
        if let Some((list, deferred, timer)) = self.parts.take() {
            io_thread::call_ended();
            timer.end(answer.is_err());
            if !list.has_ended() {
                list.push(Completion::Settle { deferred, answer });
            }
        }
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.finish(Err(Error::new(
            ErrorKind::Internal,
            "ferroflow dropped a call without an answer, please report it",
        )));
    }
}

/// Where a native object reports what happens by itself (a connection's status).
#[derive(Debug, Clone)]
pub struct EventSink {
    list: Arc<CompletionList>,
}

impl EventSink {
    pub(super) fn new(list: Arc<CompletionList>) -> Self {
        Self { list }
    }

    /// Queues an event for the environment. Events never keep the process alive.
    pub fn emit(&self, source: u32, name: &'static str, detail: Output) {
        if !self.list.has_ended() {
            self.list.push(Completion::Event { source, name, detail });
        }
    }

    /// Has the environment store the moment, in milliseconds since boot, when its event loop comes round to it.
    pub fn probe(&self, alive_at: &Arc<AtomicU64>) {
        if !self.list.has_ended() {
            self.list.push(Completion::Probe { alive_at: Arc::clone(alive_at) });
        }
    }
}
