//! The reading of a socket, lent to a JavaScript thread. While one asks in masses, what it waits for is read there, when
//! its event loop says that there is something: neither the driver nor that thread must be woken for each other. The
//! driver keeps everything else, looks now and then whether the thread is too busy to read, and takes the reading back
//! then, or when it has something to do with the connection itself.

use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{self, ThreadId};
use std::time::Duration;
use std::{mem, ptr};

use socket2::Socket;
use tokio::time::Instant;

use super::drive::{lost_by, server_closed};
use super::inbox::{Inbox, READ_SIZE};
use super::node::{Node, try_lock};
use crate::error::Error;
use crate::runtime::watch;

/// How often the driver looks after a loan. It also finds so what it could not be woken for, as somebody who was about to
/// send something had its waker.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(2);
/// What is there and was not read in this time is read by the driver.
const LATE: Duration = Duration::from_millis(1);
/// A loan ends when nobody has asked for anything for so long.
const UNUSED: Duration = Duration::from_millis(10);

/// Who reads a connection.
#[derive(Default)]
pub struct Loans {
    /// There is a connection, and the driver has nothing to do with it itself.
    open: bool,
    /// The thread that watches the socket, and a sign that it still does.
    watching: Option<(ThreadId, Weak<()>)>,
    lent: Option<Loan>,
    /// The thread has read since the driver looked.
    read: bool,
    /// Why the connection is of no use any more, as the thread has found.
    lost: Option<Error>,
}

/// The thread may read.
struct Loan {
    /// When it last asked for something.
    asked_at: Instant,
    /// Since when it may have something to read: it first asked after it had read, or has read and not asked since.
    since: Instant,
    has_read: bool,
}

impl Loan {
    fn new(now: Instant) -> Self {
        Self { asked_at: now, since: now, has_read: false }
    }

    fn asked(&mut self, now: Instant) {
        self.asked_at = now;
        if mem::take(&mut self.has_read) {
            self.since = now;
        }
    }

    fn read(&mut self, now: Instant) {
        self.since = now;
        self.has_read = true;
    }
}

/// What the driver does about a loan.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing: the thread reads.
    Leave,
    /// It reads what is there. If there is anything, it takes the reading back.
    Help,
    /// It reads from now on.
    TakeBack,
}

impl Loans {
    /// Why the connection is of no use any more, if that was found by who had the reading.
    pub(super) fn take_lost(&mut self) -> Option<Error> {
        self.lost.take()
    }

    /// Whether anything was read by another thread since this was asked before.
    pub(super) fn was_read(&mut self) -> bool {
        mem::take(&mut self.read)
    }

    /// Whether a thread may read.
    pub(super) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// Lets the reading be lent, or not.
    pub(super) fn allow(&mut self, allowed: bool) {
        self.open = allowed;
        if !allowed {
            self.take_back();
        }
    }

    /// What is to be done about the loan.
    pub(super) fn look(&self, now: Instant) -> Look {
        match &self.lent {
            Some(loan) if now.saturating_duration_since(loan.asked_at) < UNUSED => {
                let is_late = now.saturating_duration_since(loan.since) >= LATE;
                if is_late { Look::Help } else { Look::Leave }
            }
            _ => Look::TakeBack,
        }
    }

    /// Takes the reading back.
    pub(super) fn take_back(&mut self) {
        self.lent = None;
    }

    /// Whether a watch is the present one.
    fn is_by(&self, watch: &Arc<()>) -> bool {
        self.watching.as_ref().is_some_and(|(_, watching)| ptr::eq(watching.as_ptr(), Arc::as_ptr(watch)))
    }
}

impl Node {
    /// Has what this thread has just asked for, with much else like it, read here.
    pub(super) fn borrow_reading(&self) {
        if !watch::is_possible() {
            return;
        }
        // Whoever has it is reading, and this thread has something better to do than to wait.
        let Some(mut inbox) = try_lock(&self.inbox) else { return };
        let here = thread::current().id();
        let loans = &mut inbox.loans;
        let watching = loans.watching.as_ref().filter(|(_, watch)| watch.strong_count() > 0);
        let may = loans.open
            && match watching {
                Some((thread, _)) if *thread == here => true,
                Some(_) if loans.is_lent() => false,
                // Who watches still will notice that it need not any more.
                _ => self.watch_here(loans, here),
            };
        if !may {
            return;
        }
        let now = Instant::now();
        if let Some(loan) = &mut loans.lent {
            return loan.asked(now);
        }
        loans.lent = Some(Loan::new(now));
        drop(inbox);
        self.wake_driver();
    }

