//! The bridge between Node's threads and the one I/O thread.
//!
//! # Life of a call
//!
//! 1. On a JavaScript thread, [`Environment::submit`] creates a promise, puts the call on the submission queue and
//!    wakes the I/O thread if it sleeps.
//! 2. The I/O thread ([`io_thread`]) takes the whole queue. A single command goes straight to its connection's
//!    batch; anything longer runs as a task. The connections then write one pipeline each. A call
//!    that is alone and some of many at once begin on the JavaScript thread already ([`here`]).
//! 3. A finished call goes onto the completion list of its environment ([`completion`]). One wake follows per
//!    batch, however many calls it holds.
//! 4. The JavaScript thread drains the list in slices ([`environment`]), resolving or rejecting each promise.
//!
//! While locks are asked for in masses, steps 2 and 3 need no other thread: what began on the JavaScript thread is
//! answered there as well. It watches the socket itself ([`watch`]), and tasks that were waiting go on where their
//! replies are handed out.
//!
//! An environment is one `napi_env`: the main thread or a worker. All of them share the I/O thread, and each may
//! end at any time with calls in flight: its completions are then dropped.

mod burst;
pub mod completion;
pub mod environment;
pub mod here;
pub mod io_thread;
pub mod output;
pub mod pause;
pub mod suspension;
pub mod watch;

pub use completion::{Answer, Settler};
pub use environment::Environment;
pub use output::Output;
