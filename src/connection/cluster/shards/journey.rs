//! The way of a channel to the node of its slot.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::super::redirect::Refusal;
use super::super::{Cluster, MAX_REDIRECTIONS};
use super::{Outcome, Seat, is_refusal};
use crate::connection::command::Command;
use crate::connection::config::Address;
use crate::connection::node::lock;
use crate::connection::pubsub::Heard;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread;

/// How long a channel waits that no node takes at the moment, with a random part.
const RETRY_AFTER: Duration = Duration::from_millis(40);
/// The same where the node says that it will not.
const REFUSED_RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often it is tried again, where a channel is heard on the bus, whether the node of its slot still refuses it: nobody
/// tells of a slot that has moved to another node, or of rights that were given. With a random part.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Asks one node after the other to be heard, until one agrees.
pub(super) async fn travel(own: Weak<Cluster>, name: String) {
    let mut redirected: Option<Address> = None;
    let mut redirections = 0;
    loop {
        let Some(cluster) = own.upgrade().filter(|cluster| !cluster.is_closing()) else { return };
        if redirected.is_none() && cluster.has_arrived(&name) {
            return;
        }
        let is_hint = redirected.is_some();
        let target = redirected.take().or_else(|| cluster.address_of_owner(&name));
        let ear = target.as_ref().and_then(|target| cluster.ear_at(target));
        let (Some(target), Some(ear)) = (target, ear) else {
            pause(RETRY_AFTER).await;
            continue;
        };
        let mut outcome = ear.answer(Command::new("SSUBSCRIBE").arg(&name).repeatable()).await.map(drop);
        if matches!(&outcome, Err(error) if is_refusal(error)) {
            lock(&cluster.shards.refusing).insert(target.clone(), Instant::now());
            outcome = cluster.hear_on_bus(&name, target.clone()).await;
        }
        let Err(error) = outcome else {
            if is_hint && cluster.stays_at(&name, &target) {
                // Until the table says the same.
                return cluster.table.wish(Some(target));
            }
            continue;
        };
        match Refusal::of(&error) {
            Some(Refusal::Moved { address, .. }) => {
                let Ok(address) = cluster.named_by(&target, address) else {
                    // The node says so again, and by then that may be known.
                    cluster.table.wish(None);
                    pause(RETRY_AFTER).await;
                    continue;
                };
                cluster.table.wish(Some(address.clone()));
                redirections += 1;
                if redirections % MAX_REDIRECTIONS == 0 {
                    pause(RETRY_AFTER).await;
                } else {
                    redirected = Some(address);
                }
            }
            Some(_) => {
                cluster.table.wish(None);
                pause(RETRY_AFTER).await;
            }
            None if error.kind().retryable() || error.kind() == ErrorKind::Closed => pause(RETRY_AFTER).await,
            None if error.kind() == ErrorKind::OutcomeUnknown => pause(RETRY_AFTER).await,
            None => {
                cluster.failed(&name, error);
                pause(REFUSED_RETRY_AFTER).await;
            }
        }
    }
}

/// Tries whether a channel need not be heard on the bus any more. If so, it takes its seat there.
async fn look(own: Weak<Cluster>, name: String) {
    let Some(cluster) = own.upgrade() else { return };
    let owner = cluster.address_of_owner(&name);
    let Some(ear) = owner.and_then(|owner| cluster.ear_at(&owner)) else { return };
    let outcome = ear.answer(Command::new("SSUBSCRIBE").arg(&name).repeatable()).await;
    if outcome.as_ref().err().and_then(Refusal::of).is_some() {
        cluster.table.wish(None);
    }
}

async fn pause(length: Duration) {
    sleep(length.mul_f64(0.5 + rand::random::<f64>())).await;
}

impl Cluster {
    /// Whether the journey of a channel is over: it is where the table says, or nobody listens to it any more.
    fn has_arrived(&self, name: &str) -> bool {
        let owner = self.address_of_owner(name);
        let mut places = lock(&self.shards.places);
        let Some(place) = places.get_mut(name) else { return true };
        let arrived = owner.is_some_and(|owner| place.is_at(&owner));
        place.moving = !arrived;
        arrived
    }

    /// Ends the journey of a channel at a node that the table does not name, if it is heard there.
    fn stays_at(&self, name: &str, address: &Address) -> bool {
        let mut places = lock(&self.shards.places);
        let Some(place) = places.get_mut(name) else { return true };
        place.moving = !place.is_at(address);
        !place.moving
    }

    /// Hears a channel on the bus.
    async fn hear_on_bus(&self, name: &str, owner: Address) -> Result<()> {
        let Some(plain) = lock(&self.shards.places).get(name).map(|place| place.plain.clone()) else {
            return Ok(());
        };
        let mut subscription = self.subscribe(&plain).await?;
        let (seat, mut left) = oneshot::channel();
        let sat = lock(&self.shards.places).get_mut(name).map(|place| place.sit(Seat::Bus(owner, seat)));
        match sat {
            Some((_, true)) => self.shards.registry.gap(name),
            Some(_) => {}
            None => return Ok(()),
        }
        let (registry, own, name) =
            (Arc::clone(&self.shards.registry), Weak::clone(&self.own), name.to_owned());
        io_thread::spawn(async move {
            let mut look_again = Box::pin(pause(LOOK_AGAIN));
            loop {
                tokio::select! {
                    biased;
                    _ = &mut left => return,
                    heard = subscription.next() => match heard {
                        Some(Heard::Message(message)) => registry.message(name.as_bytes(), message),
                        Some(Heard::Gap) => registry.gap(&name),
                        None => return,
                    },
                    () = &mut look_again => {
                        look_again = Box::pin(pause(LOOK_AGAIN));
                        let _ = io_thread::spawn(look(Weak::clone(&own), name.clone()));
                    }
                }
            }
        })
    }

    fn failed(&self, name: &str, error: Error) {
        if let Some(place) = lock(&self.shards.places).get_mut(name) {
            place.outcome.send_replace(Outcome::Failed(error));
        }
    }
}
