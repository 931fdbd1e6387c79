//! Acquiring a lock with patience.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::{Attempt, LockStore};
use crate::error::{ErrorKind, Result};
use crate::runtime::io_thread;
use crate::time::Millis;

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

/// Acquires the lock within the budget. `false` if somebody else held it all the time.
pub async fn acquire(
    store: &Arc<dyn LockStore>,
    key: &str,
    token: &str,
    ttl: Millis,
    patience: Patience,
) -> Result<bool> {
    let outcome = attempt_until(store, key, token, ttl, patience).await;
    if let Err(error) = &outcome
        && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::OutcomeUnknown)
    {
        // The lock may have been granted to nobody; its TTL must not keep everyone else out.
        let (store, key, token) = (Arc::clone(store), key.to_owned(), token.to_owned());
        io_thread::spawn(async move { drop(store.release(&key, &token).await) })?;
    }
    outcome
}

async fn attempt_until(
    store: &Arc<dyn LockStore>,
    key: &str,
    token: &str,
    ttl: Millis,
    patience: Patience,
) -> Result<bool> {
    let give_up_at = Instant::now() + Duration::from(patience.budget);
    if store.try_acquire(key, token, ttl).await? == Attempt::Granted {
        return Ok(true);
    }
    if patience.budget.get() == 0 {
        return Ok(false);
    }
    // Without the right to subscribe we can still poll.
    let mut watch = store.watch(key).await.ok();
    loop {
        // Once more, for a release between the attempt and the subscription, and after every wake-up.
        let ttl_left = match store.try_acquire(key, token, ttl).await? {
            Attempt::Granted => return Ok(true),
            Attempt::Held { ttl_left } => ttl_left,
        };
        let now = Instant::now();
        if now >= give_up_at {
            return Ok(false);
        }
        let mut pause = Duration::from(patience.poll).min(give_up_at - now);
        if let Some(ttl_left) = ttl_left {
            pause = pause.min(Duration::from(ttl_left) + EXPIRY_MARGIN);
        }
        match &mut watch {
            Some(watch) => drop(timeout(pause, watch.released()).await),
            None => sleep(pause).await,
        }
    }
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
