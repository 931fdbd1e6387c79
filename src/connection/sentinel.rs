//! The Sentinels of a master: they say where it is, and tell when another has taken its place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::{PushKind, Value};
use tokio::time::{Instant, sleep, timeout};

use super::command::Command;
use super::config::{Address, Config, Endpoint, SentinelOptions};
use super::dial;
use super::handshake::Session;
use super::node::{Node, lock};
use super::overseer::Overseer;
use super::race::first_answer;
use super::redial::{Redial, Wish};
use super::reply::Reply;
use super::request::Request;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread;

/// How long one Sentinel has to answer before the next is asked as well, and before it is given up.
const NEXT_AFTER: Duration = Duration::from_millis(250);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// More than these are not remembered, whatever a Sentinel says.
const MAX_SENTINELS: usize = 32;
const SWITCHED: &str = "+switch-master";

/// The Sentinels of one master.
pub struct Sentinels {
    config: Config,
    options: SentinelOptions,
    known: Mutex<Vec<Address>>,
    /// Which one is asked first.
    turn: AtomicUsize,
    /// Where the connection leads that is up or being made.
    present: Mutex<Option<Endpoint>>,
    /// The connections to the master: one, or two where messages need their own.
    nodes: Mutex<Vec<Weak<Node>>>,
}

impl Sentinels {
    /// Sentinels that nobody has asked yet. `config` is that of the connection to the master.
    pub fn new(config: Config, options: SentinelOptions) -> Arc<Self> {
        let own = Config {
            username: options.username.clone(),
            password: options.password.clone(),
            tls: options.tls.clone(),
            db: 0,
            ..config
        };
        Arc::new(Self {
            config: own,
            known: Mutex::new(options.sentinels.clone()),
            options,
            turn: AtomicUsize::new(0),
            present: Mutex::default(),
            nodes: Mutex::default(),
        })
    }

    /// Listens for a change of master as long as the node is open.
    pub fn watch(self: &Arc<Self>, node: &Arc<Node>) -> Result<()> {
        let (sentinels, mut closing) = (Arc::clone(self), node.closing.subscribe());
        io_thread::spawn(async move {
            tokio::select! {
                _ = closing.wait_for(|closing| *closing) => {}
                () = sentinels.keep_listening() => {}
            }
        })
    }

    async fn keep_listening(&self) {
        let mut redial = Redial::new(self.config.redial_delay(), false);
        loop {
            let Some(sentinel) = self.in_turn().into_iter().next() else { return };
            redial.attempt();
            let began = Instant::now();
            // It ends with an error, sooner or later. Who is connected can do without, so nobody is told.
            if self.listen(&sentinel).await.is_err() {
                self.turn.fetch_add(1, Ordering::Relaxed);
            }
            redial.lost(began);
            sleep(redial.delay()).await;
        }
    }

    async fn listen(&self, sentinel: &Address) -> Result<()> {
        let mut session = self.connect(sentinel).await?;
        let subscribe = Command::new("SUBSCRIBE").arg(SWITCHED);
        session.tell(subscribe).await?;
        let mut confirmed = false;
        loop {
            let words = match session.next_value().await? {
                Value::Push { kind: PushKind::Message, data } => data,
                Value::Array(mut items) if items.first() == Some(&Value::BulkString(b"message".to_vec())) => {
                    items.split_off(1)
                }
                Value::ServerError(_) => return Err(unusable(sentinel)),
                _ if confirmed => continue,
                _ => {
                    confirmed = true;
                    // A change that was announced while nobody listened.
                    self.compare(self.master_by(sentinel).await?).await;
                    if self.options.update_sentinels {
                        self.learn(sentinel).await?;
                    }
                    if self.options.nat_map.is_function() {
                        self.foresee(sentinel).await;
                    }
                    continue;
                }
            };
            if let [_, Value::BulkString(text)] = words.as_slice() {
                self.switched(&String::from_utf8_lossy(text)).await;
            }
        }
    }

