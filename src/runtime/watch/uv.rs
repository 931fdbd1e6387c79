//! Watching with libuv. Its functions are looked for when the addon is loaded, so that it also loads where there are none.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::ptr;
use std::rc::Rc;

use libloading::os::unix::Library;
use napi::sys;
use socket2::Socket;

use crate::runtime::environment::{Environment, check};

thread_local! {
    static EVENT_LOOP: RefCell<Option<Rc<EventLoop>>> = const { RefCell::new(None) };
}

pub(super) fn is_possible() -> bool {
    EVENT_LOOP.with_borrow(Option::is_some)
}

type Readable = Box<dyn FnMut(&Socket) -> bool>;

pub(super) fn watch(socket: Socket, readable: Readable) -> bool {
    let event_loop = EVENT_LOOP.with_borrow(Option::clone);
    event_loop.is_some_and(|event_loop| event_loop.watch(socket, readable))
}

/// A `uv_handle_t`. Its first field, `data`, is the owner's.
type Handle = *mut *mut Watched;
type OnReadable = unsafe extern "C" fn(Handle, c_int, c_int);
type OnClose = unsafe extern "C" fn(Handle);

/// `UV_POLL` of `uv_handle_type`, and `UV_READABLE`.
const POLL: c_int = 8;
const READABLE: c_int = 1;

/// Functions of libuv. Their signatures, and the constants, are the same in all of version 1.
#[derive(Clone, Copy)]
struct Uv {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    poll_init: unsafe extern "C" fn(*mut sys::uv_loop_s, Handle, c_int) -> c_int,
    poll_start: unsafe extern "C" fn(Handle, c_int, OnReadable) -> c_int,
    unref: unsafe extern "C" fn(Handle),
    close: unsafe extern "C" fn(Handle, OnClose),
}

impl Uv {
    fn find() -> Option<Self> {
        let host = Library::this();
        // SAFETY: each name is that of a function of libuv with the signature of its field.
        unsafe {
            let version: unsafe extern "C" fn() -> c_uint = *host.get(c"uv_version").ok()?;
            (version() >> 16 == 1).then_some(())?;
            Some(Self {
                handle_size: *host.get(c"uv_handle_size").ok()?,
                poll_init: *host.get(c"uv_poll_init").ok()?,
                poll_start: *host.get(c"uv_poll_start").ok()?,
                unref: *host.get(c"uv_unref").ok()?,
                close: *host.get(c"uv_close").ok()?,
            })
        }
    }
}

/// The event loop of one environment, with what it watches.
struct EventLoop {
    env: sys::napi_env,
    uv_loop: *mut sys::uv_loop_s,
    uv: Uv,
    /// What callbacks of the loop run in.
    context: Cell<sys::napi_async_context>,
    open: RefCell<Vec<Handle>>,
    /// How many handles are not closed yet.
    unclosed: Cell<usize>,
    /// The environment ends once all are.
    ending: Cell<Option<sys::napi_async_cleanup_hook_handle>>,
}

/// One socket. Owned by its handle until that is closed.
struct Watched {
    event_loop: Rc<EventLoop>,
    socket: Socket,
    readable: Readable,
    /// The handle, aligned for whatever it holds.
    memory: Vec<u128>,
}

/// Lets sockets be watched in an environment, if its host can.
///
/// # Safety
/// Once for each environment, on its thread, in a call of it.
pub(in crate::runtime) unsafe fn attach(env: sys::napi_env) -> napi::Result<()> {
    // SAFETY: as the caller says.
    if !unsafe { is_node(env) } {
        return Ok(());
    }
    let Some(uv) = Uv::find() else { return Ok(()) };
    let (mut uv_loop, mut name, mut context) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: on the environment's thread in a call of it, as the caller says; every pointer is to a live local, and the
    // name is a C string literal of the given length. `on_end` takes back the counted reference that the hook is given.
    unsafe {
        if sys::napi_get_uv_event_loop(env, &mut uv_loop) != sys::Status::napi_ok {
            return Ok(());
        }
        check(sys::napi_create_string_utf8(env, c"ferroflow".as_ptr(), 9, &mut name), "napi_create_string")?;
        check(sys::napi_async_init(env, ptr::null_mut(), name, &mut context), "napi_async_init")?;
        let event_loop = Rc::new(EventLoop {
            env,
            uv_loop,
            uv,
            context: Cell::new(context),
            open: RefCell::default(),
            unclosed: Cell::new(0),
            ending: Cell::new(None),
        });
        let for_hook = Rc::into_raw(Rc::clone(&event_loop)).cast_mut().cast();
        check(
            sys::napi_add_async_cleanup_hook(env, Some(on_end), for_hook, ptr::null_mut()),
            "napi_add_async_cleanup_hook",
        )?;
        EVENT_LOOP.set(Some(event_loop));
    }
    Ok(())
}

/// Whether the host is Node: functions of libuv that others name may end the process when they are called.
unsafe fn is_node(env: sys::napi_env) -> bool {
    let (mut global, mut process, mut versions) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let ok = sys::Status::napi_ok;
    // SAFETY: on the environment's thread in a call of it, as the caller says; every pointer is to a live local.
    unsafe {
        sys::napi_get_global(env, &mut global) == ok
            && sys::napi_get_named_property(env, global, c"process".as_ptr(), &mut process) == ok
            && sys::napi_get_named_property(env, process, c"versions".as_ptr(), &mut versions) == ok
            && [c"bun", c"deno"].iter().all(|other| {
                let mut is_other = true;
                sys::napi_has_named_property(env, versions, other.as_ptr(), &mut is_other) == ok && !is_other
            })
    }
}

