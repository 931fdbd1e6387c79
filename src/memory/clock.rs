//! What time it is for an engine.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::{Millis, since_boot};

/// The clock of one engine.
#[derive(Clone)]
pub(super) enum Clock {
    /// The machine's clocks.
    Real,
    /// A test's clock, for both questions.
    Simulated(Arc<dyn Fn() -> Millis + Send + Sync>),
}

impl Clock {
    /// The time that deadlines are counted in. Nobody can set it back.
    pub(super) fn now(&self) -> Millis {
        match self {
            Self::Real => since_boot(),
            Self::Simulated(clock) => clock(),
        }
    }

    /// The time since 1970, for commands that take or give a date.
    pub(super) fn unix(&self) -> Duration {
        match self {
            Self::Real => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
            Self::Simulated(clock) => clock().into(),
        }
    }
}
