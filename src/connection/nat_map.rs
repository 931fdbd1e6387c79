//! Where the addresses that servers name are reached from here: as a table says, or as a function of the program does.
//!
//! The function is JavaScript's. It is asked when something is discovered (a table of slots, a master), once for all
//! addresses of a discovery, and its answers are kept: everything else looks them up. So an answer that changes takes
//! effect with the next discovery, as with ioredis, and while the event loop is blocked the last answers hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::timeout;

use super::config::Address;
use super::node::lock;
use crate::error::{Error, ErrorKind, Result};

/// How long a new answer is waited for where earlier ones will do.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same where there is none yet, and somebody waits for the address.
const FIRST_ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// So many addresses are asked about at once; a cluster has at most this many nodes by recommendation.
const MAX_ASKED: usize = 1000;
/// So many answers are kept, and so many may be awaited: nodes come and go, and with them their addresses.
const MAX_KNOWN: usize = 10 * MAX_ASKED;

/// Where the addresses that servers name are reached from here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "BTreeMap<String, Address>")]
pub enum NatMap {
    /// By address (`host:port`). What is not in it stays as it is.
    Table(BTreeMap<String, Address>),
    /// By a function of the program.
    Mapper(Arc<Mapper>),
}

impl From<BTreeMap<String, Address>> for NatMap {
    fn from(table: BTreeMap<String, Address>) -> Self {
        Self::Table(table)
    }
}

impl NatMap {
    /// Whether somebody has to be asked, who may be busy when an address is needed.
    pub fn is_function(&self) -> bool {
        matches!(self, Self::Mapper(_))
    }

    /// Where an address is reached, as far as is known in this moment.
    pub fn reached(&self, address: Address) -> Result<Address> {
        match self {
            Self::Table(table) => Ok(table.get(&name(&address)).cloned().unwrap_or(address)),
            Self::Mapper(mapper) => mapper.reached(address),
        }
    }

    /// Asks where an address is reached, for the next time that somebody wants to know.
    pub fn ask(&self, address: &Address) {
        if let Self::Mapper(mapper) = self {
            mapper.ask([name(address)]);
        }
    }

    /// Has the answers for these addresses brought up to date. `false` if that takes too long, and those who can do
    /// without are not to wait for it. Where nothing is known of any of them there is nothing to do without it.
    pub async fn learn<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Mapper(mapper) => mapper.learn(addresses.into_iter().map(name).collect()).await,
        }
    }

    /// Where an address is reached, asked anew, for somebody who waits for it.
    pub async fn locate(&self, address: Address) -> Result<Address> {
        // Whether it was answered or not, the best that is known is what there is.
        let _ = timeout(FIRST_ANSWER_WITHIN, self.learn([&address])).await;
        self.reached(address)
    }

    /// Resolves when all that was asked is answered.
    pub async fn answered(&self) {
        if let Self::Mapper(mapper) = self {
            mapper.until(|known| known.asked.is_empty()).await;
        }
    }
}

fn name(address: &Address) -> String {
    format!("{}:{}", address.host, address.port)
}

/// What the function says of an address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Answer {
    /// It is reached where it is.
    Itself(()),
    /// It is reached elsewhere.
    At(Address),
    /// The function failed, in these words.
    Failed(String),
}

/// Hands addresses to the function, which answers through [`Mapper::answer`], some time or never.
type Ask = Box<dyn Fn(Vec<String>) + Send + Sync>;

/// A function of the program. Two are the same if their numbers are.
pub struct Mapper {
    id: u32,
    ask: Ask,
    unused: Box<dyn Fn() + Send + Sync>,
    known: Mutex<Known>,
    answers: watch::Sender<()>,
}

#[derive(Default)]
struct Known {
    /// What was said last. A failure is kept only where nothing better was said before.
    answers: HashMap<String, Answer>,
    /// What is being asked.
    asked: HashSet<String>,
}

impl Known {
    fn take(&mut self, said: HashMap<String, Answer>) {
        if self.answers.len() + said.len() > MAX_KNOWN {
            self.answers.clear();
        }
        for (address, answer) in said {
            self.asked.remove(&address);
            let before = self.answers.get(&address);
            if !matches!((before, &answer), (Some(Answer::Itself(()) | Answer::At(_)), Answer::Failed(_))) {
                self.answers.insert(address, answer);
            }
        }
    }

