//! What the simulation is too coarse to look at.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;

const TTL: Millis = Millis::new(10_000);
const LEASE: u64 = QUEUE_LEASE.get();

struct Fixture {
    clock: Arc<AtomicU64>,
    locks: MemoryLocks,
}

impl Fixture {
    fn new() -> Self {
        let clock = Arc::new(AtomicU64::new(1_700_000_000_000));
        let time = Arc::clone(&clock);
        let engine = Engine::with_clock(Arc::new(move || Millis::new(time.load(Ordering::SeqCst))));
        Self { clock, locks: MemoryLocks::new(engine, LockKeys::new("", "l:").unwrap()) }
    }

    fn pass(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    fn set_back(&self, millis: u64) {
        self.clock.fetch_sub(millis, Ordering::SeqCst);
    }

    fn acquire(&self, claim: &Claim) -> Attempt {
        now(self.locks.try_acquire(claim)).unwrap()
    }

    /// The token and the fence.
    fn granted(&self, claim: &Claim) -> (String, u64) {
        match self.acquire(claim) {
            Attempt::Granted { token, fence } => (token, fence),
            other => panic!("{} was not granted: {other:?}", claim.id),
        }
    }

    fn look_again(&self, claim: &Claim) -> Option<u64> {
        match self.acquire(claim) {
            Attempt::Held { look_again, .. } => look_again.map(Millis::get),
            other => panic!("{} was granted: {other:?}", claim.id),
        }
    }

    fn release(&self, token: &str) -> Ownership {
        match now(self.locks.release("k", token)).unwrap() {
            Release::Answered(ownership) => ownership,
            Release::Unclear(error) => panic!("{error}"),
        }
    }

    fn extend(&self, token: &str, ttl: u64, extent: Extent) -> Ownership {
        now(self.locks.extend("k", token, Millis::new(ttl), extent)).unwrap()
    }

    fn inspect(&self) -> Inspection {
        now(self.locks.inspect("k")).unwrap()
    }

    fn ttl_left(&self) -> Option<u64> {
        self.inspect().ttl_left.map(Millis::get)
    }

    fn forget(&self, key: &str) {
        assert!(self.locks.engine.atomically(|db| db.delete(key)), "{key} is not there");
    }
}

fn now<T>(operation: impl Future<Output = T>) -> T {
    poll(operation).unwrap_or_else(|| panic!("the embedded engine waited"))
}

fn poll<T>(operation: impl Future<Output = T>) -> Option<T> {
    match pin!(operation).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

fn claim(id: &str) -> Claim {
    Claim {
        key: "k".into(),
        id: id.into(),
        ttl: TTL,
        attempt: 1,
        repetition: 0,
        floor: 0,
        fair: false,
        replicas: None,
    }
}

fn fair(id: &str) -> Claim {
    Claim { fair: true, ..claim(id) }
}

#[test]
fn those_who_wait_in_order_are_served_in_order() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&fair("a"));
    for id in ["b", "c", "d"] {
        assert_eq!(fixture.look_again(&fair(id)), Some(TTL.get()));
    }
    fixture.release(&token);
    // Whoever comes first, the place counts; the lease of the first is what the others wait for.
    fixture.pass(100);
    for id in ["d", "c"] {
        assert_eq!(fixture.look_again(&fair(id)), Some(LEASE - 100));
    }
    for id in ["b", "c", "d"] {
        let (token, _) = fixture.granted(&fair(id));
        fixture.release(&token);
    }
    assert_eq!(fixture.inspect().queued, 0);
}

#[test]
fn all_who_died_in_the_queue_cost_one_lease_together() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&fair("a"));
    for id in ["dead", "dead as well", "alive"] {
        fixture.look_again(&fair(id));
    }
    fixture.release(&token);
    fixture.pass(LEASE - 1);
    assert_eq!(fixture.look_again(&fair("alive")), Some(1));
    fixture.pass(1);
    fixture.granted(&fair("alive"));
    assert_eq!(fixture.inspect().queued, 0);
}

#[test]
fn an_attempt_renews_the_place_in_the_queue() {
    let fixture = Fixture::new();
    fixture.granted(&Claim { ttl: Millis::new(3 * LEASE), ..claim("a") });
    for _ in 0..4 {
        fixture.look_again(&fair("first"));
        fixture.look_again(&fair("second"));
        fixture.pass(LEASE / 2);
    }
    fixture.pass(LEASE / 2 - 1);
    fixture.look_again(&fair("first"));
    fixture.pass(LEASE);
    assert_eq!(fixture.inspect().holder, None);
    // By now the lease of the second is over, and the first comes again.
    fixture.granted(&fair("first"));
    assert_eq!(fixture.inspect().queued, 0);
}