    fn watch_here(&self, loans: &mut Loans, here: ThreadId) -> bool {
        let Some(socket) = self.batch().bypass.copy_socket() else { return false };
        let sign = Arc::new(());
        loans.watching = Some((here, Arc::downgrade(&sign)));
        let mut watch = Watch { node: Weak::clone(&self.this), sign, buffer: vec![0; READ_SIZE].into() };
        watch::watch(socket, move |socket| watch.read(socket))
    }
}

/// The watch of a thread over the socket of a connection.
struct Watch {
    node: Weak<Node>,
    /// Others see by it whether this exists.
    sign: Arc<()>,
    buffer: Box<[u8]>,
}

/// What a thread got that looked what there is to read.
enum Got {
    Something,
    Nothing,
    /// So much, and perhaps more, that it would be kept from its own work.
    Masses,
}

impl Watch {
    /// Reads what is there, if this thread still may. `false`: it need not watch any more.
    fn read(&mut self, socket: &Socket) -> bool {
        let Some(node) = self.node.upgrade() else { return false };
        // The driver is reading. If it leaves anything, the event loop says so again.
        let Some(mut inbox) = try_lock(&node.inbox) else { return true };
        if !inbox.loans.is_by(&self.sign) {
            return false;
        }
        if inbox.loans.is_lent() {
            // A panic costs this connection, as it would with the driver.
            let read = catch_unwind(AssertUnwindSafe(|| self.receive(&node, &mut inbox, socket)))
                .unwrap_or_else(|payload| Err(Error::from_panic(&*payload)));
            match (read, &mut inbox.loans) {
                (Ok(Got::Nothing), _) => return true,
                (Ok(Got::Something), Loans { lent: Some(loan), read, .. }) => {
                    loan.read(Instant::now());
                    *read = true;
                    return true;
                }
                (Ok(_), loans) => loans.read = true,
                (Err(reason), loans) => loans.lost = Some(reason),
            }
        }
        inbox.loans.take_back();
        inbox.loans.watching = None;
        drop(inbox);
        node.wake_driver();
        false
    }

    fn receive(&mut self, node: &Node, inbox: &mut Inbox, mut socket: &Socket) -> Result<Got, Error> {
        match socket.read(&mut self.buffer) {
            Ok(0) => Err(server_closed()),
            Ok(read) => {
                inbox.input.extend_from_slice(&self.buffer[..read]);
                node.received(inbox, read)?;
                Ok(if read < self.buffer.len() { Got::Something } else { Got::Masses })
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Got::Nothing)
            }
            Err(error) => Err(lost_by(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lent(now: Instant) -> Loans {
        Loans { open: true, lent: Some(Loan::new(now)), ..Loans::default() }
    }

    #[test]
    fn who_does_not_read_is_helped() {
        let now = Instant::now();
        let mut loans = lent(now);
        assert_eq!(loans.look(now), Look::Leave);
        assert_eq!(loans.look(now + LATE), Look::Help);
        // Also who asks all the time.
        loans.lent.as_mut().unwrap().asked(now + LATE);
        assert_eq!(loans.look(now + LATE), Look::Help);
        loans.lent.as_mut().unwrap().read(now + LATE);
        assert_eq!(loans.look(now + LATE), Look::Leave);
        assert_eq!(loans.look(now + 2 * LATE), Look::Help);
        loans.lent.as_mut().unwrap().asked(now + 2 * LATE);
        assert_eq!(loans.look(now + 2 * LATE), Look::Leave);
    }

    #[test]
    fn a_loan_ends_when_nothing_is_asked_for_however_much_is_read() {
        let now = Instant::now();
        let mut loans = lent(now);
        loans.lent.as_mut().unwrap().read(now + UNUSED);
        assert_eq!(loans.look(now + UNUSED), Look::TakeBack);
        loans.take_back();
        assert_eq!(loans.look(now), Look::TakeBack);
    }

    #[test]
    fn what_the_driver_needs_itself_is_not_lent() {
        let mut loans = lent(Instant::now());
        loans.allow(false);
        assert!(!loans.is_lent() && !loans.open);
        loans.allow(true);
        assert!(!loans.is_lent() && loans.open);
    }

    #[test]
    fn a_watch_is_known_while_it_exists() {
        let mut loans = Loans::default();
        let (one, other) = (Arc::new(()), Arc::new(()));
        loans.watching = Some((thread::current().id(), Arc::downgrade(&one)));
        assert!(loans.is_by(&one) && !loans.is_by(&other));
        drop(one);
        assert!(loans.watching.is_some_and(|(_, watch)| watch.strong_count() == 0));
    }
}
