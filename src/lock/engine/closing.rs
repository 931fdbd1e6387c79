//! How everything ends that one owner holds, waits for, or is just being granted.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::{Held, Keeper, Locks};
use crate::lock::hold::Ask;

/// How long closing waits for the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Locks {
    /// Frees everything that is held or on its way, and ends every wait. Idempotent; nothing is acquired afterwards.
    pub async fn close(self: &Arc<Self>) {
        self.closing.send_replace(true);
        let held = std::mem::take(&mut *self.held());
        let now = (self.now)();
        let mut release = Vec::new();
        let mut ended = Vec::new();
        for (token, held) in held {
            if !held.is_over(now) {
                self.measure(&held);
            }
            match held.keeper {
                Keeper::Until(moment) if moment <= now => {}
                Keeper::Until(_) => release.push((held.key.clone(), token)),
                Keeper::Task(keeper, _) => {
                    drop(keeper.upgrade().map(|keeper| keeper.send(Ask::Close)));
                    release.push((held.key.clone(), token));
                }
            }
            if held.listed {
                ended.push((held.key, held.fence));
            }
        }
        let list = async {
            if !ended.is_empty() {
                drop(self.store.list_changes(&[], &ended).await);
            }
        };
        // What cannot be freed expires.
        let freeing = async { tokio::join!(self.free_all(&release), list, self.underway.until_none()) };
        let _ = timeout(CLOSE_TIMEOUT, freeing).await;
    }

    /// Whether [`Locks::close`] was called.
    pub fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when [`Locks::close`] is called.
    pub async fn until_closing(&self) {
        // An error would mean that the sender is gone, and with it these locks.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Frees, in the background, what was granted while everything was being closed.
    pub(super) fn free_too_late(self: &Arc<Self>, token: &str, Held { key, keeper, .. }: Held) {
        let valid_until = match keeper {
            Keeper::Until(moment) => moment,
            Keeper::Task(keeper, valid_until) => {
                drop(keeper.upgrade().map(|keeper| keeper.send(Ask::Close)));
                valid_until.load(Ordering::Acquire)
            }
        };
        self.free_later(&key, token, valid_until);
    }
}