impl EventLoop {
    fn watch(self: Rc<Self>, socket: Socket, readable: Readable) -> bool {
        let descriptor = socket.as_raw_fd();
        // SAFETY: we are on the thread of the loop, as it was found there. The memory is as large as libuv says and stays
        // where it is until the box goes: here if the handle could not be made, otherwise in `on_close`.
        unsafe {
            let memory = vec![0; (self.uv.handle_size)(POLL).div_ceil(size_of::<u128>())];
            let mut watched = Box::new(Watched { event_loop: Rc::clone(&self), socket, readable, memory });
            let handle: Handle = watched.memory.as_mut_ptr().cast();
            if (self.uv.poll_init)(self.uv_loop, handle, descriptor) != 0 {
                return false;
            }
            *handle = Box::into_raw(watched);
            // What keeps the process alive are calls in flight.
            (self.uv.unref)(handle);
            self.unclosed.set(self.unclosed.get() + 1);
            self.open.borrow_mut().push(handle);
            let watches = (self.uv.poll_start)(handle, READABLE, on_readable) == 0;
            if !watches {
                self.close(handle);
            }
            watches
        }
    }

    /// Ends a watch, whose socket is closed soon.
    fn close(&self, handle: Handle) {
        let place = self.open.borrow().iter().position(|open| *open == handle);
        if let Some(place) = place {
            self.open.borrow_mut().swap_remove(place);
            // SAFETY: on the thread of the loop, an open handle, once: it is in the list no more.
            unsafe { (self.uv.close)(handle, on_close) };
        }
    }

    /// Lets the environment end, if it waits, once everything is closed.
    fn end(&self) {
        if self.unclosed.get() == 0
            && let Some(hook) = self.ending.take()
        {
            // SAFETY: the handle of a hook that has been called, once.
            unsafe { sys::napi_remove_async_cleanup_hook(hook) };
        }
    }

    /// Runs something as Node runs callbacks of its own event loop: what it settles is followed at once. `None` if the
    /// environment is ending.
    fn call<R>(&self, run: impl FnOnce(&Environment) -> R) -> Option<R> {
        let (mut handles, mut callback) = (ptr::null_mut(), ptr::null_mut());
        let ok = sys::Status::napi_ok;
        // SAFETY: called by the environment's event loop, on its thread; each scope that was opened is closed, in the
        // reverse order. The environment lives, as it ends after its hooks.
        unsafe {
            if sys::napi_open_handle_scope(self.env, &mut handles) != ok {
                return None;
            }
            let context = self.context.get();
            let mut outcome = None;
            if sys::napi_open_callback_scope(self.env, ptr::null_mut(), context, &mut callback) == ok {
                outcome = Environment::of_raw(self.env).map(run);
                // Node sees to this where it makes the call: an exception left pending would make later ones fail.
                let mut exception = ptr::null_mut();
                sys::napi_get_and_clear_last_exception(self.env, &mut exception);
                sys::napi_close_callback_scope(self.env, callback);
            }
            sys::napi_close_handle_scope(self.env, handles);
            outcome
        }
    }
}

unsafe extern "C" fn on_readable(handle: Handle, status: c_int, _events: c_int) {
    // SAFETY: libuv calls this with an open handle, whose data `watch` set. Nobody else has a reference to what is not
    // shared of it: `readable` knows only the socket.
    let watched = unsafe { &mut **handle };
    let event_loop = Rc::clone(&watched.event_loop);
    let goes_on = event_loop.call(|environment| {
        let goes_on = environment.hand_out(|| (watched.readable)(&watched.socket));
        environment.drain();
        goes_on
    });
    if status != 0 || goes_on != Some(true) {
        event_loop.close(handle);
    }
}

unsafe extern "C" fn on_close(handle: Handle) {
    // SAFETY: the box that `watch` gave to the handle, which libuv is done with.
    let watched = unsafe { Box::from_raw(*handle) };
    let event_loop = Rc::clone(&watched.event_loop);
    drop(watched);
    event_loop.unclosed.set(event_loop.unclosed.get() - 1);
    event_loop.end();
}

/// The environment is ending.
unsafe extern "C" fn on_end(hook: sys::napi_async_cleanup_hook_handle, event_loop: *mut c_void) {
    // SAFETY: the counted reference that `attach` gave to the hook.
    let event_loop = unsafe { Rc::from_raw(event_loop.cast::<EventLoop>()) };
    EVENT_LOOP.with_borrow_mut(|known| {
        // It may be another's by now, if the addon was loaded twice.
        known.take_if(|known| Rc::ptr_eq(known, &event_loop));
    });
    event_loop.ending.set(Some(hook));
    let open = event_loop.open.borrow().clone();
    for handle in open {
        event_loop.close(handle);
    }
    let context = event_loop.context.replace(ptr::null_mut());
    // SAFETY: on the environment's thread, which lives until its hooks are done; nothing runs in the context any more.
    unsafe { sys::napi_async_destroy(event_loop.env, context) };
    event_loop.end();
}
