//! When to redial a connection that was lost: full jitter, so that the clients of a restarted server do not all come
//! back at once.
//!
//! With the default first bound, 1,000 clients that lose their server in the same moment make at most 200 attempts in
//! any 100 ms, whether it is back at once or not. Later bounds grow with the time that the server has been away, not
//! with the number of attempts: a few short delays in a row must not make a short blip a long one. A server that was
//! away for up to 9 s is found again within 1.8 s.

use std::time::Duration;

use tokio::time::Instant;

/// No delay is longer, unless the least of the later bounds is.
const MAX_DELAY: Duration = Duration::from_secs(5);
const MAX_FIRST_IF_LOCATED: Duration = Duration::from_millis(600);
/// A connection that lasted this long was a success: delays start again.
const STABLE_AFTER: Duration = Duration::from_secs(1);
/// The part of the time without the server that is added to it at most.
const SHARE_OF_OUTAGE: u32 = 5;

/// The delays between attempts to reach one server.
pub struct Redial {
    /// The first delay after a loss is drawn from zero to this.
    first: Duration,
    longest: Duration,
    /// Since when the server is away, if an attempt has failed already.
    since: Option<Instant>,
}

impl Redial {
    /// Nothing was lost so far. `located` says that somebody else knows where the server is: the next attempt may well
    /// go to another, so none is put off for long.
    pub fn new(first: Duration, located: bool) -> Self {
        if located {
            let first = first.min(MAX_FIRST_IF_LOCATED);
            return Self { first, longest: first * 3 / 2, since: None };
        }
        Self { first, longest: MAX_DELAY, since: None }
    }

    /// A connection that was made at `opened` is lost.
    pub fn lost(&mut self, opened: Instant) {
        if opened.elapsed() >= STABLE_AFTER {
            self.since = None;
        }
    }

    /// How long to wait before the next attempt.
    pub fn delay(&mut self) -> Duration {
        self.bound().mul_f64(rand::random::<f64>())
    }

    fn bound(&mut self) -> Duration {
        let Some(since) = self.since else {
            self.since = Some(Instant::now());
            return self.first;
        };
        let least = self.first.saturating_mul(3) / 2;
        (since.elapsed() / SHARE_OF_OUTAGE).clamp(least, self.longest.max(least))
    }
}

/// A delay drawn evenly from zero to a base that doubles with every failure up to a cap, for questions that any of
/// several servers can answer.
pub fn full_jitter(failures: u32, cap: Duration) -> Duration {
    let bound = Duration::from_millis(50).saturating_mul(1 << failures.min(10)).min(cap);
    bound.mul_f64(rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(1200);
    const LATER: Duration = Duration::from_millis(1800);
    const CLIENTS: usize = 1000;

    /// Milliseconds at which a client tries until the server is back.
    fn attempts(away: f64) -> Vec<f64> {
        let mut now = 0.0;
        let mut tries = Vec::new();
        let mut bound = FIRST.as_secs_f64();
        loop {
            now += bound * rand::random::<f64>();
            tries.push(now);
            if now >= away {
                return tries;
            }
            bound = (now / f64::from(SHARE_OF_OUTAGE)).clamp(LATER.as_secs_f64(), 5.0);
        }
    }

    #[test]
    fn a_thousand_clients_do_not_come_at_once() {
        for away in [0.0, 0.1, 0.5, 1.0, 3.0, 20.0] {
            let mut tries: Vec<_> = (0..CLIENTS).flat_map(|_| attempts(away)).collect();
            tries.sort_by(f64::total_cmp);
            let most = (0..tries.len())
                .map(|first| tries[first..].partition_point(|at| *at < tries[first] + 0.1))
                .max();
            assert!(most <= Some(200), "{most:?} attempts in 100 ms, the server was away for {away} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bounds_grow_with_the_time_without_a_server() {
        let mut redial = Redial::new(FIRST, false);
        assert_eq!(redial.bound(), FIRST);
        for _ in 0..20 {
            assert_eq!(redial.bound(), LATER, "attempts alone do not count");
        }
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(redial.bound(), LATER);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(redial.bound(), LATER * 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(redial.bound(), MAX_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_lasts_begins_anew() {
        let mut redial = Redial::new(FIRST, false);
        redial.delay();
        redial.lost(Instant::now());
        assert_eq!(redial.bound(), LATER);
        let opened = Instant::now();
        tokio::time::advance(STABLE_AFTER).await;
        redial.lost(opened);
        assert_eq!(redial.bound(), FIRST);
    }

    #[test]
    fn delays_are_spread_below_the_bound() {
        let delays: Vec<_> = (0..50).map(|_| Redial::new(FIRST, false).delay()).collect();
        assert!(delays.iter().all(|delay| *delay <= FIRST));
        assert!(delays.iter().any(|delay| *delay < FIRST / 2));
        assert!(delays.iter().any(|delay| *delay > FIRST / 2));
    }
}