    fn has(&self, address: &str) -> bool {
        matches!(self.answers.get(address), Some(Answer::Itself(()) | Answer::At(_)))
    }
}

impl Mapper {
    /// A function with a number that no other has in this process. `ask` hands it addresses, `unused` tells that no
    /// connection will ask any more.
    pub fn new(id: u32, ask: Ask, unused: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { id, ask, unused, known: Mutex::default(), answers: watch::Sender::new(()) }
    }

    /// Takes what the function says: by address, `null`, `{ host, port }`, or a text that says how it failed.
    pub fn answer(&self, json: &str) -> Result<()> {
        let said = serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("answers of natMap: {error}")))?;
        lock(&self.known).take(said);
        self.answers.send_replace(());
        Ok(())
    }

    fn reached(&self, address: Address) -> Result<Address> {
        let answer = lock(&self.known).answers.get(&name(&address)).cloned();
        let why = match answer {
            Some(Answer::Itself(())) => return Ok(address),
            Some(Answer::At(there)) => return Ok(there),
            Some(Answer::Failed(how)) => how,
            None => "it has not answered yet, the event loop may be busy".to_owned(),
        };
        let text = format!("the function natMap does not say where {address} is reached: {why}");
        Err(Error::new(ErrorKind::Unavailable, text))
    }

    async fn learn(&self, mut addresses: Vec<String>) -> bool {
        addresses.sort_unstable();
        addresses.dedup();
        addresses.truncate(MAX_ASKED);
        self.ask(addresses.iter().cloned());
        let answered = self.until(|known| !addresses.iter().any(|address| known.asked.contains(address)));
        let will_do = {
            let known = lock(&self.known);
            addresses.iter().any(|address| known.has(address))
        };
        if will_do {
            return timeout(PATIENCE, answered).await.is_ok();
        }
        answered.await;
        true
    }

    /// Asks about addresses, except those that are being asked about: their answer will be as new.
    fn ask(&self, addresses: impl IntoIterator<Item = String>) {
        let new: Vec<_> = {
            let asked = &mut lock(&self.known).asked;
            let mut is_new = |address: &String| asked.len() < MAX_KNOWN && asked.insert(address.clone());
            addresses.into_iter().filter(|address| is_new(address)).collect()
        };
        if !new.is_empty() {
            (self.ask)(new);
        }
    }

    async fn until(&self, condition: impl Fn(&Known) -> bool) {
        let mut answers = self.answers.subscribe();
        while !condition(&lock(&self.known)) {
            // An error would mean that the sender is gone, and with it the mapper.
            let _ = answers.changed().await;
        }
    }
}

impl Drop for Mapper {
    fn drop(&mut self) {
        (self.unused)();
    }
}

