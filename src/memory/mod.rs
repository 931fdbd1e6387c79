//! The embedded engine behind `memory://`: typed entries with expiry, and notifications, in this process alone.
//!
//! # Layout
//!
//! - [`Engine`]: what a user of the engine holds; one mutex around the data, never held across an `await`.
//! - [`Database`]: the data, as seen by one atomic section.
//! - [`Subscription`]: a listener to one channel.
//! - `entry`, `sorted_set`: what a key holds. `clock`: what time it is. `glob`: the patterns of `KEYS` and `SCAN`.
//! - `command`: the Redis commands that [`Engine::command`] understands, as a table.

mod clock;
mod command;
mod database;
mod entry;
mod glob;
mod sorted_set;
mod subscription;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::connection::reply::Reply;
use crate::error::Result;
use crate::time::Millis;

use clock::Clock;
pub use database::Database;
pub use entry::{Hash, Set};
pub use sorted_set::SortedSet;
use subscription::Channels;
pub use subscription::Subscription;

/// Engines by name. They stay, as a server would: what a closed connection wrote is there for the next one, and
/// not only until some garbage collection.
static NAMED: Mutex<BTreeMap<String, Arc<Engine>>> = Mutex::new(BTreeMap::new());

/// A database in this process, with the semantics of a Redis server as far as ferroflow needs them.
pub struct Engine {
    clock: Clock,
    database: Mutex<Database>,
    channels: Arc<Channels>,
}

impl Engine {
    /// The engine of this name, shared by everyone in the process who asks for it. Its data lives as long as the
    /// process.
    pub fn named(name: &str) -> Arc<Self> {
        Arc::clone(lock(&NAMED).entry(name.to_owned()).or_insert_with(Self::new))
    }

    /// An engine of its own, on the real clock.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::build(Clock::Real))
    }

    /// An engine of its own on a simulated clock, which also stands in for the wall clock. `clock` is called
    /// under the engine's mutex and must not call the engine.
    pub fn with_clock(clock: Arc<dyn Fn() -> Millis + Send + Sync>) -> Arc<Self> {
        Arc::new(Self::build(Clock::Simulated(clock)))
    }

    fn build(clock: Clock) -> Self {
        let database = Mutex::new(Database::new(clock.clone()));
        Self { clock, database, channels: Arc::default() }
    }

    /// Runs `work` with the whole database: the embedded equivalent of one script on a server. Nobody else sees
    /// or changes anything meanwhile, and time stands still. If `work` panics, what it changed so far stays, and
    /// the engine goes on working for others.
    ///
    /// `work` must be short, and must not call `atomically` or `command` of the same engine: they would wait for
    /// each other.
    pub fn atomically<T>(&self, work: impl FnOnce(&mut Database) -> T) -> T {
        let mut section = Section::begin(lock(&self.database));
        work(&mut section.0)
    }

    /// Sends a message to everyone who listens to `channel` now, and says how many they are.
    pub fn publish(&self, channel: impl AsRef<[u8]>, message: &[u8]) -> usize {
        self.channels.publish(channel.as_ref(), message)
    }

    /// How many listen to `channel` now.
    pub fn listeners(&self, channel: impl AsRef<[u8]>) -> usize {
        self.channels.listeners(channel.as_ref())
    }

    /// Listens to `channel`: every message published after this call arrives, in the order of publishing, until
    /// the subscription is dropped. It does not keep the engine alive, but ends with it.
    pub fn subscribe(&self, channel: impl AsRef<[u8]>) -> Subscription {
        Subscription::new(&self.channels, channel.as_ref())
    }

    /// Runs one Redis command (the name, then its arguments) and answers as Redis 7 does, in the shape of RESP2.
    /// A command that the engine does not have fails with [`ErrorKind::Unsupported`](crate::error::ErrorKind).
    pub fn command(&self, args: &[Vec<u8>]) -> Result<Reply> {
        command::run(self, args)
    }
}

/// One atomic section. Its end is a drop, so that the database is tidied up after a panic too.
struct Section<'a>(MutexGuard<'a, Database>);

impl<'a> Section<'a> {
    fn begin(mut database: MutexGuard<'a, Database>) -> Self {
        database.begin_section();
        Self(database)
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        self.0.end_section();
    }
}

/// Locks in spite of poison: a panic can only come from the caller's closure, between two operations that each
/// leave the data whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_engine_is_shared_by_name_and_stays() {
        let first = Engine::named("shared");
        first.atomically(|db| db.set("k", b"v".to_vec(), None));
        assert!(Arc::ptr_eq(&first, &Engine::named("shared")));
        assert!(!Engine::named("another name").atomically(|db| db.exists("k")));
        drop(first);
        assert!(Engine::named("shared").atomically(|db| db.exists("k")));
    }

    #[test]
    fn atomic_sections_of_many_threads_lose_no_update() {
        let engine = Engine::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        engine.atomically(|db| {
                            let seen: u64 = match db.get("n").unwrap() {
                                Some(digits) => std::str::from_utf8(digits).unwrap().parse().unwrap(),
                                None => 0,
                            };
                            db.set("n", (seen + 1).to_string().into_bytes(), None);
                        });
                    }
                });
            }
        });
        assert_eq!(engine.atomically(|db| db.get("n").unwrap().map(<[u8]>::to_vec)), Some(b"4000".to_vec()));
    }

    #[test]
    fn a_panic_in_a_section_does_not_hurt_others() {
        let engine = Engine::new();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            engine.atomically(|db| {
                db.set("k", b"v".to_vec(), None);
                db.hash_mut("h").unwrap();
                panic!("the caller's bug");
            })
        }));
        assert!(caught.is_err());
        assert!(engine.atomically(|db| db.exists("k")));
        assert_eq!(engine.command(&[b"DBSIZE".to_vec()]).unwrap(), Reply::Int(1));
    }

    #[test]
    fn a_wrong_type_names_the_key() {
        let error = Engine::new().atomically(|db| {
            db.set("k", b"v".to_vec(), None);
            db.hash_mut("k").unwrap_err()
        });
        assert_eq!((error.kind(), error.key()), (ErrorKind::WrongType, Some("k")));
    }
}
