//! Keeping the slot table right: it is read when something says that it is wrong, and again and again while the cluster
//! does not work.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::seq::SliceRandom;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::slots::{Range, ranges};
use super::{Cluster, KEEP_GUEST};
use crate::connection::command::Command;
use crate::connection::config::{Address, Endpoint, ScaleReads};
use crate::connection::dial;
use crate::connection::handshake::Session;
use crate::connection::node::{Node, deliver, lock};
use crate::connection::race::first_answer;
use crate::connection::redial::Redial;
use crate::connection::reply::Reply;
use crate::connection::status::Status;
use crate::error::{Error, ErrorKind, Result};

/// How long one node has to answer before the next is asked as well, and before it is given up.
const NEXT_AFTER: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// So many nodes are asked in one go.
const ASKED_AT_ONCE: usize = 16;
/// Between two readings there is at least a random part of this, so that many redirections make one reading.
const SPREAD: Duration = Duration::from_millis(50);
/// Between two readings while the cluster does not work, a random part of it more.
const IMPATIENCE: Duration = Duration::from_millis(100);
/// So many times longer at the most, while nodes answer with errors.
const SLOWEST: u32 = 10;
/// How long a node is suspected after it was silent for a while.
const SUSPICION: Duration = Duration::from_millis(1500);
/// How often the table is read where replicas answer reads, or where a function says how to reach them: it has to be asked
/// before they become masters, as it may be that nobody can ask it then. ioredis reads the table as often.
const LOOK_FOR_REPLICAS: Duration = Duration::from_secs(5);
/// How often parked commands are tried again.
const RETRY_EVERY: Duration = Duration::from_millis(40);

/// What others want of the table.
#[derive(Default)]
pub struct Wishes {
    wanted: Notify,
    /// A node that should know.
    hint: Mutex<Option<Address>>,
    suspected_until: Mutex<Option<Instant>>,
}

impl Wishes {
    /// Something is wrong with the table.
    pub fn wish(&self, hint: Option<Address>) {
        if hint.is_some() {
            *lock(&self.hint) = hint;
        }
        self.wanted.notify_one();
    }

    /// A node says nothing any more; the others will notice and replace it.
    pub fn suspect(&self) {
        *lock(&self.suspected_until) = Some(Instant::now() + SUSPICION);
        self.wanted.notify_one();
    }

    fn is_suspicious(&self) -> bool {
        lock(&self.suspected_until).is_some_and(|until| Instant::now() < until)
    }
}

/// Whom to ask for the table.
enum Source {
    Node(Arc<Node>),
    Address(Address),
}

impl Source {
    fn is_connected(&self) -> bool {
        matches!(self, Self::Node(_))
    }
}

/// When addresses may be dialled to ask for the table, beside the nodes, which are redialled by themselves.
struct Dialling {
    redial: Redial,
    due: Option<Instant>,
}

impl Dialling {
    /// For a cluster that nobody was asked about yet.
    fn new(pace: Duration) -> Self {
        Self { due: Some(Instant::now()), ..Self::of_a_loss(pace) }
    }

    fn of_a_loss(pace: Duration) -> Self {
        // Whoever is told where a node is goes there at once, and so comes twice where it was told.
        Self { redial: Redial::new(pace * 2, true), due: None }
    }

    /// Whether to dial now. The next time is drawn then.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = *self.due.get_or_insert_with(|| now + self.redial.delay());
        if now < due {
            return false;
        }
        self.redial.attempt();
        self.due = Some(now + self.redial.delay());
        true
    }
}

impl Cluster {
    pub(super) async fn keep_table(&self) {
        let mut dialling = Dialling::new(self.config.redial_delay());
        let mut refusals = 0;
        loop {
            let connected = self.connected();
            let sources = if dialling.is_due() { self.everybody(connected) } else { connected };
            let delay = IMPATIENCE + IMPATIENCE.mul_f64(rand::random());
            let answers = sources.iter().any(Source::is_connected);
            let mut in_time = true;
            match self.read_table(sources).await {
                Some(Ok((ranges, teller))) => {
                    refusals = 0;
                    in_time = self.adopt(ranges, teller.is_connected()).await;
                }
                Some(Err(error)) => {
                    refusals = if answers { SLOWEST.min(refusals + 1) } else { 0 };
                    self.no_table(error);
                }
                None => {}
            }
            self.show_status();
            if refusals > 0 || !self.works() || self.table.is_suspicious() {
                sleep(delay * (refusals + 1)).await;
            } else {
                dialling = Dialling::of_a_loss(self.config.redial_delay());
                let news = self.news(in_time);
                if self.options.scale_reads == ScaleReads::Master && !self.options.nat_map.is_function() {
                    news.await;
                } else {
                    // Nothing else tells of a new replica.
                    let _ = timeout(LOOK_FOR_REPLICAS, news).await;
                }
                sleep(SPREAD.mul_f64(rand::random())).await;
            }
        }
    }

