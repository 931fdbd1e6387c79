//! Channels of our own. Where the node of a channel's slot knows sharded channels, messages go to that node alone, and
//! not over the bus to all others, where they may be lost as well.
//!
//! Publishers and listeners ask the same node, so they agree without a word: what it refuses goes the way of
//! `PUBLISH`. A channel follows its slot. Each master that has channels gets a connection of its own for them, an ear: a
//! server that gives a slot away ends subscriptions unasked, in the words of a reply.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

mod journey;

use journey::travel;

use super::member::Ear;
use super::redirect::Refusal;
use super::{Cluster, MAX_NODES};
use crate::connection::command::Command;
use crate::connection::config::{Address, Config, Endpoint};
use crate::connection::node::{Node, Role, closed_error, lock};
use crate::connection::overseer::Sharded;
use crate::connection::pubsub::{Subscription, Subscriptions};
use crate::connection::status::Status;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{OwnChannel, slot};
use crate::runtime::io_thread;

/// How long a publisher believes that a node refuses sharded channels: not for as long as listeners do, who are at a
/// loss where messages go another way.
const BELIEVED: Duration = Duration::from_secs(10);

/// All channels of our own that somebody listens to, by their names in a cluster.
#[derive(Default)]
pub struct Shards {
    registry: Arc<Subscriptions>,
    places: Mutex<HashMap<String, Place>>,
    ears: Mutex<HashMap<Address, Arc<Node>>>,
    /// Nodes that refused a sharded channel since the table was read, and when.
    refusing: Mutex<HashMap<Address, Instant>>,
}

struct Place {
    plain: String,
    seat: Option<Seat>,
    /// A task takes it where it belongs.
    moving: bool,
    /// It was heard somewhere before.
    heard: bool,
    outcome: watch::Sender<Outcome>,
}

/// Where a channel is heard.
enum Seat {
    /// With the ear at this address.
    Ear(Address),
    /// On the bus, as the node of its slot at this address knows no sharded channels. Ends when it is dropped.
    Bus(Address, #[allow(dead_code)] oneshot::Sender<()>),
}

#[derive(Clone)]
enum Outcome {
    Pending,
    Listening,
    Failed(Error),
}

impl Seat {
    fn owner(&self) -> &Address {
        match self {
            Self::Ear(address) | Self::Bus(address, _) => address,
        }
    }
}

impl Place {
    fn is_at(&self, address: &Address) -> bool {
        self.seat.as_ref().is_some_and(|seat| seat.owner() == address)
    }

    /// Takes a new seat. Returns the one before, and whether messages may have been missed between the two.
    fn sit(&mut self, seat: Seat) -> (Option<Seat>, bool) {
        let stays = matches!((&self.seat, &seat), (Some(Seat::Ear(old)), Seat::Ear(new)) if old == new);
        let before = self.seat.replace(seat);
        let heard = std::mem::replace(&mut self.heard, true);
        self.outcome.send_replace(Outcome::Listening);
        (before, heard && !stays)
    }
}

impl Shards {
    /// Whether anybody listens.
    pub(super) fn listens(&self) -> bool {
        !lock(&self.places).is_empty()
    }

    /// Nobody hears anything any more. Returns the connections to be closed.
    pub(super) fn end(&self) -> Vec<Arc<Node>> {
        lock(&self.places).clear();
        lock(&self.ears).drain().map(|(_, ear)| ear).collect()
    }
}

/// The server knows no sharded channels, in whatever words it says so, or does not let this user have them.
fn is_refusal(error: &Error) -> bool {
    let kinds = [ErrorKind::NoPermission, ErrorKind::Server, ErrorKind::Unsupported];
    kinds.contains(&error.kind()) && Refusal::of(error).is_none()
}

impl Cluster {
    /// Whether messages on a channel are sent by `SPUBLISH`, as far as is known.
    pub fn shards(&self, channel: &OwnChannel) -> bool {
        let owner = self.address_of_owner(&channel.sharded);
        let refused = owner.and_then(|owner| lock(&self.shards.refusing).get(&owner).copied());
        refused.is_none_or(|refused| refused.elapsed() > BELIEVED)
    }

    /// Publishes on a channel of our own. I/O thread only.
    pub fn announce(&self, channel: OwnChannel, message: Vec<u8>) {
        let deadline = Instant::now() + self.config.call_timeout();
        let sharded = Command::new("SPUBLISH").arg(&channel.sharded).arg(&message).repeatable();
        let own = Weak::clone(&self.own);
        let sink = Box::new(move |outcome: Result<_>| {
            if let (Err(error), Some(cluster)) = (outcome, own.upgrade())
                && is_refusal(&error)
            {
                let owner = cluster.address_of_owner(&channel.sharded);
                lock(&cluster.shards.refusing).extend(owner.map(|owner| (owner, Instant::now())));
                let plain = Command::new("PUBLISH").arg(channel.name).arg(message).repeatable();
                cluster.send(plain, deadline, Box::new(|_| ()));
            }
        });
        self.send(sharded, deadline, sink);
    }

