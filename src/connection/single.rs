//! A connection to one server that redials for ever. One driver task on the I/O thread owns the socket; everyone
//! else only touches the batch.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::batch::{Batch, Request, Settled, Sink};
use super::command::Command;
use super::config::Config;
use super::dial;
use super::drive;
use super::handshake::Session;
use super::pubsub::{Subscription, Subscriptions};
use super::redial::Redial;
use super::reply::Reply;
use super::status::{Status, StatusBoard};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread::{self, catch_panic};

/// How long closing waits for replies.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How often deadlines are looked at while there is no connection.
const EXPIRE_EVERY: Duration = Duration::from_millis(50);

/// A connection to one server.
pub struct Client {
    config: Config,
    batch: Mutex<Batch>,
    /// What became of the connection, for those who watch.
    pub status: StatusBoard,
    pub(super) subscriptions: Arc<Subscriptions>,
    /// Digests of the scripts that the current connection has sent in full.
    scripts_sent: Mutex<HashSet<&'static str>>,
    pub(super) closing: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    role: Role,
    /// The second connection, for subscriptions, where the server knows no RESP3.
    subscriber: Mutex<Option<Arc<Client>>>,
    /// Another one, for calls that wait for replicas: WAIT holds up everything behind it.
    waiter: Mutex<Option<Arc<Client>>>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Commands, and subscriptions if the protocol allows both.
    Commands,
    /// Only subscriptions, in RESP2, where messages look like replies.
    Subscriber,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn deliver(settled: impl IntoIterator<Item = Settled>) {
    settled.into_iter().for_each(Settled::deliver);
}

fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

impl Client {
    /// Starts connecting. Never fails later: a connection that cannot be made is tried again.
    pub fn start(config: Config, role: Role) -> Result<Arc<Self>> {
        let client = Arc::new(Self {
            batch: Mutex::new(Batch::new(config.limits())),
            config,
            status: StatusBoard::default(),
            subscriptions: Arc::default(),
            scripts_sent: Mutex::default(),
            closing: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            role,
            subscriber: Mutex::default(),
            waiter: Mutex::default(),
        });
        io_thread::spawn(Arc::clone(&client).run())?;
        Ok(client)
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn batch(&self) -> MutexGuard<'_, Batch> {
        lock(&self.batch)
    }

    /// Queues a command. The sink gets its outcome, by `deadline` at the latest.
    pub fn send(&self, command: Command, deadline: Instant, sink: Sink) {
        let queued = self.batch().push(Request::new(command, deadline, sink));
        match queued {
            Ok(Some(driver)) => driver.wake(),
            Ok(None) => {}
            Err(refused) => refused.deliver(),
        }
    }

    /// Begins an operation of one or more commands that share one deadline.
    pub fn call(&self) -> Call<'_> {
        Call { client: self, deadline: Instant::now() + self.config.call_timeout() }
    }

    /// Proves that the server answers. That it does not allow PING is an answer.
    pub async fn ping(&self) -> Result<()> {
        match self.call().command(Command::new("PING").reads()).await {
            Err(error) if error.kind() != ErrorKind::NoPermission => Err(error),
            _ => Ok(()),
        }
    }

    /// Stops accepting commands; those accepted before, on whatever thread, have [`CLOSE_TIMEOUT`] to finish.
    pub fn close(self: &Arc<Self>) {
        let client = Arc::clone(self);
        // A task, so that those that were submitted before begin before. Without an I/O thread there is nothing to
        // close.
        let _ = io_thread::submit(io_thread::Work::Task(Box::pin(async move { client.close_now() })));
    }

    fn close_now(&self) {
        if !self.closing.send_replace(true) {
            let mut batch = self.batch();
            batch.finish(closed_error());
            let driver = batch.take_driver();
            drop(batch);
            if let Some(driver) = driver {
                driver.wake();
            }
            for further in [&self.subscriber, &self.waiter] {
                if let Some(client) = lock(further).take() {
                    client.close();
                }
            }
        }
    }

