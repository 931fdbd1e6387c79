//! The JavaScript half of the bridge: promises are created and settled here, on their own thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::identity;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use napi::{JsValue, sys};

use super::burst;
use super::completion::{Answer, Completion, CompletionList, Deferred, EventSink, Settler};
use super::io_thread::{self, Work, catch_panic};
use super::output::{EnvironmentGone, error_to_js, output_to_js};
use crate::metrics::Operation;
use crate::time::since_boot;

/// In one turn of the event loop, at most this many entries are settled, and fewer if it takes this long. What the
/// program does with each result runs in the same turn, so the number is bounded as well as the time.
const SLICE_ENTRIES: usize = 256;
const SLICE_TIME: Duration = Duration::from_micros(400);
/// From so many entries on, the end of the turn is looked out for. Node may deliver many wakes within one turn; a
/// few entries at a time, as in sequential calls, are not worth the watch.
const WATCHED_ENTRIES: usize = 16;
/// How many entries are settled between two looks at the clock.
const CLOCK_EVERY: usize = 16;

/// State of one `napi_env`, kept in its instance data. Never leaves its thread.
pub struct Environment {
    env: sys::napi_env,
    list: Arc<CompletionList>,
    wake: sys::napi_threadsafe_function,
    /// Calls in flight and subscriptions: what the process stays alive for.
    holds: Cell<usize>,
    /// Entries taken from the list that did not fit into the last slice.
    backlog: RefCell<VecDeque<Completion>>,
    spare: Cell<Vec<Completion>>,
    /// Entries settled since the turn began, as far as turns are watched.
    settled_this_turn: Cell<usize>,
    /// `setImmediate` and the function it is given, to begin the next turn.
    set_immediate: sys::napi_ref,
    next_turn: sys::napi_ref,
    watching_turn: Cell<bool>,
    /// One for each copy of the TypeScript layer that is loaded: under several names, say.
    event_sinks: RefCell<Vec<sys::napi_ref>>,
}

/// Turns a status into a napi error.
pub(super) fn check(status: sys::napi_status, what: &str) -> napi::Result<()> {
    if status == sys::Status::napi_ok {
        Ok(())
    } else {
        Err(napi::Error::new(napi::Status::from(status), format!("ferroflow: {what} failed")))
    }
}

impl Environment {
    /// Sets the environment up. Called once when the addon is loaded into it.
    pub fn attach(env: &napi::Env) -> napi::Result<()> {
        let env = env.raw();
        // SAFETY: we are on the environment's thread, called by Node while it loads the addon; every pointer is
        // to a live local. The box is owned by the instance data from then on and freed by `detach`.
        unsafe {
            let (mut global, mut set_immediate) = (ptr::null_mut(), ptr::null_mut());
            check(sys::napi_get_global(env, &mut global), "napi_get_global")?;
            check(
                sys::napi_get_named_property(env, global, c"setImmediate".as_ptr(), &mut set_immediate),
                "reading setImmediate",
            )?;
            let mut next_turn = ptr::null_mut();
            check(
                sys::napi_create_function(
                    env,
                    c"ferroflowDrain".as_ptr(),
                    14,
                    Some(on_next_turn),
                    ptr::null_mut(),
                    &mut next_turn,
                ),
                "napi_create_function",
            )?;
            let wake = create_wake(env)?;
            let environment = Box::into_raw(Box::new(Self {
                env,
                list: Arc::new(CompletionList::new(wake)),
                wake,
                holds: Cell::new(0),
                backlog: RefCell::default(),
                spare: Cell::default(),
                set_immediate: reference(env, set_immediate)?,
                next_turn: reference(env, next_turn)?,
                settled_this_turn: Cell::new(0),
                watching_turn: Cell::new(false),
                event_sinks: RefCell::default(),
            }));
            check(
                sys::napi_set_instance_data(env, environment.cast(), Some(detach), ptr::null_mut()),
                "napi_set_instance_data",
            )?;
            #[cfg(unix)]
            super::watch::attach(env)?;
            // Added after the threadsafe function was made, so that it runs before Node takes that away.
            check(
                sys::napi_add_env_cleanup_hook(env, Some(on_cleanup), environment.cast()),
                "napi_add_env_cleanup_hook",
            )
        }
    }

    /// The environment of the running call.
    pub fn of(env: &napi::Env) -> napi::Result<&Self> {
        // SAFETY: `env` proves that we are on its thread; the reference cannot outlive the call that `env` is of.
        unsafe { Self::of_raw(env.raw()) }
            .ok_or_else(|| napi::Error::from_reason("ferroflow: this environment has ended"))
    }

    pub(super) unsafe fn of_raw<'env>(env: sys::napi_env) -> Option<&'env Self> {
        let mut data: *mut c_void = ptr::null_mut();
        // SAFETY: the caller is on the thread of `env`; the data is what `attach` stored.
        unsafe {
            if sys::napi_get_instance_data(env, &mut data) != sys::Status::napi_ok {
                return None;
            }
            data.cast::<Self>().as_ref()
        }
    }

