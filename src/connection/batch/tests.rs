//! The batcher without a socket.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::*;
use crate::connection::command::Command;
use crate::connection::request::{Request, Settled};

const LIMITS: Limits = Limits { commands: 3, bytes: 1000 };

fn request(command: Command, millis: u64, start: Instant) -> (Request, Receiver<Result<Reply>>) {
    let (sender, receiver) = channel();
    let sink = Box::new(move |outcome| sender.send(outcome).unwrap());
    (Request::new(command, start + Duration::from_millis(millis), sink), receiver)
}

fn open() -> (Batch, Instant) {
    let mut batch = Batch::new(LIMITS);
    batch.open(Bypass::default());
    (batch, Instant::now())
}

fn push(batch: &mut Batch, command: Command, start: Instant) -> Receiver<Result<Reply>> {
    let (request, receiver) = request(command, 5000, start);
    if let Err(refused) = batch.push(request) {
        refused.deliver();
    }
    receiver
}

fn kind(receiver: &Receiver<Result<Reply>>) -> ErrorKind {
    receiver.try_recv().unwrap().unwrap_err().kind()
}

fn send(batch: &mut Batch) {
    batch.fill();
    batch.wrote(batch.output().len());
}

fn deliver(settled: impl IntoIterator<Item = Settled>) {
    settled.into_iter().for_each(Settled::deliver);
}

#[test]
fn commands_of_a_tick_leave_as_one_pipeline_and_replies_come_in_order() {
    let (mut batch, start) = open();
    let first = push(&mut batch, Command::new("GET").arg("a"), start);
    let second = push(&mut batch, Command::new("GET").arg("b"), start);
    batch.fill();
    assert_eq!(batch.output(), b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n");
    deliver(batch.reply(Ok(Reply::Int(1))));
    deliver(batch.reply(Err(Error::new(ErrorKind::Server, "ERR no"))));
    assert_eq!(first.try_recv().unwrap().unwrap(), Reply::Int(1));
    assert_eq!(kind(&second), ErrorKind::Server);
    assert!(batch.is_idle());
}

#[test]
fn a_lost_connection_repeats_what_is_safe_and_tells_the_truth_about_the_rest() {
    let (mut batch, start) = open();
    let write = push(&mut batch, Command::new("INCR").arg("a"), start);
    let read = push(&mut batch, Command::new("GET").arg("a").reads(), start);
    let unsent = push(&mut batch, Command::new("INCR").arg("b"), start);
    batch.fill();
    let unsent_length = Command::new("INCR").arg("b").into_wire().len();
    batch.wrote(batch.output().len() - unsent_length);
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    assert_eq!(kind(&write), ErrorKind::OutcomeUnknown);
    assert!(read.try_recv().is_err() && unsent.try_recv().is_err());

    batch.open(Bypass::default());
    batch.fill();
    let expected = [Command::new("GET").arg("a").into_wire(), Command::new("INCR").arg("b").into_wire()];
    assert_eq!(batch.output(), expected.concat());
}

#[test]
fn a_command_of_which_one_byte_left_is_not_repeated() {
    let (mut batch, start) = open();
    let write = push(&mut batch, Command::new("INCR").arg("a"), start);
    batch.fill();
    batch.wrote(1);
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    assert_eq!(kind(&write), ErrorKind::OutcomeUnknown);
}

#[test]
fn a_command_counts_as_sent_when_its_first_byte_left() {
    let (mut batch, start) = open();
    let receivers: Vec<_> = (0..3).map(|_| push(&mut batch, Command::new("PING").reads(), start)).collect();
    let length = Command::new("PING").into_wire().len();
    batch.fill();
    assert_eq!(batch.lengths(), (0, 3));
    assert_eq!(batch.wrote(1), 1);
    assert_eq!(batch.wrote(length - 1), 0);
    drop(batch.reply(Ok(Reply::ok())));
    assert_eq!(batch.wrote(1), 1);
    // The third never left, and the second leaves again.
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    assert_eq!(batch.lengths(), (2, 0));
    batch.open(Bypass::default());
    batch.fill();
    assert_eq!(batch.wrote(2 * length), 2);
    drop(receivers);
}

#[test]
fn the_queue_is_bounded_while_down_and_only_then() {
    let start = Instant::now();
    let mut batch = Batch::new(LIMITS);
    let waiting: Vec<_> = (0..3).map(|_| push(&mut batch, Command::new("PING"), start)).collect();
    assert_eq!(kind(&push(&mut batch, Command::new("PING"), start)), ErrorKind::QueueFull);
    assert!(waiting.iter().all(|receiver| receiver.try_recv().is_err()));
    batch.open(Bypass::default());
    let fourth = push(&mut batch, Command::new("PING"), start);
    assert!(fourth.try_recv().is_err());

    let mut batch = Batch::new(LIMITS);
    assert_eq!(kind(&push(&mut batch, Command::new("SET").arg([0; 2000]), start)), ErrorKind::QueueFull);
}

#[test]
fn every_request_ends_by_its_deadline() {
    let (mut batch, start) = open();
    let (read, read_outcome) = request(Command::new("GET").arg("a").reads(), 100, start);
    let (write, write_outcome) = request(Command::new("INCR").arg("a"), 200, start);
    let (waiting, waiting_outcome) = request(Command::new("INCR").arg("a"), 150, start);
    assert!(batch.push(read).is_ok() && batch.push(write).is_ok());
    batch.fill();
    assert!(batch.push(waiting).is_ok());
    assert_eq!(batch.earliest_deadline(), Some(start + Duration::from_millis(100)));

    deliver(batch.expire(start + Duration::from_millis(99)));
    assert!(read_outcome.try_recv().is_err());
    deliver(batch.expire(start + Duration::from_millis(160)));
    assert_eq!(kind(&read_outcome), ErrorKind::Timeout);
    assert_eq!(kind(&waiting_outcome), ErrorKind::Unavailable);
    deliver(batch.expire(start + Duration::from_millis(200)));
    assert_eq!(kind(&write_outcome), ErrorKind::OutcomeUnknown);
    assert_eq!(batch.earliest_deadline(), None);
    assert_eq!(batch.timeouts_in_a_row(), 2);

    // The late replies still belong to the calls that gave up, not to the next one.
    let next = push(&mut batch, Command::new("GET").arg("b"), start);
    batch.fill();
    assert!(batch.reply(Ok(Reply::Int(1))).is_none());
    assert!(batch.reply(Ok(Reply::Int(2))).is_none());
    deliver(batch.reply(Ok(Reply::Int(3))));
    assert_eq!(next.try_recv().unwrap().unwrap(), Reply::Int(3));
}

#[test]
fn what_was_sent_once_is_never_said_to_be_unsent() {
    let (mut batch, start) = open();
    let write = push(&mut batch, Command::new("HSET").arg("a").repeatable(), start);
    let read = push(&mut batch, Command::new("GET").arg("a").reads(), start);
    send(&mut batch);
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    // Filled again, but not written before that connection is lost too.
    batch.open(Bypass::default());
    batch.fill();
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    deliver(batch.expire(start + Duration::from_secs(6)));
    assert_eq!(kind(&write), ErrorKind::OutcomeUnknown);
    assert_eq!(kind(&read), ErrorKind::Timeout);

    let (mut batch, start) = open();
    let write = push(&mut batch, Command::new("HSET").arg("a").repeatable(), start);
    batch.fill();
    batch.wrote(1);
    deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "reset")));
    deliver(batch.refuse(Error::new(ErrorKind::Closed, "closed")));
    assert_eq!(kind(&write), ErrorKind::OutcomeUnknown);
}