    /// Resolves when there is a reason to read the table, or when the program says at last where its nodes are reached.
    async fn news(&self, in_time: bool) {
        tokio::select! {
            () = self.table.wanted.notified() => {}
            () = self.options.nat_map.answered(), if !in_time => {}
        }
    }

    /// Sends what is parked on its way again, and keeps its deadlines.
    pub(super) async fn keep_parked(&self) {
        loop {
            sleep(RETRY_EVERY.mul_f64(0.5 + rand::random::<f64>())).await;
            let settled = lock(&self.parked).expire(Instant::now());
            deliver(settled);
            let has_table = !self.state().masters.is_empty();
            if has_table {
                let parked = lock(&self.parked).take_pending();
                parked.into_iter().for_each(|request| self.dispatch(request));
            }
            if lock(&self.parked).is_idle() {
                self.parking.notified().await;
            }
        }
    }

    /// Whether every slot has a node that is connected.
    fn works(&self) -> bool {
        let state = self.state();
        state.owners.iter().all(Option::is_some)
            && state.masters.iter().all(|node| node.status.get() == Status::Ready)
    }

    pub(super) fn show_status(&self) {
        if self.is_closing() {
            return;
        }
        if self.works() {
            self.status.set(Status::Ready, None);
        } else if self.status.get() == Status::Ready {
            let text = "a part of the cluster is out of reach";
            self.status.set(Status::Reconnecting, Some(Error::new(ErrorKind::Unavailable, text)));
        }
    }

    /// Asks one node after the other. `None` if there is none to be asked.
    async fn read_table(&self, sources: Vec<Source>) -> Option<Result<(Vec<Range>, Source)>> {
        if sources.is_empty() {
            return None;
        }
        let answer = first_answer(sources, NEXT_AFTER, async |source| {
            let (host, reply) = match &source {
                Source::Node(node) => {
                    let reply = timeout(ANSWER_WITHIN, node.answer(question())).await;
                    (host_of(node), reply.unwrap_or_else(|_| Err(silent(&node.config().endpoint)))?)
                }
                Source::Address(address) => {
                    let reply = timeout(ANSWER_WITHIN, self.ask_at(address)).await;
                    let endpoint = Endpoint::Tcp(address.clone());
                    (address.host.clone(), reply.unwrap_or_else(|_| Err(silent(&endpoint)))?)
                }
            };
            let ranges = ranges(reply, &host)?;
            if ranges.is_empty() {
                return Err(Error::new(ErrorKind::Unavailable, "no node of the cluster serves any slot"));
            }
            Ok((ranges, source))
        });
        let answer = answer.await.map_err(|errors| match errors.into_iter().next() {
            Some(error) if error.message().contains("cluster support disabled") => {
                Error::new(ErrorKind::Config, format!("{} is not a cluster", self.config.endpoint))
            }
            Some(error) => error,
            None => Error::new(ErrorKind::Unavailable, "no node of the cluster is known"),
        });
        Some(answer)
    }

    async fn ask_at(&self, address: &Address) -> Result<Reply> {
        let endpoint = Endpoint::Tcp(address.clone());
        let config = &self.config;
        let mut session = Session::open(dial::dial(config, &endpoint).await?, config, &endpoint).await?;
        session.ask([question()]).await?.pop().unwrap_or_else(|| Err(silent(&endpoint)))
    }

    /// Who is connected, first who should know.
    fn connected(&self) -> Vec<Source> {
        let hint = lock(&self.table.hint).take();
        let state = self.state();
        let is_ready = |node: &&Arc<Node>| node.status.get() == Status::Ready;
        let mut connected: Vec<_> = state.nodes.values().filter(is_ready).cloned().collect();
        connected.shuffle(&mut rand::rng());
        let knowing = hint.iter().filter_map(|hint| state.nodes.get(hint)).filter(is_ready).cloned();
        knowing.chain(connected).map(Source::Node).take(ASKED_AT_ONCE).collect()
    }

    /// The same, and then everybody else. Who is redialled anyway is not dialled twice.
    fn everybody(&self, mut sources: Vec<Source>) -> Vec<Source> {
        let state = self.state();
        let mut others: Vec<_> = state.replicas.iter().chain(&self.options.nodes).cloned().collect();
        others.shuffle(&mut rand::rng());
        let mut seen = HashSet::new();
        others.retain(|address| !state.nodes.contains_key(address) && seen.insert(address.clone()));
        sources.extend(others.into_iter().map(Source::Address));
        sources.truncate(ASKED_AT_ONCE);
        sources
    }