impl PartialEq for Mapper {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Mapper {}

impl Hash for Mapper {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Mapper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Mapper({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    type Questions = Arc<Mutex<Vec<Vec<String>>>>;

    /// A map by a function, and what it is asked.
    fn mapper(id: u32) -> (NatMap, Arc<Mapper>, Questions) {
        let questions = Questions::default();
        let asked = Arc::clone(&questions);
        let mapper = Arc::new(Mapper::new(
            id,
            Box::new(move |addresses| lock(&asked).push(addresses)),
            Box::new(|| ()),
        ));
        (NatMap::Mapper(Arc::clone(&mapper)), mapper, questions)
    }

    #[tokio::test(start_paused = true)]
    async fn a_discovery_asks_once_for_all_and_waits_for_first_answers() {
        let (map, mapper, questions) = mapper(1);
        let begin = Instant::now();
        let answers = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            mapper.answer(r#"{"a:1":{"host":"b","port":2},"::1:2":null,"c:3":"it threw"}"#).unwrap();
        };
        let addresses = [at("c", 3), at("a", 1), at("::1", 2), at("a", 1)];
        let (in_time, ()) = tokio::join!(map.learn(&addresses), answers);
        assert!(in_time && begin.elapsed() == Duration::from_secs(60));
        assert_eq!(*lock(&questions), [["::1:2", "a:1", "c:3"]]);
        assert_eq!(map.reached(at("a", 1)).unwrap(), at("b", 2));
        assert_eq!(map.reached(at("::1", 2)).unwrap(), at("::1", 2));
        let error = map.reached(at("c", 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().ends_with("c:3 is reached: it threw"), "{}", error.message());
    }

    #[tokio::test(start_paused = true)]
    async fn earlier_answers_will_do_while_the_function_says_nothing() {
        let (map, mapper, questions) = mapper(1);
        mapper.answer(r#"{"a:1":{"host":"b","port":2}}"#).unwrap();
        let begin = Instant::now();
        assert!(!map.learn([&at("a", 1), &at("x", 1)]).await);
        assert_eq!(map.locate(at("a", 1)).await.unwrap(), at("b", 2));
        assert_eq!(begin.elapsed(), PATIENCE * 2);
        // What is being asked is not asked again.
        assert_eq!(*lock(&questions), [["a:1", "x:1"]]);
        let answered = async { mapper.answer(r#"{"a:1":{"host":"b","port":3},"x:1":null}"#).unwrap() };
        tokio::join!(map.answered(), answered);
        assert_eq!(map.reached(at("a", 1)).unwrap(), at("b", 3));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_address_is_told_in_time_that_nobody_knows_it() {
        let (map, mapper, questions) = mapper(1);
        let begin = Instant::now();
        let error = map.locate(at("a", 1)).await.unwrap_err();
        assert!(error.message().contains("not answered yet") && begin.elapsed() == FIRST_ANSWER_WITHIN);
        mapper.answer(r#"{"a:1":"it threw"}"#).unwrap();
        assert!(map.reached(at("a", 1)).is_err());
        map.ask(&at("a", 1));
        map.ask(&at("a", 1));
        assert_eq!(lock(&questions).len(), 2, "a failure is asked about again");
        mapper.answer(r#"{"a:1":null}"#).unwrap();
        mapper.answer(r#"{"a:1":"it threw"}"#).unwrap();
        assert_eq!(map.reached(at("a", 1)).unwrap(), at("a", 1), "a failure says nothing new");
        assert!(mapper.answer("nonsense").is_err());
    }

    #[test]
    fn answers_do_not_pile_up() {
        let (_, mapper, _) = mapper(1);
        for number in 0..=MAX_KNOWN {
            mapper.answer(&format!(r#"{{"h:{number}":null}}"#)).unwrap();
        }
        assert!(lock(&mapper.known).answers.len() <= MAX_KNOWN);
        mapper.ask((0..=MAX_KNOWN).map(|number| format!("h:{number}")));
        assert_eq!(lock(&mapper.known).asked.len(), MAX_KNOWN);
    }

    #[tokio::test]
    async fn maps_are_the_same_by_their_entries_or_by_the_number_of_the_function() {
        let table = |port| NatMap::from(BTreeMap::from([("a:1".to_owned(), at("b", port))]));
        assert!(table(1) == table(1) && table(1) != table(2));
        let ((one, ..), (same, ..), (other, ..)) = (mapper(1), mapper(1), mapper(2));
        assert!(one == same && one != other && one != NatMap::Table(BTreeMap::new()));
        assert!(table(2).learn([&at("a", 1)]).await);
        table(2).answered().await;
        assert_eq!(table(2).locate(at("a", 1)).await.unwrap(), at("b", 2));
        assert_eq!(table(2).reached(at("a", 2)).unwrap(), at("a", 2));
    }

    #[test]
    fn the_end_of_the_last_connection_is_told() {
        let told = Arc::new(Mutex::new(0));
        let tell = Arc::clone(&told);
        let mapper = Arc::new(Mapper::new(1, Box::new(|_| ()), Box::new(move || *lock(&tell) += 1)));
        let map = NatMap::Mapper(mapper);
        drop(map.clone());
        assert_eq!(*lock(&told), 0);
        drop(map);
        assert_eq!(*lock(&told), 1);
    }
}
