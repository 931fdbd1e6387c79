//! The index of a saga in a cluster, where it may lie in another slot than the state. It is made, or prolonged, before
//! the state is written, and taken away or shortened after: so it leads to every state that is there, and may lead to
//! one that is not, which readers find out. The rule for several who change one index is in `lua/claim_index.lua`.

use std::time::Duration;

use tokio::time::sleep;

use super::redis::RedisSagas;
use super::{Expect, Write};
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::SagaKeys;
use crate::script::{OnLostReply, Script};
use crate::time::Millis;

static CLAIM: Script = Script::new(include_str!("lua/claim_index.lua"));
static SETTLE: Script = Script::new(include_str!("lua/settle_index.lua"));

/// Who changes an index is remembered for at least so long, and longer than any call takes.
const LEASE: Duration = Duration::from_secs(10);
/// Between two looks at an index that somebody else is changing.
const PAUSE: Duration = Duration::from_millis(10);

/// A change of an index that belongs to a write of its state.
pub(super) struct IndexChange<'change> {
    call: Call<'change>,
    index: &'change str,
    writers: String,
    id: String,
    correlation_id: &'change str,
}

/// What became of a claim.
#[derive(Debug, PartialEq)]
pub(super) enum Claim {
    /// The saga id belongs to this other correlation id.
    Indexed(Vec<u8>),
    /// There is no index, and none was to be made.
    Absent,
    /// It leads to the state.
    Claimed {
        /// Milliseconds that it had left, -1 without an end, -2 if it was made.
        left: i64,
        /// Whether it has to be settled.
        joined: bool,
    },
}

impl<'change> IndexChange<'change> {
    pub(super) fn new(
        call: Call<'change>,
        keys: &SagaKeys,
        index: &'change str,
        correlation_id: &'change str,
    ) -> Self {
        let id = format!("{:032x}", rand::random::<u128>());
        Self { call, index, writers: keys.index_writers(index), id, correlation_id }
    }

    /// Before a state with this time to live is written. `make` if it may be a new one; `outdated` as in the script.
    pub(super) async fn claim(&self, ttl: Option<Millis>, make: bool, outdated: &str) -> Result<Claim> {
        loop {
            let mut words = self.ask(ttl, if make { "make" } else { "find" }, outdated).await?.into_iter();
            let outcome = words.next().map(Reply::into_bytes).transpose()?.flatten().unwrap_or_default();
            let mut next = || words.next().unwrap_or(Reply::Nil);
            return Ok(match outcome.as_slice() {
                b"indexed" => Claim::Indexed(next().into_bytes()?.unwrap_or_default()),
                b"claimed" => Claim::Claimed { left: next().into_int()?, joined: next().into_int()? == 1 },
                b"absent" => Claim::Absent,
                _ if self.call.has_time_left() => {
                    sleep(PAUSE).await;
                    continue;
                }
                _ => {
                    let text = "somebody else is changing the index of this saga; nothing was written";
                    return Err(Error::new(ErrorKind::ServerNotReady, text).about(self.index));
                }
            });
        }
    }

    /// Before a state is deleted.
    pub(super) async fn announce(&self) -> Result<()> {
        self.ask(None, "delete", "").await.map(drop)
    }

    async fn ask(&self, ttl: Option<Millis>, what: &str, outdated: &str) -> Result<Vec<Reply>> {
        let lease = LEASE.max(2 * self.call.client().config().call_timeout()).as_millis().to_string();
        let ttl = ttl.map_or(0, Millis::get).to_string();
        let words = [&self.id, self.correlation_id, &ttl, what, outdated, &lease];
        let keys = [self.index, self.writers.as_str()];
        // Claiming twice is claiming once, whoever else claims in between.
        let reply = CLAIM.run(self.call, OnLostReply::Repeat, &keys, &words.map(str::as_bytes)).await;
        reply.and_then(Reply::into_list).map_err(|error| error.about(self.index))
    }

