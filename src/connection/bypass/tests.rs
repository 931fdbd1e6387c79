//! What is written past the driver, without a socket.

use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex};

use super::*;
use crate::connection::batch::Limits;
use crate::connection::command::Command;
use crate::connection::request::Request;

/// A socket that takes so many bytes at once, or none.
#[derive(Clone)]
struct Fake {
    takes: Result<usize, ErrorKind>,
    got: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    fn new(takes: Result<usize, ErrorKind>) -> Self {
        Self { takes, got: Arc::default() }
    }

    fn got(&self) -> Vec<u8> {
        self.got.lock().unwrap().clone()
    }
}

impl Outlet for Fake {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.takes?);
        self.got.lock().unwrap().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn copy(&self) -> io::Result<Socket> {
        Err(ErrorKind::Unsupported.into())
    }

    fn end(&self) {}
}

fn open(socket: &Fake) -> Batch {
    let mut batch = Batch::new(Limits { commands: 10, bytes: 1000 });
    batch.open(Bypass { outlet: Some(Box::new(socket.clone())), ..Bypass::default() });
    batch
}

fn ask(batch: &mut Batch, count: usize) {
    for _ in 0..count {
        let request =
            Request::new(Command::new("PING"), Instant::now() + Duration::from_secs(5), Box::new(drop));
        assert!(batch.push(request).is_ok());
    }
}

fn pings(count: usize) -> Vec<u8> {
    b"*1\r\n$4\r\nPING\r\n".repeat(count)
}

#[test]
fn all_that_waits_is_written_at_once() {
    let socket = Fake::new(Ok(usize::MAX));
    let mut batch = open(&socket);
    ask(&mut batch, 3);
    let bytes = write(&mut batch).unwrap();
    assert_eq!(batch.wrote(bytes), 3);
    assert!(batch.is_written());
    assert_eq!(socket.got(), pings(3));
}

#[test]
fn what_the_socket_does_not_take_is_left_to_the_driver() {
    let socket = Fake::new(Ok(20));
    let mut batch = open(&socket);
    ask(&mut batch, 2);
    let bytes = write(&mut batch).unwrap();
    assert_eq!((bytes, batch.wrote(bytes)), (20, 2));
    assert!(!batch.is_written());
    assert_eq!(batch.output(), &pings(2)[20..]);
    // In the middle of a command, nobody else may write.
    ask(&mut batch, 1);
    assert!(write(&mut batch).is_none());
}

#[test]
fn a_socket_that_takes_nothing_is_left_to_the_driver_with_everything() {
    for reason in [ErrorKind::WouldBlock, ErrorKind::BrokenPipe] {
        let mut batch = open(&Fake::new(Err(reason)));
        ask(&mut batch, 2);
        assert!(write(&mut batch).is_none());
        assert_eq!(batch.output(), pings(2));
        assert_eq!(batch.wrote(0), 0);
    }
}

#[test]
fn nothing_is_written_while_only_the_driver_may() {
    let socket = Fake::new(Ok(usize::MAX));
    let mut batch = open(&socket);
    ask(&mut batch, 1);
    batch.hold_back(true);
    assert!(write(&mut batch).is_none());
    batch.hold_back(false);
    batch.pause(crate::error::Error::new(crate::error::ErrorKind::Unavailable, "given up"));
    assert!(write(&mut batch).is_none());
    assert_eq!(socket.got(), b"");
}

#[test]
fn nothing_is_written_to_a_connection_that_is_lost() {
    let socket = Fake::new(Ok(usize::MAX));
    let mut batch = open(&socket);
    batch.lost(&crate::error::Error::new(crate::error::ErrorKind::Unavailable, "cut"));
    ask(&mut batch, 1);
    assert!(write(&mut batch).is_none());
    batch.open(Bypass::default());
    assert!(write(&mut batch).is_none());
    assert_eq!(socket.got(), b"");
    assert_eq!(Arc::strong_count(&socket.got), 1, "its socket is closed");
}
