//! The state of a connection, and those who want to know when it changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The first connection is being established.
    Connecting,
    /// Commands are sent.
    Ready,
    /// The connection was lost or refused; commands wait while it is redialled.
    Reconnecting,
    /// Closed by its owner.
    Closed,
}

impl Status {
    /// The word that JavaScript sees.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Ready => "ready",
            Self::Reconnecting => "reconnecting",
            Self::Closed => "closed",
        }
    }
}

/// Called with every new status and, where one is known, the reason.
pub type Watcher = Box<dyn Fn(Status, Option<&Error>) + Send>;

/// The current status and its watchers.
pub struct StatusBoard {
    state: Mutex<State>,
    resp3: AtomicBool,
    generation: AtomicU64,
}

struct State {
    status: Status,
    next_watcher: u64,
    watchers: Vec<(u64, Watcher)>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self {
            state: Mutex::new(State { status: Status::Connecting, next_watcher: 0, watchers: Vec::new() }),
            resp3: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        }
    }
}

impl StatusBoard {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current status.
    pub fn get(&self) -> Status {
        self.state().status
    }

    /// Whether the last connection spoke RESP3.
    pub fn speaks_resp3(&self) -> bool {
        self.resp3.load(Ordering::Acquire)
    }

    /// Which connection this is, or the last one was, counted from 1; 0 before the first.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A connection is up.
    pub fn connected(&self, resp3: bool) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.resp3.store(resp3, Ordering::Release);
        self.set(Status::Ready, None);
    }

    /// Changes the status and tells the watchers, unless it is the same.
    pub fn set(&self, status: Status, reason: Option<Error>) {
        let mut state = self.state();
        if state.status != status && state.status != Status::Closed {
            state.status = status;
            for (_, watcher) in &state.watchers {
                watcher(status, reason.as_ref());
            }
        }
    }

    /// Adds a watcher; the number removes it. If the first attempt to connect is over already, the watcher is told
    /// at once what came of it.
    pub fn watch(&self, watcher: Watcher) -> u64 {
        let mut state = self.state();
        if state.status != Status::Connecting {
            watcher(state.status, None);
        }
        let id = state.next_watcher;
        state.next_watcher += 1;
        state.watchers.push((id, watcher));
        id
    }

    /// Removes a watcher.
    pub fn unwatch(&self, id: u64) {
        self.state().watchers.retain(|(known, _)| *known != id);
    }
}