    /// Takes a table over as far as it is known where its nodes are reached. `false` if the program has yet to say that
    /// of some, or whether it still holds.
    async fn adopt(&self, ranges: Vec<Range>, connected: bool) -> bool {
        let nat_map = &self.options.nat_map;
        let missing_in =
            |ranges: &[Range]| ranges.iter().find_map(|range| nat_map.reached(range.master.clone()).err());
        if let Some(missing) = missing_in(&ranges) {
            lock(&self.parked).wait(missing);
        }
        let in_time = nat_map.learn(ranges.iter().flat_map(Range::nodes)).await;
        let missing = missing_in(&ranges);
        let ranges: Vec<_> = ranges.into_iter().filter_map(|range| range.reached(nat_map).ok()).collect();
        match missing {
            Some(error) if ranges.is_empty() => self.no_table(error),
            missing => self.apply(ranges, connected, missing),
        }
        in_time
    }

    /// Takes a table over: opens what is new, closes what is gone, and sends on what waited for it. Those who were
    /// `connected` to the node that told of it hear of a failover within the same moment. What is `missing` in it is the
    /// reason why calls for its slots wait.
    fn apply(&self, ranges: Vec<Range>, connected: bool, missing: Option<Error>) {
        let at_once = !connected || self.works();
        let mut gone = Vec::new();
        {
            let mut state = self.state();
            state.owners.fill(None);
            state.masters.clear();
            state.replicas.clear();
            let mut present = HashSet::new();
            let mut replicas = Vec::new();
            for range in ranges {
                let address = range.master;
                state.replicas.extend(range.replicas.iter().cloned());
                replicas.push((address.clone(), range.replicas));
                let Some(node) = self.node_at(&mut state, &address, at_once) else { continue };
                state.owners[usize::from(range.first)..=usize::from(range.last)]
                    .fill(Some(Arc::clone(&node)));
                if present.insert(address) {
                    state.masters.push(node);
                }
            }
            let now = Instant::now();
            state.guests.retain(|_, since| now.duration_since(*since) < KEEP_GUEST);
            let is_needed = |address: &Address, node: &Arc<Node>| {
                let is_guest = state.guests.contains_key(address) && node.status.get() == Status::Ready;
                present.contains(address) || is_guest
            };
            let left: Vec<_> = state
                .nodes
                .iter()
                .filter(|(address, node)| !is_needed(address, node))
                .map(|(address, _)| address.clone())
                .collect();
            gone.extend(self.take_readers(&mut state, replicas));
            gone.extend(left.iter().filter_map(|address| state.nodes.remove(address)));
        }
        for node in gone {
            // Before it is closed, as it would refuse them.
            let waiting = node.batch().take_pending();
            node.close_now();
            waiting.into_iter().for_each(|request| self.dispatch(request));
        }
        self.move_speaker();
        self.review_shards();
        if let Some(missing) = &missing {
            self.status.set(Status::Reconnecting, Some(missing.clone()));
        }
        let unserved = || Error::new(ErrorKind::Unavailable, "no node serves the slot");
        lock(&self.parked).wait(missing.unwrap_or_else(unserved));
        self.parking.notify_one();
    }

    /// Subscriptions leave a node that is no longer part of the cluster.
    fn move_speaker(&self) {
        let is_listed = {
            let state = self.state();
            let at = lock(&self.speaker_at);
            at.as_ref().is_none_or(|at| state.nodes.contains_key(at) || state.replicas.contains(at))
        };
        if let (false, Some(speaker)) = (is_listed, &*lock(&self.speaker)) {
            speaker.abandon(Error::new(ErrorKind::Unavailable, "the node has left the cluster"));
        }
    }

    fn no_table(&self, error: Error) {
        self.status.set(Status::Reconnecting, Some(error.clone()));
        // Waiting would not help these; they are answered at once until someone mends the cause.
        let refusing =
            matches!(error.kind(), ErrorKind::AuthFailed | ErrorKind::Config | ErrorKind::NoPermission);
        let mut parked = lock(&self.parked);
        let refused = if refusing {
            parked.refuse(error)
        } else {
            parked.wait(error);
            Vec::new()
        };
        drop(parked);
        deliver(refused);
    }
}

fn question() -> Command {
    Command::new("CLUSTER").arg("SLOTS").reads()
}

fn host_of(node: &Node) -> String {
    match &node.config().endpoint {
        Endpoint::Tcp(address) => address.host.clone(),
        other => other.to_string(),
    }
}

fn silent(endpoint: &Endpoint) -> Error {
    Error::new(ErrorKind::Unavailable, format!("ETIMEDOUT {endpoint} does not say who serves which slots"))
}
