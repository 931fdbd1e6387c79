use std::sync::LazyLock;

use async_trait::async_trait;
use tokio::time::Instant;

use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::lock::machine::Caps;
use crate::lock::memory::MemoryLocks;
use crate::lock::{Attempt, Extent, Inspection, LockStore, Ownership, Page, Release};
use crate::memory::Engine;
use crate::time::Millis;

/// A store whose user may not subscribe, or whose subscriptions never come about.
struct Deaf {
    locks: MemoryLocks,
    refuses: bool,
    /// Whether it never says what became of an attempt.
    silent: bool,
}

impl Deaf {
    fn new() -> Self {
        let keys = LockKeys::new("", "l:").unwrap();
        Self { locks: MemoryLocks::new(Engine::new(), keys), refuses: true, silent: false }
    }
}

#[async_trait]
impl LockStore for Deaf {
    async fn watch(&self, _key: &str) -> Result<Box<dyn ReleaseWatch>> {
        if !self.refuses {
            std::future::pending::<()>().await;
        }
        Err(Error::new(ErrorKind::NoPermission, "not allowed"))
    }

    async fn try_acquire(&self, claim: &Claim) -> Result<Attempt> {
        let attempt = self.locks.try_acquire(claim).await;
        if self.silent {
            std::future::pending::<()>().await;
        }
        attempt
    }
    async fn release(&self, key: &str, token: &str) -> Result<Release> {
        self.locks.release(key, token).await
    }
    async fn withdraw(&self, key: &str, claim: &str) -> Result<()> {
        if self.silent {
            sleep(Duration::from_millis(30)).await;
        }
        self.locks.withdraw(key, claim).await
    }
    async fn extend(&self, key: &str, token: &str, ttl: Millis, extent: Extent) -> Result<Ownership> {
        self.locks.extend(key, token, ttl, extent).await
    }
    async fn is_locked(&self, key: &str) -> Result<bool> {
        self.locks.is_locked(key).await
    }
    async fn inspect(&self, key: &str) -> Result<Inspection> {
        self.locks.inspect(key).await
    }
    async fn force_release(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.locks.force_release(key).await
    }
    async fn list_changes(&self, held: &[(String, u64)], ended: &[(String, u64)]) -> Result<()> {
        self.locks.list_changes(held, ended).await
    }
    async fn list(&self, after: u64, limit: usize) -> Result<Page> {
        self.locks.list(after, limit).await
    }
}

/// Time on tokio's clock, which a test pauses.
fn paused_millis() -> u64 {
    thread_local! {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    }
    START.with(|start| start.elapsed().as_millis() as u64) + 1
}

fn request(locks: &Arc<Locks>, wait: u64) -> Request {
    Request {
        key: "k".into(),
        terms: Terms {
            ttl: Millis::new(600_000),
            wait: Millis::new(wait),
            poll: Millis::new(100),
            fair: false,
            caps: Caps::default(),
        },
        signature: locks.signature("", Caps::default()),
        replicas: None,
    }
}

async fn token_of(locks: &Arc<Locks>, wait: u64) -> Option<String> {
    let given_up = std::future::pending();
    match acquire(locks, request(locks, wait), given_up).await.outcome {
        Outcome::Granted { token, .. } => Some(token),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_polls_without_a_subscription() {
    for refuses in [true, false] {
        let store = Arc::new(Deaf { refuses, ..Deaf::new() });
        let locks = Locks::with_clock(store, "host".into(), true, paused_millis);
        let token = token_of(&locks, 0).await.unwrap();
        let began = Instant::now();
        let release = async {
            sleep(Duration::from_millis(1_030)).await;
            locks.free("k", &token).await.unwrap();
        };
        // Two of them: the second is told by the first.
        let (first, second, ()) = tokio::join!(token_of(&locks, 60_000), token_of(&locks, 2_000), release);
        assert!(first.is_some() && second.is_none());
        assert_eq!(began.elapsed().as_millis().div_ceil(10), 200, "the second waits as long as it may");
        locks.free("k", &first.unwrap()).await.unwrap();
        assert_eq!(locks.rooms.0.lock().unwrap().len(), 0, "nobody waits any more");
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_finds_what_was_released_within_its_time() {
    let store = Arc::new(Deaf::new());
    let locks = Locks::with_clock(store, "host".into(), true, paused_millis);
    let token = token_of(&locks, 0).await.unwrap();
    let began = Instant::now();
    let release = async {
        sleep(Duration::from_millis(1_030)).await;
        locks.free("k", &token).await.unwrap();
    };
    let (waiter, ()) = tokio::join!(token_of(&locks, 60_000), release);
    assert!(waiter.is_some());
    assert!(began.elapsed() <= Duration::from_millis(1_140), "{:?}", began.elapsed());
}

#[tokio::test]
async fn closing_waits_until_nothing_is_left_of_an_attempt() {
    let store = Arc::new(Deaf { silent: true, ..Deaf::new() });
    let locks = Locks::new(Arc::clone(&store) as Arc<dyn LockStore>, "host".into(), true);
    let acquisition = acquire(&locks, request(&locks, 60_000), locks.until_closing());
    let closing = async {
        assert!(store.is_locked("k").await.unwrap());
        locks.close().await;
        assert!(!store.is_locked("k").await.unwrap());
    };
    let (acquisition, ()) = tokio::join!(acquisition, closing);
    assert_eq!(acquisition.outcome, Outcome::Abandoned);
}
