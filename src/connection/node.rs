//! A connection to one server that redials for ever, wherever that server is. One driver task on the I/O thread owns the
//! socket; everyone else only touches the batch, which may lead past the driver, and the inbox, which it may lend.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::batch::Batch;
use super::census;
use super::command::Command;
use super::config::Config;
use super::drive;
use super::handshake::Session;
use super::inbox::Inbox;
use super::overseer::Overseer;
use super::pubsub::Subscriptions;
use super::redial::{Redial, Wish, Wishes};
use super::reply::Reply;
use super::request::{Request, Settled, Sink};
use super::status::{Status, StatusBoard};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{self, ConnectionMetrics};
use crate::runtime::io_thread::{self, catch_panic};
use crate::runtime::pause::Pauses;

mod establish;

/// How long closing waits for replies.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often deadlines are looked at while there is no connection.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);

/// A connection to one server.
pub struct Node {
    pub(super) this: Weak<Node>,
    pub(super) config: Config,
    batch: Mutex<Batch>,
    /// Locked before the batch, if both are.
    pub(super) inbox: Mutex<Inbox>,
    /// What became of the connection, for those who watch.
    pub status: StatusBoard,
    pub(super) metrics: Arc<ConnectionMetrics>,
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Digests of the scripts that the current connection has sent in full.
    scripts_sent: Mutex<HashSet<&'static str>>,
    pub(super) closing: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    pub(super) role: Role,
    /// The second connection, for subscriptions, where the server knows no RESP3.
    pub(super) subscriber: Mutex<Option<Arc<Node>>>,
    pub(super) overseer: Option<Arc<dyn Overseer>>,
    /// The present connection is to be given up as soon as what it was asked is answered.
    abandoned: AtomicBool,
    /// When others want it to be dialled.
    wishes: Wishes,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Commands, and subscriptions if the protocol allows both.
    Commands,
    /// Only subscriptions, in RESP2, where messages look like replies.
    Subscriber,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` while another thread has it.
pub(super) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

pub(super) fn deliver(settled: impl IntoIterator<Item = Settled>) {
    settled.into_iter().for_each(Settled::deliver);
}

/// A question whose answer proves that the connection lives. Nobody waits for it, and it has all the time there is:
/// missing it says nothing that missing the others did not say.
pub(super) fn ping() -> Request {
    let deadline = Instant::now() + Duration::from_secs(24 * 3600);
    Request::unheard(Command::new("PING"), deadline)
}

pub(super) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

impl Node {
    /// Starts connecting. Never fails later: a connection that cannot be made is tried again.
    pub(super) fn start(
        config: Config,
        role: Role,
        overseer: Option<Arc<dyn Overseer>>,
    ) -> Result<Arc<Self>> {
        let node = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            batch: Mutex::new(Batch::new(config.limits())),
            inbox: Mutex::default(),
            metrics: metrics::of_address(census::address_of(&config)),
            config,
            status: StatusBoard::default(),
            subscriptions: Arc::default(),
            scripts_sent: Mutex::default(),
            closing: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            role,
            subscriber: Mutex::default(),
            overseer,
            abandoned: AtomicBool::new(false),
            wishes: Wishes::default(),
        });
        if let Some(overseer) = &node.overseer {
            overseer.started(&node);
        }
        census::enter(&node);
        io_thread::spawn(Arc::clone(&node).run())?;
        Ok(node)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn batch(&self) -> MutexGuard<'_, Batch> {
        lock(&self.batch)
    }

    /// Queues a command. The sink gets its outcome, by `deadline` at the latest.
    pub fn send(&self, command: Command, deadline: Instant, sink: Sink) {
        self.push(Request::new(command, deadline, sink));
    }

    /// Queues a request.
    pub(super) fn push(&self, request: Request) {
        let queued = self.batch().push(request);
        match queued {
            Ok(Some(driver)) => self.move_on(driver),
            Ok(None) => {}
            Err(refused) => refused.deliver(),
        }
    }

    /// Queues a request that was accepted before.
    pub(super) fn put_back(&self, request: Request) {
        let driver = self.batch().put_back(request);
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Says when it is to be dialled, where it is being waited for or will be.
    pub(super) fn redial(&self, wish: Wish) {
        self.wishes.make(wish);
    }

    /// The same, unless it is connected: then the next loss would be redialled in haste for no reason.
    pub(super) fn redial_if_lost(&self, wish: Wish) {
        if self.status.get() == Status::Reconnecting {
            self.redial(wish);
        }
    }

    /// Gives the present connection up for a new one, which may lead elsewhere.
    pub(super) fn abandon(&self, reason: Error) {
        let mut batch = self.batch();
        if self.status.get() != Status::Ready || self.abandoned.swap(true, Ordering::Relaxed) {
            return;
        }
        batch.pause(reason);
        drop(batch);
        self.wake_driver();
    }

    /// Has the driver look at what has changed.
    pub(super) fn wake_driver(&self) {
        let driver = self.batch().take_driver();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    /// Whether there are subscriptions to lose.
    pub(super) fn listens(&self) -> bool {
        !self.subscriptions.is_empty() || self.overseer.as_ref().is_some_and(|overseer| overseer.listens())
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Sends a command whose reply proves that the connection lives.
    pub(super) fn probe(&self) {
        self.push(ping());
    }

    /// Stops accepting commands; those accepted before, on whatever thread, have [`CLOSE_TIMEOUT`] to finish.
    pub fn close(self: &Arc<Self>) {
        let node = Arc::clone(self);
        // A task, so that those that were submitted before begin before. Without an I/O thread there is nothing to
        // close.
        let _ = io_thread::submit(io_thread::Work::task(async move { node.close_now() }));
    }

    /// Like [`Node::close`], at once. I/O thread only.
    pub(super) fn close_now(&self) {
        if !self.closing.send_replace(true) {
            self.batch().finish(closed_error());
            self.wake_driver();
            if let Some(subscriber) = lock(&self.subscriber).take() {
                subscriber.close();
            }
        }
    }

    /// Whether [`Node::close`] was called.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the socket is closed and every call settled.
    pub async fn closed(&self) {
        // An error would mean that the sender is gone, and with it the node.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// `true` the first time it is asked about a script on the current connection.
    pub fn first_use_of_script(&self, digest: &'static str) -> bool {
        lock(&self.scripts_sent).insert(digest)
    }

    /// Sends a command and waits for its reply.
    pub(super) async fn answer(&self, command: Command) -> Result<Reply> {
        let (sender, receiver) = oneshot::channel();
        let deadline = Instant::now() + self.config.call_timeout();
        self.send(command, deadline, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.await.unwrap_or_else(|_| Err(closed_error()))
    }

    /// Sends a command whose outcome nobody waits for.
    pub(super) fn tell(&self, command: Command) {
        let deadline = Instant::now() + self.config.call_timeout();
        self.send(command.repeatable(), deadline, Box::new(|_| ()));
    }

    async fn run(self: Arc<Self>) {
        let mut redial = Redial::new(self.config.redial_delay(), self.overseer.is_some());
        if self.overseer.as_ref().is_some_and(|overseer| overseer.is_one_of_many())
            && self.unless_closing(redial.wait(&self.wishes)).await.is_none()
        {
            return self.end();
        }
        loop {
            redial.attempt();
            let established = self.unless_closing(self.establish()).await;
            let reason = match established {
                None => break,
                Some(Ok(session)) => {
                    let (since, mut pauses) = (Instant::now(), Pauses::watch());
                    self.opened(&session);
                    // A panic costs this connection, not the next one.
                    let reason = match catch_panic(drive::drive(&self, session)).await {
                        Ok(reason) | Err(reason) => reason,
                    };
                    deliver(self.batch().lost(&reason));
                    redial.lost(since);
                    if pauses.ended_just_now() {
                        // It died while this process did not run, which is nobody else's reason.
                        self.redial(Wish::Now);
                    }
                    reason
                }
                Some(Err(error)) => error,
            };
            if self.is_closing() {
                break;
            }
            self.not_connected(reason);
            if self.unless_closing(redial.wait(&self.wishes)).await.is_none() {
                break;
            }
        }
        self.end();
    }

    fn end(self: &Arc<Self>) {
        if let Some(overseer) = &self.overseer {
            let left = self.batch().take_pending();
            let refused = overseer.ended(self, left.into());
            deliver(refused.into_iter().filter_map(|request| request.fail(closed_error())));
        }
        let left = self.batch().refuse(closed_error());
        deliver(left);
        self.status.set(Status::Closed, None);
        self.closed.send_replace(true);
    }

    fn opened(&self, session: &Session) {
        lock(&self.scripts_sent).clear();
        self.abandoned.store(false, Ordering::Relaxed);
        self.wishes.take();
        let mut batch = self.batch();
        batch.open(self.bypass(session));
        if self.is_closing() {
            batch.finish(closed_error());
        }
        drop(batch);
        for channel in self.subscriptions.interrupted() {
            self.tell(Command::new("SUBSCRIBE").arg(channel));
        }
        if self.status.generation() > 0 {
            self.metrics.reconnects.add(1);
        }
        self.status.connected(session.resp3);
        if let Some(overseer) = &self.overseer {
            overseer.changed(self);
        }
    }

    fn not_connected(&self, reason: Error) {
        self.status.set(Status::Reconnecting, Some(reason.clone()));
        // Waiting would not help these; they are answered at once until someone mends the cause.
        let refusing = matches!(reason.kind(), ErrorKind::AuthFailed | ErrorKind::Config);
        let mut batch = self.batch();
        let refused = if refusing {
            batch.refuse(reason)
        } else {
            batch.wait(reason);
            Vec::new()
        };
        drop(batch);
        deliver(refused);
        if let Some(overseer) = &self.overseer {
            overseer.changed(self);
        }
    }

    /// Runs something while there is no connection: deadlines are kept meanwhile. `None` if the node is closing.
    async fn unless_closing<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.closing.subscribe();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            result = work => Some(result),
            () = self.keep_deadlines() => None,
        }
    }

    async fn keep_deadlines(&self) {
        let mut pauses = Pauses::watch();
        loop {
            if pauses.ended_just_now() {
                // What kept it from connecting was of another time.
                self.redial(Wish::Now);
            }
            let now = Instant::now();
            let settled = self.batch().expire(now);
            deliver(settled);
            sleep_until(now + EXPIRE_EVERY).await;
        }
    }
}
