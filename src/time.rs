//! Time: checked milliseconds, and a clock that goes on while the machine is suspended.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};

/// A duration in whole milliseconds that Redis accepts (`PX`, `PEXPIRE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(u64);

impl Millis {
    /// The longest duration accepted anywhere: a hundred years.
    pub const MAX: Self = Self(100 * 366 * 24 * 60 * 60 * 1000);

    /// Checks a number that came from JavaScript: a whole number of milliseconds from 1 to a hundred years.
    pub fn positive(name: &str, value: f64) -> Result<Self> {
        let millis = Self::zero_or_more(name, value)?;
        if millis.0 == 0 {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("{name} must be at least 1 millisecond"),
            ));
        }
        Ok(millis)
    }

    /// Like [`Millis::positive`], but zero is allowed.
    pub fn zero_or_more(name: &str, value: f64) -> Result<Self> {
        if !(value.is_finite() && value.fract() == 0.0 && (0.0..=Self::MAX.0 as f64).contains(&value)) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!(
                    "{name} must be a whole number of milliseconds from 0 to {}, not {value}",
                    Self::MAX.0
                ),
            ));
        }
        Ok(Self(value as u64))
    }

    /// A constant number of milliseconds.
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// The number itself.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Self {
        Self::from_millis(millis.0)
    }
}

/// Microseconds since 1970, by the wall clock of this machine: for where the server's cannot be had.
pub fn unix_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// Milliseconds since the machine started. Unlike `std::time::Instant` on Linux, the time that the machine was
/// suspended counts, as it does for a TTL on the server; unlike the wall clock, nobody can set it back.
pub fn since_boot() -> Millis {
    Millis(platform_since_boot().as_millis() as u64)
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn platform_since_boot() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    #[cfg(target_os = "linux")]
    let now = clock_gettime(ClockId::Boottime);
    // Counts sleep on Apple's systems, where `Instant` does not.
    #[cfg(not(target_os = "linux"))]
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// `Instant` counts suspend on Windows.
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn platform_since_boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed() + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_javascript_are_checked() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1.5, 1e18] {
            assert!(Millis::zero_or_more("ttl", bad).is_err(), "{bad}");
        }
        assert!(Millis::positive("ttl", 0.0).is_err());
        assert_eq!(Millis::positive("ttl", 30_000.0).unwrap().get(), 30_000);
    }

    #[test]
    fn the_clock_moves_forward() {
        let before = since_boot();
        std::thread::sleep(Duration::from_millis(5));
        assert!(since_boot() > before);
    }
}
