//! What the core has counted, and what TypeScript counts in it, so that one place has the numbers of all threads.

use std::sync::atomic::{AtomicBool, Ordering};

use napi_derive::napi;

use crate::metrics::{self, FALLBACK, FALLBACK_CLASSES, LATE_UPDATES};

/// All metrics of the process, as JSON.
#[napi]
pub fn metrics_snapshot() -> napi::Result<String> {
    serde_json::to_string(&metrics::snapshot()).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// A change of a tracked execution came after its end, and was ignored.
#[napi]
pub fn count_late_update() {
    LATE_UPDATES.add(1);
}

/// What one workstation does without Redis. A thread that ends takes it out of the numbers of what is so at the moment.
#[napi]
#[derive(Default)]
pub struct NativeFallback {
    active: AtomicBool,
}

#[napi]
impl NativeFallback {
    /// A workstation that reaches Redis.
    #[napi(constructor)]
    pub fn new() -> Self {
        FALLBACK.known.store(true, Ordering::Relaxed);
        Self::default()
    }

    /// Says whether the workstation does without Redis at the moment.
    #[napi]
    pub fn set_active(&self, active: bool) {
        let before = self.active.swap(active, Ordering::Relaxed);
        match (before, active) {
            (false, true) => drop(FALLBACK.active.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(FALLBACK.active.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }

    /// An operation of this kind was answered without Redis, or refused.
    #[napi]
    pub fn count(&self, kind: String) {
        if let Some(place) = FALLBACK_CLASSES.iter().position(|class| *class == kind) {
            FALLBACK.operations[place].add(1);
        }
    }
}

impl Drop for NativeFallback {
    fn drop(&mut self) {
        self.set_active(false);
    }
}
