//! Acquiring a lock with patience.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::{Attempt, LockStore};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread;
use crate::time::{Millis, since_boot};

/// How long to wait for a lock.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// In all. Zero: one attempt.
    pub budget: Millis,
    /// The longest time between two attempts. The release of a ferroflow process wakes us at once; one by the
    /// packages that ferroflow replaces does not, and they may share the key.
    pub poll: Millis,
}

/// How much later than its TTL a lock is tried again, since the server counts whole milliseconds.
const EXPIRY_MARGIN: Duration = Duration::from_millis(1);
/// How long to wait between two attempts to free a lock that nobody knows of.
const ORPHAN_RETRY: Duration = Duration::from_millis(500);

/// Acquires the lock within the budget. `false` if somebody else held it all the time. If `closed` resolves first,
/// its error is the answer, and the lock is not kept.
pub async fn acquire(
    store: &Arc<dyn LockStore>,
    key: &str,
    token: &str,
    ttl: Millis,
    patience: Patience,
    closed: impl Future<Output = Error>,
) -> Result<bool> {
    let outcome = tokio::select! {
        biased;
        outcome = attempt_until(store, key, token, ttl, patience) => outcome,
        error = closed => Err(error),
    };
    if let Err(error) = &outcome
        && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::OutcomeUnknown | ErrorKind::Closed)
    {
        free_orphan(Arc::clone(store), key.to_owned(), token.to_owned(), ttl)?;
    }
    outcome
}

/// The lock may have been granted to nobody; its TTL must not keep everyone else out. Tried until the server says
/// one thing or the other, or the lock has expired by itself.
fn free_orphan(store: Arc<dyn LockStore>, key: String, token: String, ttl: Millis) -> Result<()> {
    io_thread::spawn(async move {
        let expired_at = Instant::now() + Duration::from(ttl);
        while Instant::now() < expired_at {
            match store.release(&key, &token).await {
                Err(error) if error.kind().retryable() => sleep(ORPHAN_RETRY).await,
                _ => return,
            }
        }
    })
}

/// One attempt. A grant that took longer to arrive than it lasts is none: somebody else may hold the lock by now.
async fn attempt(store: &Arc<dyn LockStore>, key: &str, token: &str, ttl: Millis) -> Result<Attempt> {
    let sent_at = since_boot();
    let attempt = store.try_acquire(key, token, ttl).await?;
    if attempt == Attempt::Granted && since_boot().get() - sent_at.get() >= ttl.get() {
        store.release(key, token).await?;
        return Ok(Attempt::Held { ttl_left: Some(Millis::new(0)) });
    }
    Ok(attempt)
}

async fn attempt_until(
    store: &Arc<dyn LockStore>,
    key: &str,
    token: &str,
    ttl: Millis,
    patience: Patience,
) -> Result<bool> {
    let give_up_at = Instant::now() + Duration::from(patience.budget);
    let mut ttl_left = match attempt(store, key, token, ttl).await? {
        Attempt::Granted => return Ok(true),
        Attempt::Held { ttl_left } => ttl_left,
    };
    let wake = Notify::new();
    let waiting = async {
        while Instant::now() < give_up_at {
            let mut pause = Duration::from(patience.poll).min(give_up_at - Instant::now());
            if let Some(ttl_left) = ttl_left {
                pause = pause.min(Duration::from(ttl_left) + EXPIRY_MARGIN);
            }
            drop(timeout(pause, wake.notified()).await);
            ttl_left = match attempt(store, key, token, ttl).await? {
                Attempt::Granted => return Ok(true),
                Attempt::Held { ttl_left } => ttl_left,
            };
        }
        Ok(false)
    };
    tokio::select! {
        biased;
        outcome = waiting => outcome,
        () = wake_on_release(store, key, &wake) => Ok(false),
    }
}