#[test]
fn who_does_not_wait_in_order_does_not_queue() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&claim("a"));
    fixture.look_again(&fair("b"));
    fixture.look_again(&claim("c"));
    assert_eq!(fixture.inspect().queued, 1);
    fixture.release(&token);
    fixture.granted(&claim("c"));
}

#[test]
fn a_queue_whose_waiters_all_died_goes() {
    let fixture = Fixture::new();
    fixture.granted(&claim("a"));
    fixture.look_again(&fair("b"));
    let exists = || {
        let keys = [fixture.locks.keys.queue("k"), fixture.locks.keys.leases("k")];
        keys.map(|key| fixture.locks.engine.atomically(|db| db.exists(key)))
    };
    fixture.pass(20 * LEASE);
    assert_eq!(exists(), [true; 2]);
    fixture.pass(1);
    assert_eq!(exists(), [false; 2]);
}

#[test]
fn a_repeated_attempt_is_recognised() {
    let fixture = Fixture::new();
    let first = fixture.granted(&claim("a"));
    fixture.pass(4_000);
    assert_eq!(fixture.granted(&Claim { repetition: 1, ..claim("a") }), first);
    assert_eq!(fixture.ttl_left(), Some(TTL.get()));
}

#[test]
fn a_copy_that_was_overtaken_changes_nothing() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&Claim { repetition: 1, ..claim("a") });
    fixture.extend(&token, 60_000, Extent::Exact);
    let too_late = |claim: &Claim| now(fixture.locks.try_acquire(claim)).unwrap_err().kind();
    assert_eq!(too_late(&claim("a")), ErrorKind::Closed);
    assert_eq!(fixture.ttl_left(), Some(60_000));
    assert_eq!(fixture.release(&token), Ownership::Ours);
    assert_eq!(too_late(&claim("a")), ErrorKind::Closed);
    assert_eq!(too_late(&fair("a")), ErrorKind::Closed);
    assert_eq!((fixture.inspect().holder, fixture.inspect().queued), (None, 0));
    // Later attempts of the same claim are not meant.
    fixture.granted(&Claim { attempt: 2, ..claim("a") });
}

#[test]
fn a_withdrawn_claim_is_granted_nothing_for_as_long_as_an_attempt_may_take() {
    let fixture = Fixture::new();
    fixture.granted(&claim("a"));
    now(fixture.locks.withdraw("k", "a")).unwrap();
    assert_eq!(fixture.inspect().holder, None);
    for attempt in [1, 2, u32::MAX] {
        let late = Claim { attempt, repetition: u32::MAX, ..claim("a") };
        assert_eq!(now(fixture.locks.try_acquire(&late)).unwrap_err().kind(), ErrorKind::Closed);
    }
    fixture.pass(STRAY_ATTEMPT.get() + 1);
    fixture.granted(&claim("a"));
}

#[test]
fn a_withdrawal_leaves_the_lock_of_another_claim_alone() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&claim("ab"));
    now(fixture.locks.withdraw("k", "a")).unwrap();
    assert_eq!(fixture.inspect().holder, Some(token.into_bytes()));
}

#[test]
fn the_end_of_a_lock_is_announced_to_those_who_wait() {
    let fixture = Fixture::new();
    let mut watch = now(fixture.locks.watch("k")).unwrap();
    let mut announced = || poll(watch.released()).is_some();
    let (token, _) = fixture.granted(&claim("a"));
    assert!(!announced());
    assert_eq!(fixture.release("a:1:2"), Ownership::Taken(token.clone().into_bytes()));
    assert!(!announced());
    fixture.release(&token);
    assert!(announced());
    assert_eq!(fixture.release(&token), Ownership::Expired);
    assert!(!announced());

    let (token, _) = fixture.granted(&claim("b"));
    assert_eq!(now(fixture.locks.force_release("k")).unwrap(), Some(token.into_bytes()));
    assert!(announced());
    assert_eq!(now(fixture.locks.force_release("k")).unwrap(), None);
    assert!(!announced());

    // One who waited first leaves a free lock to the next.
    let (token, _) = fixture.granted(&claim("c"));
    fixture.look_again(&fair("first"));
    fixture.look_again(&fair("second"));
    fixture.release(&token);
    assert!(announced());
    now(fixture.locks.withdraw("k", "first")).unwrap();
    assert!(announced());
    fixture.granted(&fair("second"));
}