    /// Whether [`Client::close`] was called.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the socket is closed and every call settled.
    pub async fn closed(&self) {
        // An error would mean that the sender is gone, and with it the client.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// `true` the first time it is asked about a script on the current connection.
    pub fn first_use_of_script(&self, digest: &'static str) -> bool {
        lock(&self.scripts_sent).insert(digest)
    }

    /// Listens to a channel from the moment this resolves. I/O thread only.
    pub async fn subscribe(self: &Arc<Self>, channel: &str) -> Result<Subscription> {
        // Which connection carries subscriptions is known once one has been up.
        if self.status.get() != Status::Ready {
            self.ping().await?;
        }
        let speaker = self.subscriber()?;
        let deserted = Arc::downgrade(&speaker);
        let subscription = speaker.subscriptions.listen(
            channel,
            Box::new(move |channel| {
                if let Some(client) = deserted.upgrade() {
                    client.tell(Command::new("UNSUBSCRIBE").arg(channel));
                }
            }),
        );
        speaker.call().command(Command::new("SUBSCRIBE").arg(channel).repeatable()).await?;
        subscription.confirm();
        Ok(subscription)
    }

    /// Sends a command whose outcome nobody waits for.
    pub fn tell(&self, command: Command) {
        self.send(command.repeatable(), self.call().deadline, Box::new(|_| ()));
    }

    /// The connection that carries subscriptions: this one under RESP3, otherwise a second one.
    fn subscriber(self: &Arc<Self>) -> Result<Arc<Self>> {
        if self.role == Role::Subscriber || self.status.speaks_resp3() {
            return Ok(Arc::clone(self));
        }
        self.further(&self.subscriber, Config { protocol: 2, ..self.config.clone() }, Role::Subscriber)
    }

    /// The connection for calls that [`Client::wait`] for replicas.
    pub fn waiter(&self) -> Result<Arc<Self>> {
        self.further(&self.waiter, self.config.clone(), Role::Commands)
    }

    /// Waits until so many replicas have what was written on this connection, and says how many do.
    pub async fn wait(&self, replicas: u32, at_most: Duration) -> Result<u32> {
        let call = Call { deadline: Instant::now() + at_most + self.config.call_timeout(), ..self.call() };
        let millis = at_most.as_millis() as u64;
        let wait = Command::new("WAIT").number(replicas).number(millis).reads();
        Ok(call.command(wait).await?.into_int()?.try_into().unwrap_or_default())
    }

    /// A further connection to the same server, started when it is first needed.
    fn further(&self, place: &Mutex<Option<Arc<Self>>>, config: Config, role: Role) -> Result<Arc<Self>> {
        let mut place = lock(place);
        // Nobody would close one that is started now.
        if self.is_closing() {
            return Err(closed_error());
        }
        if let Some(client) = &*place {
            return Ok(Arc::clone(client));
        }
        Ok(Arc::clone(place.insert(Self::start(config, role)?)))
    }

    async fn run(self: Arc<Self>) {
        let mut redial = Redial::new(self.config.redial_delay());
        loop {
            let established = self.unless_closing(self.establish()).await;
            let reason = match established {
                None => break,
                Some(Ok(session)) => {
                    let since = Instant::now();
                    self.opened(&session);
                    // A panic costs this connection, not the next one.
                    let reason = match catch_panic(drive::drive(&self, session)).await {
                        Ok(reason) | Err(reason) => reason,
                    };
                    deliver(self.batch().lost(&reason));
                    redial.lost(since);
                    reason
                }
                Some(Err(error)) => error,
            };
            if self.is_closing() {
                break;
            }
            self.not_connected(reason);
            if self.unless_closing(sleep(redial.delay())).await.is_none() {
                break;
            }
        }
        let left = self.batch().refuse(closed_error());
        deliver(left);
        self.status.set(Status::Closed, None);
        self.closed.send_replace(true);
    }

    async fn establish(&self) -> Result<Session> {
        let attempt = async { Session::open(dial::dial(&self.config).await?, &self.config).await };
        match timeout(self.config.connect_timeout(), attempt).await {
            Ok(established) => established,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "ETIMEDOUT connection timeout: no connection to {} within {} ms",
                    self.config.endpoint, self.config.connect_timeout
                ),
            )),
        }
    }

    fn opened(&self, session: &Session) {
        lock(&self.scripts_sent).clear();
        let mut batch = self.batch();
        batch.open();
        if self.is_closing() {
            batch.finish(closed_error());
        }
        drop(batch);
        for channel in self.subscriptions.interrupted() {
            self.tell(Command::new("SUBSCRIBE").arg(channel));
        }
        self.status.connected(session.resp3);
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
    }

    /// Runs something while there is no connection: deadlines are kept meanwhile. `None` if the client is closing.
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
        loop {
            let now = Instant::now();
            let settled = self.batch().expire(now);
            deliver(settled);
            sleep_until(now + EXPIRE_EVERY).await;
        }
    }
}

/// One operation: its commands share a deadline.
#[derive(Clone, Copy)]
pub struct Call<'client> {
    client: &'client Client,
    deadline: Instant,
}

impl Call<'_> {
    /// The connection it runs on.
    pub fn client(&self) -> &Client {
        self.client
    }

    /// Sends a command and waits for its reply.
    pub async fn command(&self, command: Command) -> Result<Reply> {
        received(self.send(command)).await
    }

    /// Sends commands together and waits for all replies, in their order.
    pub async fn commands(&self, commands: impl IntoIterator<Item = Command>) -> Vec<Result<Reply>> {
        let sent: Vec<_> = commands.into_iter().map(|command| self.send(command)).collect();
        let mut replies = Vec::with_capacity(sent.len());
        for receiver in sent {
            replies.push(received(receiver).await);
        }
        replies
    }

    fn send(&self, command: Command) -> oneshot::Receiver<Result<Reply>> {
        let (sender, receiver) = oneshot::channel();
        // A receiver that is gone was cancelled and wants no reply.
        self.client.send(command, self.deadline, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver
    }

    /// Whether there is time for another attempt.
    pub fn has_time_left(&self) -> bool {
        Instant::now() < self.deadline
    }
}

async fn received(receiver: oneshot::Receiver<Result<Reply>>) -> Result<Reply> {
    receiver.await.unwrap_or_else(|_| Err(closed_error()))
}