    /// `name oldHost oldPort newHost newPort`
    async fn switched(&self, announcement: &str) {
        let words: Vec<_> = announcement.split(' ').collect();
        if let [name, _, _, host, port] = words.as_slice()
            && *name == self.options.name
            && let Ok(port) = port.parse()
        {
            self.compare(Address { host: (*host).to_owned(), port }).await;
        }
    }

    /// Gives the connections up if they lead elsewhere, as they do if nobody knows where the master is reached.
    async fn compare(&self, master: Address) {
        let there = self.options.nat_map.locate(master.clone()).await.map(Endpoint::Tcp).ok();
        if lock(&self.present).as_ref().is_some_and(|present| Some(present) != there.as_ref()) {
            let master = there.unwrap_or(Endpoint::Tcp(master));
            self.abandon(&format!("the Sentinels name another master: {master}"));
        }
    }

    fn abandon(&self, reason: &str) {
        let nodes: Vec<_> = lock(&self.nodes).iter().filter_map(Weak::upgrade).collect();
        for node in nodes {
            node.abandon(Error::new(ErrorKind::Unavailable, reason.to_owned()));
            node.redial(Wish::Afresh);
        }
    }

    async fn connect(&self, sentinel: &Address) -> Result<Session> {
        let endpoint = Endpoint::Tcp(sentinel.clone());
        let attempt = async {
            Session::open(dial::dial(&self.config, &endpoint).await?, &self.config, &endpoint).await
        };
        timeout(ANSWER_WITHIN.min(self.config.connect_timeout()), attempt).await.unwrap_or_else(|_| {
            Err(Error::new(
                ErrorKind::Unavailable,
                format!("ETIMEDOUT the Sentinel {sentinel} does not answer"),
            ))
        })
    }

    async fn ask(&self, sentinel: &Address, words: &[&str]) -> Result<Reply> {
        let mut session = self.connect(sentinel).await?;
        let command = words.iter().fold(Command::new("SENTINEL"), |command, word| command.arg(word));
        match timeout(ANSWER_WITHIN, session.ask([command])).await {
            Ok(answers) => answers?.pop().unwrap_or_else(|| Err(unusable(sentinel))),
            Err(_) => Err(unusable(sentinel)),
        }
    }

    /// As the Sentinel knows it.
    async fn master_by(&self, sentinel: &Address) -> Result<Address> {
        let name = &self.options.name;
        let reply = self.ask(sentinel, &["GET-MASTER-ADDR-BY-NAME", name]).await?;
        if reply == Reply::Nil {
            let text = format!("the Sentinel {sentinel} knows no master {name:?}");
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let words = texts(reply)?;
        match words.as_slice() {
            [host, port] if !host.is_empty() => {
                let port = port.parse().map_err(|_| unusable(sentinel))?;
                Ok(Address { host: host.clone(), port })
            }
            _ => Err(unusable(sentinel)),
        }
    }

    /// Remembers the Sentinels that this one knows.
    async fn learn(&self, sentinel: &Address) -> Result<()> {
        let others = addresses(self.ask(sentinel, &["SENTINELS", &self.options.name]).await?)?;
        let nat_map = &self.options.nat_map;
        // Those that are not known in time are named again with the next connection to a Sentinel.
        let _ = timeout(ANSWER_WITHIN, nat_map.learn(&others)).await;
        for address in others.into_iter().filter_map(|address| nat_map.reached(address).ok()) {
            let mut known = lock(&self.known);
            if known.len() < MAX_SENTINELS && !known.contains(&address) {
                known.push(address);
            }
        }
        Ok(())
    }

    /// Has the function asked how replicas are reached before they become masters: it may be that nobody can ask it then.
    async fn foresee(&self, sentinel: &Address) {
        // Who may not ask this, or asks a Sentinel that does not know it, can do without.
        if let Ok(reply) = self.ask(sentinel, &["REPLICAS", &self.options.name]).await
            && let Ok(replicas) = addresses(reply)
        {
            replicas.iter().for_each(|replica| self.options.nat_map.ask(replica));
        }
    }

    /// All Sentinels, beginning with the one whose turn it is.
    fn in_turn(&self) -> Vec<Address> {
        let mut known = lock(&self.known).clone();
        let length = known.len().max(1);
        known.rotate_left(self.turn.load(Ordering::Relaxed) % length);
        known
    }
}

#[async_trait]
impl Overseer for Sentinels {
    fn started(&self, node: &Arc<Node>) {
        lock(&self.nodes).push(Arc::downgrade(node));
    }