/// Notifies of every release, for ever. Beside the waiting and not before it: a subscription may take its time, or
/// not be allowed at all, and polling goes on.
async fn wake_on_release(store: &Arc<dyn LockStore>, key: &str, wake: &Notify) {
    if let Ok(mut watch) = store.watch(key).await {
        loop {
            // At first for a release between the attempt and the subscription.
            wake.notify_one();
            watch.released().await;
        }
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::connection::Backend;
    use crate::key::LockKeys;
    use crate::memory::Engine;

    const TTL: Millis = Millis::new(30_000);
    const PATIENCE: Patience = Patience { budget: Millis::new(5_000), poll: Millis::new(100) };

    async fn acquire(
        store: &Arc<dyn LockStore>,
        key: &str,
        token: &str,
        ttl: Millis,
        patience: Patience,
    ) -> Result<bool> {
        super::acquire(store, key, token, ttl, patience, std::future::pending()).await
    }

    fn store(engine: &Arc<Engine>) -> Arc<dyn LockStore> {
        crate::lock::open(&Backend::Memory(Arc::clone(engine)), LockKeys::new("", "l:").unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_held_lock_costs_exactly_the_budget() {
        let store = store(&Engine::new());
        assert!(acquire(&store, "k", "a", TTL, PATIENCE).await.unwrap());
        let started = Instant::now();
        assert!(!acquire(&store, "k", "b", TTL, PATIENCE).await.unwrap());
        assert_eq!(started.elapsed(), Duration::from_millis(5_000));
        let patience = Patience { budget: Millis::new(0), ..PATIENCE };
        assert!(!acquire(&store, "k", "b", TTL, patience).await.unwrap());
        assert_eq!(started.elapsed(), Duration::from_millis(5_000));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_the_wait() {
        let store = store(&Engine::new());
        assert!(acquire(&store, "k", "a", TTL, PATIENCE).await.unwrap());
        let started = Instant::now();
        let closed = async {
            sleep(Duration::from_millis(30)).await;
            Error::new(ErrorKind::Closed, "closed")
        };
        let outcome = super::acquire(&store, "k", "b", TTL, PATIENCE, closed).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(started.elapsed(), Duration::from_millis(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_wakes_the_next_at_once() {
        let store = store(&Engine::new());
        assert!(acquire(&store, "k", "a", TTL, PATIENCE).await.unwrap());
        let waiting = Arc::clone(&store);
        let next = tokio::spawn(async move {
            let acquired = acquire(&waiting, "k", "b", TTL, PATIENCE).await.unwrap();
            (acquired, Instant::now())
        });
        // Not a multiple of the poll interval.
        sleep(Duration::from_millis(250)).await;
        let released_at = Instant::now();
        assert!(store.release("k", "a").await.unwrap());
        assert_eq!(next.await.unwrap(), (true, released_at));
    }

    #[tokio::test(start_paused = true)]
    async fn a_crashed_holder_is_waited_out_by_its_ttl() {
        let time = Arc::new(Mutex::new(Instant::now()));
        let origin = Instant::now();
        let engine = Engine::with_clock(Arc::new(move || {
            let mut now = time.lock().unwrap();
            *now = Instant::now();
            Millis::new((*now - origin).as_millis() as u64)
        }));
        let store = store(&engine);
        assert!(acquire(&store, "k", "a", Millis::new(230), PATIENCE).await.unwrap());
        assert!(acquire(&store, "k", "b", TTL, PATIENCE).await.unwrap());
        assert!(origin.elapsed() <= Duration::from_millis(233), "{:?}", origin.elapsed());
    }

    #[tokio::test]
    async fn only_one_of_many_holds_it_at_a_time() {
        let store = store(&Engine::new());
        let inside = Arc::new(AtomicU32::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let (store, inside) = (Arc::clone(&store), Arc::clone(&inside));
                tokio::spawn(async move {
                    let token = number.to_string();
                    assert!(acquire(&store, "k", &token, TTL, PATIENCE).await.unwrap());
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert!(store.release("k", &token).await.unwrap());
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
}
