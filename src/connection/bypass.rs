//! The way of commands past the driver: the thread that makes a call, or many at once, writes them to the socket itself,
//! as far as that takes them, and the driver need not be woken for them.

use std::io;
use std::net::Shutdown;
use std::task::Waker;
use std::time::Duration;

use socket2::Socket;
use tokio::time::Instant;

use super::batch::Batch;
use super::dial;
use super::handshake::Session;
use super::node::{Node, Role};
use crate::runtime::{here, pause};

/// How soon the driver looks by itself at what was sent past it: whether it has a deadline, whether the server is heard.
const LOOKED_AT_WITHIN: Duration = Duration::from_secs(1);

/// What a connection needs to be written to past its driver.
#[derive(Default)]
pub struct Bypass {
    /// Another handle of the socket, if there is one and it takes bytes as they are.
    outlet: Option<Box<dyn Outlet>>,
    /// When the driver looks again, whatever happens.
    pub alarm: Option<Instant>,
    /// After how many pauses of the process the server was there. `None` until the driver has begun.
    pub pauses: Option<u64>,
}

/// Where bytes leave.
pub trait Outlet: Send {
    /// Sends what the socket takes at once.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Another handle of the socket.
    fn copy(&self) -> io::Result<Socket>;

    /// Ends the connection, whoever else has a handle of it.
    fn end(&self);
}

impl Outlet for Socket {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        dial::send(self, bytes)
    }

    fn copy(&self) -> io::Result<Socket> {
        self.try_clone()
    }

    fn end(&self) {
        // What the server has ended is over already.
        let _ = self.shutdown(Shutdown::Both);
    }
}

impl Bypass {
    /// Another handle of the socket, if it is written to past the driver.
    pub(super) fn copy_socket(&self) -> Option<Socket> {
        self.outlet.as_ref()?.copy().ok()
    }

    /// Ends the connection. Without a handle here, there is none elsewhere.
    pub(super) fn end(&self) {
        if let Some(outlet) = &self.outlet {
            outlet.end();
        }
    }
}

impl Node {
    /// The way past the driver of a new connection, if there is one.
    pub(super) fn bypass(&self, session: &Session) -> Bypass {
        let allowed = self.overseer.as_ref().is_none_or(|overseer| overseer.allows_bypass());
        let socket = (allowed && self.role == Role::Commands).then(|| session.stream.socket().ok()).flatten();
        Bypass { outlet: socket.map(|socket| Box::new(socket) as Box<dyn Outlet>), ..Bypass::default() }
    }

    /// Wakes the driver for what waits, or sends it from here once everything has begun that begins here.
    pub(super) fn move_on(&self, driver: Waker) {
        if !here::is_beginning() {
            return driver.wake();
        }
        let this = self.this.clone();
        let in_burst = here::is_burst();
        here::put_off(move || match this.upgrade() {
            Some(node) if node.send_here(&driver, in_burst) => {}
            _ => driver.wake(),
        });
    }

    /// Sends what waits. `false` if the driver is needed, for that or for what follows.
    fn send_here(&self, driver: &Waker, in_burst: bool) -> bool {
        let mut batch = self.batch();
        // After a pause, the driver asks first whether the server is still there.
        if batch.bypass.pauses.is_none_or(pause::since) {
            return false;
        }
        let Some(bytes) = write(&mut batch) else { return false };
        let commands = batch.wrote(bytes);
        let in_time = Instant::now() + LOOKED_AT_WITHIN;
        let looked_at = batch.bypass.alarm.is_some_and(|alarm| {
            alarm <= in_time && batch.earliest_deadline().is_none_or(|deadline| alarm <= deadline)
        });
        let done = batch.is_written() && looked_at;
        if done {
            batch.register_driver(driver);
        }
        drop(batch);
        self.metrics.commands.add(commands);
        self.metrics.bytes_sent.add(bytes);
        if in_burst {
            self.borrow_reading();
        }
        done
    }
}

/// Writes as much as the socket takes. `None` if only the driver may, or finds out why it takes nothing.
fn write(batch: &mut Batch) -> Option<usize> {
    if !batch.may_send() || !batch.output().is_empty() {
        return None;
    }
    let outlet = batch.bypass.outlet.take()?;
    batch.fill();
    // The driver may have come first.
    let written = if batch.output().is_empty() { Ok(0) } else { outlet.send(batch.output()) };
    batch.bypass.outlet = Some(outlet);
    written.ok()
}

#[cfg(test)]
mod tests;