    /// After a state was written (`true`), or was not.
    pub(super) async fn settle(&self, claim: &Claim, written: bool, ttl: Option<Millis>) {
        let Claim::Claimed { left, joined: true } = *claim else { return };
        let shorter = ttl.map(|ttl| ttl.get() as i64).filter(|ttl| left == -1 || left > *ttl);
        let rest = match (written, left) {
            (true, _) => shorter.map_or("keep".to_owned(), |ttl| ttl.to_string()),
            (false, -2) => "drop".to_owned(),
            (false, -1) => "keep".to_owned(),
            (false, left) => left.to_string(),
        };
        self.finish(&rest).await;
    }

    /// After a state was written whose index was missing.
    pub(super) async fn follow(&self, ttl: Option<Millis>, outdated: &str) {
        if let Ok(claim) = self.claim(ttl, true, outdated).await {
            self.settle(&claim, true, ttl).await;
        }
    }

    /// After a state was deleted. `false` if the index stays, since somebody else may need it.
    pub(super) async fn drop_index(&self) -> bool {
        self.finish("drop").await
    }

    /// After a state was not deleted.
    pub(super) async fn keep_index(&self) {
        self.finish("keep").await;
    }

    /// What is left undone stays behind as an index that leads nowhere, or that lives longer than its state. The state
    /// has been written by now, so that is no error of the call.
    async fn finish(&self, rest: &str) -> bool {
        let arguments = [self.id.as_bytes(), self.correlation_id.as_bytes(), rest.as_bytes()];
        let keys = [self.index, self.writers.as_str()];
        SETTLE.run(self.call, OnLostReply::Repeat, &keys, &arguments).await == Ok(Reply::Int(1))
    }
}

impl RedisSagas {
    /// One attempt of a write in three steps: index, state, index.
    pub(super) async fn attempt_in_steps(
        &self,
        call: Call<'_>,
        write: &Write,
        correlation_id: &str,
        outdated: &str,
        [state, index]: [&str; 2],
    ) -> Result<Vec<Reply>> {
        let change = IndexChange::new(call, &self.keys, index, correlation_id);
        loop {
            let stored = match write.expect {
                Expect::Version(_) => true,
                Expect::Absent | Expect::AbsentOrVersion(_) => self.exists(call, state).await?,
            };
            let (expect, claims) = match write.expect {
                Expect::Absent => ("absent", !stored),
                Expect::Version(_) => ("version", true),
                Expect::AbsentOrVersion(_) => (if stored { "present" } else { "either" }, true),
            };
            let claim = match claims {
                true => change.claim(write.ttl, !stored, outdated).await?,
                false => Claim::Absent,
            };
            if let Claim::Indexed(id) = claim {
                return Ok(vec![Reply::text("indexed"), Reply::Bytes(id)]);
            }
            let reply = self.write_state(call, write, correlation_id, outdated, &[state], expect).await;
            let outcome = match &reply {
                Ok(reply) => reply.first().cloned().map(Reply::into_bytes).transpose()?.flatten(),
                Err(error) if error.kind() == ErrorKind::OutcomeUnknown => return reply,
                Err(_) => None,
            };
            match outcome.as_deref() {
                Some(b"updated" | b"inserted") if claim == Claim::Absent && claims => {
                    change.follow(write.ttl, outdated).await;
                }
                Some(b"updated" | b"inserted") => change.settle(&claim, true, write.ttl).await,
                Some(b"opaque") => change.keep_index().await,
                _ => change.settle(&claim, false, write.ttl).await,
            }
            // Deleted since we looked.
            if expect == "present" && outcome.as_deref() == Some(b"missing") && call.has_time_left() {
                continue;
            }
            return reply;
        }
    }

    /// Takes away an index that leads to no state: what a deletion left behind that broke off.
    pub(super) async fn drop_dangling(
        &self,
        call: Call<'_>,
        state: &str,
        index: &str,
        correlation_id: &str,
    ) -> Result<()> {
        if self.client.reaches_at_once([state, index]) {
            return Ok(());
        }
        let change = IndexChange::new(call, &self.keys, index, correlation_id);
        change.announce().await?;
        // Nobody can have claimed it since without being noticed.
        match self.exists(call, state).await? {
            true => change.keep_index().await,
            false => drop(change.drop_index().await),
        }
        Ok(())
    }
}
