//! What may still come to hold a lock, or to free one: closing waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts what is under way.
#[derive(Default)]
pub(super) struct Tally(Arc<Inner>);

#[derive(Default)]
struct Inner {
    count: AtomicUsize,
    none: Notify,
}

/// One that is counted, until it is dropped.
pub(super) struct Underway(Arc<Inner>);

impl Tally {
    /// Counts one more.
    pub(super) fn begin(&self) -> Underway {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        Underway(Arc::clone(&self.0))
    }

    /// Waits until there is none.
    pub(super) async fn until_none(&self) {
        loop {
            let none = self.0.none.notified();
            if self.0.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none.await;
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}