    /// Creates a promise and hands `start` its settler, on this thread. The process stays alive until the promise is
    /// settled.
    pub fn promise(
        &self,
        operation: &'static Operation,
        start: impl FnOnce(Settler),
    ) -> napi::Result<sys::napi_value> {
        let (mut deferred, mut promise) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: `self` is only reachable on the environment's thread; both pointers are to live locals.
        let status = unsafe { sys::napi_create_promise(self.env, &mut deferred, &mut promise) };
        check(status, "napi_create_promise")?;
        self.retain();
        start(Settler::new(Arc::clone(&self.list), Deferred(deferred), operation));
        burst::called();
        Ok(promise)
    }

    /// Like [`Environment::promise`]; the result of `start` is what the I/O thread shall do.
    pub fn submit(
        &self,
        operation: &'static Operation,
        start: impl FnOnce(Settler) -> Work,
    ) -> napi::Result<sys::napi_value> {
        // Without an I/O thread the work is dropped, and with it the settler, which rejects the promise.
        self.promise(operation, |settler| drop(io_thread::submit(start(settler))))
    }

    /// Like [`Environment::submit`] for a future; a panic in it becomes an error.
    pub fn submit_task(
        &self,
        operation: &'static Operation,
        task: impl Future<Output = Answer> + Send + 'static,
    ) -> napi::Result<sys::napi_value> {
        self.submit(operation, |settler| {
            Work::task(catch_panic(task).map(|outcome| settler.settle(outcome.and_then(identity))))
        })
    }

    /// Keeps the process alive until a [`Environment::release`].
    pub fn retain(&self) {
        if self.holds.replace(self.holds.get() + 1) == 0 {
            // SAFETY: `self` is only reachable on the environment's thread; the function lives as long as it.
            unsafe { sys::napi_ref_threadsafe_function(self.env, self.wake) };
        }
    }

    /// Takes one [`Environment::retain`] back.
    pub fn release(&self) {
        let left = self.holds.get().saturating_sub(1);
        self.holds.set(left);
        if left == 0 {
            // SAFETY: as in `retain`.
            unsafe { sys::napi_unref_threadsafe_function(self.env, self.wake) };
        }
    }

    /// Where native objects of this environment report events.
    pub fn events(&self) -> EventSink {
        EventSink::new(Arc::clone(&self.list))
    }

    /// Adds a function that is called with `(source, name, detail)` for each event.
    pub fn add_event_sink(&self, sink: napi::Unknown<'_>) -> napi::Result<()> {
        // SAFETY: on the environment's thread, `sink` is a live handle of the running call.
        let sink = unsafe { reference(self.env, sink.raw())? };
        self.event_sinks.borrow_mut().push(sink);
        Ok(())
    }

    /// Hands out here what has come for tasks. What they settle is on the list then. `false` without an I/O thread.
    #[cfg(unix)]
    pub(super) fn hand_out(&self, hand_out: impl FnOnce() -> bool) -> bool {
        io_thread::hand_out_here(&self.list, hand_out).unwrap_or(false)
    }

    /// Settles what is on the list, as far as this turn of the event loop allows.
    pub(super) fn drain(&self) {
        burst::end();
        let before = self.settled_this_turn.get();
        let mut settled = before;
        if settled >= SLICE_ENTRIES {
            return; // The next turn goes on.
        }
        let mut backlog = self.backlog.borrow_mut();
        let mut taken = self.list.take(self.spare.take());
        backlog.extend(taken.drain(..));
        self.spare.set(taken);

        let started = Instant::now();
        while settled < SLICE_ENTRIES
            && let Some(completion) = backlog.pop_front()
        {
            self.complete(completion);
            settled += 1;
            if settled.is_multiple_of(CLOCK_EVERY) && started.elapsed() > SLICE_TIME {
                settled = SLICE_ENTRIES;
            }
        }
        self.settled_this_turn.set(settled);
        if settled >= WATCHED_ENTRIES && !self.watching_turn.replace(true) && self.watch_turn().is_err() {
            self.settled_this_turn.set(0);
            self.watching_turn.set(false);
        }
        // The end of a turn that is watched ends the burst as well.
        if self.watching_turn.get() && settled - before >= burst::ANSWERED {
            burst::begin(settled - before);
        }
    }

    fn complete(&self, completion: Completion) {
        match completion {
            Completion::Settle { deferred, answer } => {
                // An error here means that the environment is ending; the promise ends with it.
                let _ = self.settle(deferred, answer);
                self.release();
            }
            Completion::Event { source, name, detail } => {
                let _ = self.deliver(source, name, detail);
            }
            Completion::Probe { alive_at } => {
                alive_at.fetch_max(since_boot().get(), Ordering::Relaxed);
            }
        }
    }