    /// Listens to a channel of our own from the moment this resolves. I/O thread only.
    pub async fn listen(&self, channel: &OwnChannel) -> Result<Subscription> {
        if self.is_closing() {
            return Err(closed_error());
        }
        let own = Weak::clone(&self.own);
        let deserted = move |name: &str| {
            if let Some(cluster) = own.upgrade() {
                cluster.desert(name);
            }
        };
        let subscription = self.shards.registry.listen(&channel.sharded, Box::new(deserted));
        let mut outcome = {
            let mut places = lock(&self.shards.places);
            let place = places.entry(channel.sharded.clone()).or_insert_with(|| Place {
                plain: channel.name.clone(),
                seat: None,
                moving: false,
                heard: false,
                outcome: watch::Sender::new(Outcome::Pending),
            });
            place.outcome.subscribe()
        };
        self.settle(&channel.sharded);
        let is_known = |outcome: &Outcome| !matches!(outcome, Outcome::Pending);
        let wait = async { outcome.wait_for(is_known).await.map(|outcome| outcome.clone()) };
        match timeout(self.config.call_timeout(), wait).await {
            Ok(Ok(Outcome::Failed(error))) => return Err(error),
            Ok(Ok(_)) => subscription.confirm(),
            Ok(Err(_)) => return Err(closed_error()),
            Err(_) => {
                let text = "no connection to Redis in time, nothing was sent: no node lets us listen";
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
        }
        Ok(subscription)
    }

    /// Nobody listens to a channel any more.
    fn desert(&self, name: &str) {
        let place = {
            let mut places = lock(&self.shards.places);
            // Somebody may have come in this moment.
            if self.shards.registry.has(name) { None } else { places.remove(name) }
        };
        if let Some(Seat::Ear(address)) = place.and_then(|place| place.seat) {
            self.leave(&address, name);
        }
    }

    fn leave(&self, address: &Address, name: &str) {
        let ear = lock(&self.shards.ears).get(address).cloned();
        // A lost connection left everything.
        if let Some(ear) = ear.filter(|ear| ear.status.get() == Status::Ready) {
            ear.tell(Command::new("SUNSUBSCRIBE").arg(name));
        }
    }

    fn ear_at(&self, address: &Address) -> Option<Arc<Node>> {
        let mut ears = lock(&self.shards.ears);
        if let Some(ear) = ears.get(address) {
            return Some(Arc::clone(ear));
        }
        if self.is_closing() || ears.len() >= MAX_NODES {
            return None;
        }
        let config = Config { protocol: 2, endpoint: Endpoint::Tcp(address.clone()), ..self.config.clone() };
        let overseer = Arc::new(Ear { cluster: Weak::clone(&self.own), address: address.clone() });
        let ear = Node::start(config, Role::Subscriber, Some(overseer)).ok()?;
        ears.insert(address.clone(), Arc::clone(&ear));
        Some(ear)
    }

    fn address_of_owner(&self, name: &str) -> Option<Address> {
        let state = self.state();
        match &state.owners[usize::from(slot(name.as_bytes()))].as_ref()?.config().endpoint {
            Endpoint::Tcp(address) => Some(address.clone()),
            _ => None,
        }
    }

    /// What the server at an address says of sharded channels.
    pub(super) fn said(&self, address: &Address, said: Sharded<'_>) {
        match said {
            Sharded::Message(channel, payload) => self.shards.registry.message(channel, payload),
            Sharded::Joined(channel) => self.joined(address, &String::from_utf8_lossy(channel)),
            Sharded::Left(channel) => {
                let name = String::from_utf8_lossy(channel);
                let is_lost = |place: &Place| matches!(&place.seat, Some(Seat::Ear(at)) if at == address);
                self.lose(|known, place| known == name && is_lost(place));
            }
        }
    }

    fn joined(&self, address: &Address, name: &str) {
        let owner = self.address_of_owner(name);
        let before = {
            let mut places = lock(&self.shards.places);
            // A late confirmation: of a channel that was left, or of a node that it has moved away from.
            match places.get_mut(name) {
                Some(place)
                    if !owner.as_ref().is_some_and(|owner| owner != address && place.is_at(owner)) =>
                {
                    Some(place.sit(Seat::Ear(address.clone())))
                }
                _ => None,
            }
        };
        match before {
            Some((before, missed)) => {
                if missed {
                    self.shards.registry.gap(name);
                }
                if let Some(Seat::Ear(old)) = before
                    && old != *address
                {
                    self.leave(&old, name);
                }
            }
            None => self.leave(address, name),
        }
    }

    /// The ear at an address hears nothing any more.
    pub(super) fn deafened(&self, address: &Address) {
        self.lose(|_, place| place.is_at(address));
    }

    /// Takes channels from where they were heard to where they belong.
    fn lose(&self, is_lost: impl Fn(&str, &Place) -> bool) {
        let mut lost = Vec::new();
        for (name, place) in lock(&self.shards.places).iter_mut() {
            if is_lost(name, place) {
                place.seat = None;
                place.outcome.send_replace(Outcome::Pending);
                lost.push(name.clone());
            }
        }
        lost.iter().for_each(|name| self.settle(name));
    }

    /// There is a new table.
    pub(super) fn review_shards(&self) {
        lock(&self.shards.refusing).clear();
        let masters: Vec<_> =
            self.state().masters.iter().map(|node| node.config().endpoint.clone()).collect();
        let gone: Vec<_> = lock(&self.shards.ears)
            .extract_if(|address, _| !masters.contains(&Endpoint::Tcp(address.clone())))
            .collect();
        for (address, ear) in gone {
            ear.close_now();
            self.deafened(&address);
        }
        let names: Vec<_> = lock(&self.shards.places).keys().cloned().collect();
        let strays = names.into_iter().filter(|name| {
            let owner = self.address_of_owner(name);
            owner.is_some_and(|owner| {
                lock(&self.shards.places).get(name).is_some_and(|place| !place.is_at(&owner))
            })
        });
        strays.for_each(|name| self.settle(&name));
    }

    /// Takes a channel to the node of its slot, unless that is being done.
    fn settle(&self, name: &str) {
        let is_moving = |place: &mut Place| std::mem::replace(&mut place.moving, true);
        if !lock(&self.shards.places).get_mut(name).is_none_or(is_moving) {
            let (own, name) = (Weak::clone(&self.own), name.to_owned());
            let _ = io_thread::spawn(travel(own, name));
        }
    }
}
