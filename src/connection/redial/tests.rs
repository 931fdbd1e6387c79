use super::*;

const PACE: Duration = Duration::from_millis(900);
const CLIENTS: usize = 1000;
/// Attempts within 100 ms.
const BEARABLE: usize = 200;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// What decides whether an attempt succeeds, and how long one takes that does not.
#[derive(Clone, Copy)]
struct Server {
    away: Duration,
    /// Until it is back, attempts take as long as this.
    hangs: Duration,
    located: bool,
    /// When everybody is told that it is back.
    announced: Option<Duration>,
}

/// The moments of all attempts of one client that lost its connection at zero, in simulated time.
async fn attempts(server: Server) -> Vec<Duration> {
    let begin = Instant::now();
    let mut redial = Redial::new(PACE, server.located);
    let wishes = Wishes::default();
    let mut made = Vec::new();
    let mut announced = server.announced;
    loop {
        let mut wait = Box::pin(redial.wait(&wishes));
        loop {
            tokio::select! {
                () = &mut wait => break,
                () = sleep_until(begin + announced.unwrap_or_default()), if announced.is_some() => {
                    announced = None;
                    wishes.make(Wish::Afresh);
                }
            }
        }
        drop(wait);
        redial.attempt();
        made.push(begin.elapsed());
        if begin.elapsed() >= server.away {
            return made;
        }
        // Who waits for an answer is told at the end that there is none, all in the same moment.
        sleep_until((Instant::now() + server.hangs).min(begin + server.away)).await;
    }
}

/// The most attempts in any 100 ms, and how long after the return of the server the last client was back.
async fn storm(server: Server) -> (usize, Duration) {
    let clients: Vec<_> = (0..CLIENTS).map(|_| tokio::spawn(attempts(server))).collect();
    let mut all = Vec::new();
    let mut last = Duration::ZERO;
    for client in clients {
        let made = client.await.unwrap();
        last = last.max(*made.last().unwrap());
        all.extend(made);
    }
    all.sort();
    let window = |first: usize| all[first..].partition_point(|at| *at < all[first] + secs(0.1));
    ((0..all.len()).map(window).max().unwrap(), last - server.away)
}

fn plain(away: f64) -> Server {
    Server { away: secs(away), hangs: Duration::ZERO, located: false, announced: None }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_do_not_come_at_once() {
    for away in [0.0, 0.1, 0.3, 0.6, 1.0, 3.0, 8.0, 30.0] {
        let (most, last) = storm(plain(away)).await;
        assert!(most <= BEARABLE, "{most} attempts in 100 ms, the server was away for {away} s");
        let latest = PACE.max(secs(away / 5.0)) + secs(0.01);
        assert!(last <= latest, "{last:?} late, the server was away for {away} s");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_where_sentinels_or_a_cluster_lead() {
    for away in [0.3, 3.0, 30.0] {
        let (most, last) = storm(Server { located: true, ..plain(away) }).await;
        assert!(most <= BEARABLE, "{most} attempts in 100 ms, the server was away for {away} s");
        assert!(last <= PACE + secs(0.01), "{last:?} late, however long it was away");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_when_all_are_told_of_the_server_in_the_same_moment() {
    for away in [0.5, 3.0] {
        let server = Server { located: true, announced: Some(secs(away)), ..plain(away) };
        let (most, last) = storm(server).await;
        assert!(most <= BEARABLE, "{most} attempts in 100 ms, the server was away for {away} s");
        assert!(last <= PACE, "{last:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn nor_when_attempts_hang_and_fail_together() {
    for (away, hangs) in [(0.4, 5.0), (2.0, 5.0), (2.0, 0.5), (4.0, 1.0)] {
        let (most, last) = storm(Server { hangs: secs(hangs), ..plain(away) }).await;
        assert!(most <= BEARABLE, "{most} in 100 ms, attempts took {hangs} s for {away} s");
        assert!(last <= PACE + secs(0.01), "{last:?} late");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pace_slows_down_with_the_time_without_a_server() {
    let mut redial = Redial::new(PACE, false);
    redial.delay();
    for (outage, slowest) in [(0, 0.9), (4, 0.9), (10, 2.0), (20, 4.0), (3600, 5.0)] {
        redial.since = Some(Instant::now());
        tokio::time::advance(Duration::from_secs(outage)).await;
        for _ in 0..50 {
            redial.attempt();
            let delay = redial.delay().as_secs_f64();
            let bounds = slowest * 2.0 / 3.0..=slowest + 1e-6;
            assert!(bounds.contains(&delay), "{delay} s after {outage} s; attempts alone do not count");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_connection_that_lasts_begins_anew() {
    let mut redial = Redial::new(PACE, false);
    redial.delay();
    tokio::time::advance(Duration::from_secs(20)).await;
    redial.attempt();
    redial.lost(Instant::now());
    assert!(redial.delay() > PACE);
    let opened = Instant::now();
    tokio::time::advance(STABLE_AFTER).await;
    redial.lost(opened);
    assert!(redial.delay() <= PACE);
}

#[tokio::test(start_paused = true)]
async fn who_is_in_a_hurry_keeps_the_first_pace_and_the_phase() {
    let wishes = Wishes::default();
    let mut redial = Redial::new(PACE, false);
    redial.delay();
    tokio::time::advance(Duration::from_secs(60)).await;
    for _ in 0..20 {
        let begin = Instant::now();
        redial.attempt();
        let mut wait = Box::pin(redial.wait(&wishes));
        loop {
            tokio::select! {
                () = &mut wait => break,
                () = tokio::time::sleep(secs(0.25)) => wishes.make(Wish::Hurry),
            }
        }
        let waited = begin.elapsed();
        assert!(waited >= PACE * 2 / 3 && waited <= PACE + secs(0.01), "{waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wish_for_an_attempt_at_once_is_kept_until_it_is_waited() {
    let wishes = Wishes::default();
    let mut redial = Redial::new(PACE, false);
    wishes.make(Wish::Now);
    wishes.make(Wish::Hurry);
    let begin = Instant::now();
    redial.wait(&wishes).await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    redial.wait(&wishes).await;
    assert!(begin.elapsed() > Duration::ZERO);
}