#[test]
fn only_silence_counts_as_a_dead_server() {
    let (mut batch, start) = open();
    for millis in 1..=3 {
        for _ in 0..2 {
            let (request, _outcome) = request(Command::new("GET").reads(), millis, start);
            assert!(batch.push(request).is_ok());
        }
    }
    batch.fill();
    for millis in 1..=2 {
        batch.expire(start + Duration::from_millis(millis)).clear();
    }
    assert_eq!(batch.timeouts_in_a_row(), 2);
    batch.heard();
    batch.expire(start + Duration::from_millis(3)).clear();
    assert_eq!(batch.timeouts_in_a_row(), 1);
}

#[test]
fn a_closed_batch_refuses_but_answers_what_was_sent() {
    let (mut batch, start) = open();
    let sent = push(&mut batch, Command::new("INCR").arg("a"), start);
    batch.fill();
    let waiting = push(&mut batch, Command::new("INCR").arg("a"), start);
    deliver(batch.refuse(Error::new(ErrorKind::Closed, "closed")));
    assert_eq!(kind(&waiting), ErrorKind::Closed);
    assert_eq!(kind(&push(&mut batch, Command::new("PING"), start)), ErrorKind::Closed);
    deliver(batch.reply(Ok(Reply::Int(1))));
    assert_eq!(sent.try_recv().unwrap().unwrap(), Reply::Int(1));
}

#[test]
fn a_copy_that_is_refused_does_not_speak_for_the_one_before_it() {
    for (command, expected) in [
        (Command::new("HSET").repeatable(), ErrorKind::OutcomeUnknown),
        (Command::new("HGETALL").reads(), ErrorKind::ServerNotReady),
    ] {
        let (mut batch, start) = open();
        let receiver = push(&mut batch, command, start);
        send(&mut batch);
        deliver(batch.lost(&Error::new(ErrorKind::Unavailable, "cut")));
        batch.open(Bypass::default());
        send(&mut batch);
        deliver(batch.reply(Err(Error::new(ErrorKind::ServerNotReady, "LOADING"))));
        assert_eq!(kind(&receiver), expected);
    }
}

#[test]
fn who_gave_up_is_told_from_who_asked_later() {
    let (mut batch, start) = open();
    assert!(!batch.next_is_unwanted());
    let (first, _first) = request(Command::new("GET").reads(), 10, start);
    let (second, _second) = request(Command::new("GET").reads(), 5000, start);
    for one in [first, second] {
        assert!(batch.push(one).is_ok());
    }
    send(&mut batch);
    assert!(!batch.next_is_unwanted());
    deliver(batch.expire(start + Duration::from_millis(20)));
    assert!(batch.next_is_unwanted());
    deliver(batch.reply(Ok(Reply::Nil)));
    assert!(!batch.next_is_unwanted());
}