    async fn locate(&self) -> Result<Endpoint> {
        let found =
            first_answer(self.in_turn(), NEXT_AFTER, async |sentinel| self.master_by(&sentinel).await);
        match found.await {
            Ok(master) => {
                let endpoint = Endpoint::Tcp(self.options.nat_map.locate(master).await?);
                *lock(&self.present) = Some(endpoint.clone());
                Ok(endpoint)
            }
            Err(errors) => Err(Error::new(
                common_kind(&errors),
                format!(
                    "no Sentinel says where the master {:?} is: {}",
                    self.options.name,
                    errors.iter().map(Error::message).collect::<Vec<_>>().join("; ")
                ),
            )),
        }
    }

    async fn verify(&self, session: &mut Session, endpoint: &Endpoint) -> Result<()> {
        match session.ask([Command::new("ROLE")]).await?.pop() {
            Some(Ok(Reply::List(words))) if words.first() != Some(&Reply::text("master")) => {
                // Another Sentinel may know better.
                self.turn.fetch_add(1, Ordering::Relaxed);
                let text = format!("the Sentinels name {endpoint} as the master, but it is a replica");
                Err(Error::new(ErrorKind::Unavailable, text))
            }
            // Who may not ask has to find out by writing.
            _ => Ok(()),
        }
    }

    fn minds(&self, error: &Error) -> bool {
        // It is no master any more, or not yet again: the Sentinels know whether another is.
        error.kind() == ErrorKind::ServerNotReady
            && ["READONLY", "LOADING", "MASTERDOWN"].iter().any(|word| error.message().starts_with(word))
    }

    fn refused(&self, node: &Node, mut request: Request, error: Error) {
        // With the delay of any redial: the Sentinels may not know better yet.
        node.abandon(error.clone());
        request.refused(error);
        node.put_back(request);
    }

    fn silent(&self, _node: &Node) {}
}

/// What all of them say. A single one that is out of reach may know better when it is back.
fn common_kind(errors: &[Error]) -> ErrorKind {
    match errors {
        [first, rest @ ..] if rest.iter().all(|error| error.kind() == first.kind()) => first.kind(),
        _ => ErrorKind::Unavailable,
    }
}

fn texts(reply: Reply) -> Result<Vec<String>> {
    let words = reply.into_list()?.into_iter();
    words
        .map(|word| Ok(String::from_utf8_lossy(&word.into_bytes()?.unwrap_or_default()).into_owned()))
        .collect()
}

/// The addresses in a list of Sentinels or replicas, but for those that have lost the connection to whom tells of them.
fn addresses(reply: Reply) -> Result<Vec<Address>> {
    let mut addresses = Vec::new();
    for server in reply.into_list()? {
        let words = texts(server)?;
        let field = |name: &str| {
            words.chunks_exact(2).find(|pair| pair[0] == name).map_or("", |pair| pair[1].as_str())
        };
        if let (host, Ok(port)) = (field("ip"), field("port").parse::<u16>())
            && !host.is_empty()
            && port != 0
            && !field("flags").contains("disconnected")
        {
            addresses.push(Address { host: host.to_owned(), port });
        }
    }
    Ok(addresses)
}

fn unusable(sentinel: &Address) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the Sentinel {sentinel} answered something unexpected"))
}