    fn settle(&self, Deferred(deferred): Deferred, answer: Answer) -> Result<(), EnvironmentGone> {
        // SAFETY: `drain` runs on the environment's thread inside a handle scope; each deferred is settled once.
        unsafe {
            match answer {
                Ok(output) => {
                    let value = output_to_js(self.env, output)?;
                    sys::napi_resolve_deferred(self.env, deferred, value);
                }
                Err(error) => {
                    let value = error_to_js(self.env, &error)?;
                    sys::napi_reject_deferred(self.env, deferred, value);
                }
            }
        }
        Ok(())
    }

    fn deliver(&self, source: u32, name: &'static str, detail: super::Output) -> Result<(), EnvironmentGone> {
        // SAFETY: on the environment's thread inside a handle scope; the sinks' references live as long as the
        // environment.
        unsafe {
            let mut this = ptr::null_mut();
            sys::napi_get_undefined(self.env, &mut this);
            let arguments = [
                output_to_js(self.env, super::Output::Number(f64::from(source)))?,
                output_to_js(self.env, super::Output::text(name))?,
                output_to_js(self.env, detail)?,
            ];
            let sinks = self.event_sinks.borrow().clone();
            for sink in sinks {
                let (mut function, mut exception) = (ptr::null_mut(), ptr::null_mut());
                sys::napi_get_reference_value(self.env, sink, &mut function);
                sys::napi_call_function(self.env, this, function, 3, arguments.as_ptr(), ptr::null_mut());
                // An exception left pending would make every later call of this slice fail.
                sys::napi_get_and_clear_last_exception(self.env, &mut exception);
            }
        }
        Ok(())
    }

    /// Has [`on_next_turn`] called once the event loop comes round.
    fn watch_turn(&self) -> napi::Result<()> {
        // SAFETY: on the environment's thread inside a handle scope; both references live as long as it.
        unsafe {
            let (mut this, mut set_immediate, mut function) =
                (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
            check(sys::napi_get_undefined(self.env, &mut this), "napi_get_undefined")?;
            check(
                sys::napi_get_reference_value(self.env, self.set_immediate, &mut set_immediate),
                "napi_get_reference_value",
            )?;
            check(
                sys::napi_get_reference_value(self.env, self.next_turn, &mut function),
                "napi_get_reference_value",
            )?;
            check(
                sys::napi_call_function(self.env, this, set_immediate, 1, &function, ptr::null_mut()),
                "setImmediate",
            )
        }
    }
}

/// A strong reference that lives as long as the environment.
unsafe fn reference(env: sys::napi_env, value: sys::napi_value) -> napi::Result<sys::napi_ref> {
    let mut reference = ptr::null_mut();
    // SAFETY: the caller is on the environment's thread with a live handle.
    check(unsafe { sys::napi_create_reference(env, value, 1, &mut reference) }, "napi_create_reference")?;
    Ok(reference)
}

/// The threadsafe function that runs [`on_wake`], not keeping the event loop alive by itself.
unsafe fn create_wake(env: sys::napi_env) -> napi::Result<sys::napi_threadsafe_function> {
    let (mut name, mut wake) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller is on the environment's thread; the name is a C string literal of the given length.
    unsafe {
        check(sys::napi_create_string_utf8(env, c"ferroflow".as_ptr(), 9, &mut name), "napi_create_string")?;
        check(
            sys::napi_create_threadsafe_function(
                env,
                ptr::null_mut(),
                ptr::null_mut(),
                name,
                0,
                1,
                ptr::null_mut(),
                None,
                ptr::null_mut(),
                Some(on_wake),
                &mut wake,
            ),
            "napi_create_threadsafe_function",
        )?;
        check(sys::napi_unref_threadsafe_function(env, wake), "napi_unref_threadsafe_function")?;
    }
    Ok(wake)
}

/// Runs on the JavaScript thread for every wake.
unsafe extern "C" fn on_wake(
    env: sys::napi_env,
    _function: sys::napi_value,
    _context: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() {
        return; // The environment is ending.
    }
    // SAFETY: Node calls this on the environment's thread.
    if let Some(environment) = unsafe { Environment::of_raw(env) } {
        environment.drain();
    }
}

/// Runs from `setImmediate`, in the turn after the one that was watched.
unsafe extern "C" fn on_next_turn(env: sys::napi_env, _info: sys::napi_callback_info) -> sys::napi_value {
    // SAFETY: Node calls this on the environment's thread.
    if let Some(environment) = unsafe { Environment::of_raw(env) } {
        environment.watching_turn.set(false);
        environment.settled_this_turn.set(0);
        environment.drain();
    }
    ptr::null_mut()
}

/// The environment is ending, perhaps with calls in flight.
unsafe extern "C" fn on_cleanup(environment: *mut c_void) {
    burst::end();
    // SAFETY: registered with a pointer to the box that the instance data owns, which is freed after the hooks.
    unsafe { &*environment.cast::<Environment>() }.list.end();
}

unsafe extern "C" fn detach(_env: sys::napi_env, environment: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the pointer is the box that `attach` gave away, and this is its only finaliser.
    drop(unsafe { Box::from_raw(environment.cast::<Environment>()) });
}