#[test]
fn an_extension_sets_the_time_left_or_only_lengthens_it() {
    let fixture = Fixture::new();
    let (token, _) = fixture.granted(&claim("a"));
    for (ttl, extent, left) in [
        (20_000, Extent::AtLeast, 20_000),
        (5_000, Extent::AtLeast, 20_000),
        (5_000, Extent::Exact, 5_000),
        (9_000, Extent::ExactOnce, 9_000),
        (4_000, Extent::ExactOnce, 4_000),
    ] {
        assert_eq!(fixture.extend(&token, ttl, extent), Ownership::Ours);
        assert_eq!(fixture.ttl_left(), Some(left), "{ttl} {extent:?}");
    }
    let taken = Ownership::Taken(token.clone().into_bytes());
    assert_eq!(fixture.extend("a:1:2", 60_000, Extent::Exact), taken);
    fixture.pass(4_001);
    assert_eq!(fixture.extend(&token, 60_000, Extent::AtLeast), Ownership::Expired);
    assert_eq!(fixture.inspect().holder, None);
}

#[test]
fn a_fence_is_higher_than_all_before() {
    let fixture = Fixture::new();
    let mut last = 0;
    let mut next = |floor: u64| {
        let (token, fence) = fixture.granted(&Claim { floor, ..claim("a") });
        fixture.release(&token);
        assert!(fence > last.max(floor), "{fence} after {last}, floor {floor}");
        last = fence;
        fence
    };
    next(0);
    next(0);
    fixture.set_back(3_600_000);
    let highest = next(0);
    // The counter is lost and the time set back: only a client can know.
    fixture.forget(&fixture.locks.keys.fence_counter(""));
    next(highest);
    fixture.pass(2 * 3_600_000);
    fixture.forget(&fixture.locks.keys.fence_counter(""));
    next(0);
    next(9_000_000_000_000_000);
}

#[test]
fn inspection_says_who_holds_and_how_many_wait() {
    let fixture = Fixture::new();
    assert_eq!(fixture.inspect(), Inspection { holder: None, ttl_left: None, queued: 0, listening: 0 });
    let (token, _) = fixture.granted(&claim("a"));
    fixture.look_again(&fair("b"));
    fixture.look_again(&fair("c"));
    let watch = now(fixture.locks.watch("k")).unwrap();
    fixture.pass(1_000);
    let holder = Some(token.into_bytes());
    let ttl_left = Some(Millis::new(9_000));
    assert_eq!(fixture.inspect(), Inspection { holder, ttl_left, queued: 2, listening: 1 });
    drop(watch);
    fixture.pass(9_001);
    assert_eq!(fixture.inspect(), Inspection { holder: None, ttl_left: None, queued: 2, listening: 0 });

    fixture.locks.engine.atomically(|db| db.set("l:k", b"somebody else's".to_vec(), None));
    assert_eq!(fixture.inspect().holder.as_deref(), Some(b"somebody else's".as_slice()));
    assert_eq!(fixture.inspect().ttl_left, None);
}

#[test]
fn the_list_comes_in_pages_and_drops_what_is_stale() {
    let fixture = Fixture::new();
    let mut held = Vec::new();
    for number in 0..7 {
        let key = format!("k{number}");
        let (_, fence) = fixture.granted(&Claim { key: key.clone(), ..claim(&key) });
        held.push((key, fence));
    }
    now(fixture.locks.list_changes(&held, &[])).unwrap();
    for number in [0, 2, 3] {
        now(fixture.locks.force_release(&format!("k{number}"))).unwrap();
    }
    let listed = || {
        let (mut keys, mut pages, mut after) = (Vec::new(), 0, 0);
        loop {
            let page = now(fixture.locks.list(after, 2)).unwrap();
            keys.extend(page.locks.into_iter().map(|lock| lock.key));
            pages += 1;
            match page.next {
                Some(next) => after = next,
                None => return (keys, pages),
            }
        }
    };
    let living = ["k1", "k4", "k5", "k6"].map(String::from).to_vec();
    // Stale entries fill pages once; a full last page leads to an empty one.
    assert_eq!(listed(), (living.clone(), 4));
    assert_eq!(listed(), (living, 3));
    let index = fixture.locks.keys.index();
    assert_eq!(fixture.locks.engine.atomically(|db| db.sorted(&index).unwrap().unwrap().len()), 4);
}

#[test]
fn an_entry_of_an_earlier_grant_does_not_take_the_list_from_a_later_one() {
    let fixture = Fixture::new();
    let (token, old) = fixture.granted(&claim("a"));
    fixture.release(&token);
    let (_, new) = fixture.granted(&claim("b"));
    now(fixture.locks.list_changes(&[("k".into(), new)], &[("k".into(), old)])).unwrap();
    assert_eq!(now(fixture.locks.list(0, 10)).unwrap().locks.len(), 1);
    now(fixture.locks.list_changes(&[], &[("k".into(), new)])).unwrap();
    assert_eq!(now(fixture.locks.list(0, 10)).unwrap(), Page::default());
}
