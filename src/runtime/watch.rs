//! Sockets that a JavaScript thread watches with the event loop that it has anyway, libuv's. Only Node has one that an
//! addon may use; elsewhere nothing is watched.

use socket2::Socket;

#[cfg(unix)]
mod uv;
#[cfg(unix)]
pub(super) use uv::attach;

/// Whether this thread can watch sockets.
pub fn is_possible() -> bool {
    #[cfg(unix)]
    let possible = uv::is_possible();
    #[cfg(not(unix))]
    let possible = false;
    possible
}

/// Has `readable` called on this thread whenever the socket has something to read, until it returns `false` or the
/// environment ends. `false`: this thread cannot.
pub fn watch(socket: Socket, readable: impl FnMut(&Socket) -> bool + 'static) -> bool {
    #[cfg(unix)]
    let watches = uv::watch(socket, Box::new(readable));
    #[cfg(not(unix))]
    let watches = {
        drop((socket, readable));
        false
    };
    watches
}
