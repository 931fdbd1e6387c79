//! A lock is renewed:

use super::*;
use crate::error::ErrorKind::{OutcomeUnknown, Unavailable};

#[test]
fn at_a_third_of_the_ttl_and_from_each_extension_on() {
    let mut turned = Turned::holding(terms());
    assert_eq!(turned.at(999, Event::Elapsed), []);
    assert_eq!(turned.at(1_000, Event::Elapsed), renewed());
    // The loss is what the timer is for, as long as no answer comes.
    assert_eq!(turned.timer(), Some(CERTAIN));
    assert_eq!(turned.at(1_100, Event::Elapsed), []);
    assert_eq!(turned.at(1_200, Event::Extended(Ok(true))), []);
    assert_eq!((turned.valid_until(), turned.timer()), (Some(1_000 + CERTAIN), Some(2_000)));
    assert_eq!(turned.at(2_000, Event::Elapsed), renewed());
}

#[test]
fn not_if_it_was_not_asked_for() {
    let mut turned = Turned::holding(Terms { caps: Caps::default(), ..terms() });
    assert_eq!(turned.timer(), Some(CERTAIN));
    assert_eq!(turned.at(CERTAIN - 1, Event::Elapsed), []);
    assert_eq!(turned.at(CERTAIN, Event::Elapsed), lost(Loss::Expired(None)));
}

#[test]
fn an_extension_without_an_answer_is_withdrawn_with_the_claim() {
    let mut turned = Turned::holding(terms());
    turned.at(1_000, Event::Elapsed);
    assert_eq!(turned.at(CERTAIN, Event::Elapsed), lost_and_withdrawn(Loss::Expired(None)));
}

#[test]
fn again_soon_after_a_failure() {
    for (ttl, pause) in [(3_000, 150), (60, 5), (30_000, 500)] {
        let mut turned = Turned::holding(Terms { ttl: ms(ttl), ..terms() });
        let at = ttl / 3;
        assert_eq!(turned.at(at, Event::Elapsed), [extend(ttl), Action::Probe]);
        assert_eq!(turned.at(at + 1, Event::Extended(Err(error(Unavailable)))), []);
        assert_eq!(turned.timer(), Some(at + 1 + pause));
        assert_eq!(turned.at(at + 1 + pause, Event::Elapsed), [extend(ttl), Action::Probe]);
        turned.at(at + 2 + pause, Event::Extended(Ok(true)));
        assert_eq!(turned.machine.valid_until(), Some(expiry(START + at + 1 + pause, ms(ttl))));
    }
}

#[test]
fn until_the_time_is_over() {
    let mut turned = Turned::holding(terms());
    turned.at(1_000, Event::Elapsed);
    turned.at(2_900, Event::Extended(Err(error(OutcomeUnknown))));
    assert_eq!(
        turned.at(CERTAIN, Event::Elapsed),
        lost_and_withdrawn(Loss::Expired(Some(error(OutcomeUnknown))))
    );
    assert_eq!(turned.valid_until(), None);
}

#[test]
fn a_confirmation_that_comes_too_late_does_not_bring_the_lock_back() {
    let mut turned = Turned::holding(terms());
    turned.at(1_000, Event::Elapsed);
    assert_eq!(turned.at(CERTAIN, Event::Extended(Ok(true))), lost_and_withdrawn(Loss::Expired(None)));
}

#[test]
fn the_server_says_that_it_is_lost() {
    let mut turned = Turned::holding(terms());
    turned.at(1_000, Event::Elapsed);
    assert_eq!(turned.at(1_001, Event::Extended(Ok(false))), lost(Loss::Gone));
    assert!(turned.machine.has_ended());
}

#[test]
fn not_for_an_owner_that_hangs() {
    let caps = Caps { liveness: Some(ms(1_500)), max_hold: None };
    let mut turned = Turned::holding(Terms { caps, ..terms() });
    assert_eq!(turned.at(1_000, Event::Elapsed), renewed());
    turned.at(1_001, Event::Extended(Ok(true)));
    assert_eq!(turned.at(2_000, Event::Elapsed), [Action::Probe]);
    assert_eq!(turned.at(3_000, Event::Elapsed), [Action::Probe]);
    assert_eq!(turned.at(1_000 + CERTAIN, Event::Elapsed), lost(Loss::OwnerHung));
}

#[test]
fn again_for_an_owner_that_comes_back() {
    let caps = Caps { liveness: Some(ms(1_500)), max_hold: None };
    let mut turned = Turned::holding(Terms { caps, ..terms() });
    turned.at(1_000, Event::Elapsed);
    turned.at(1_001, Event::Extended(Ok(true)));
    assert_eq!(turned.at(2_000, Event::Elapsed), [Action::Probe]);
    assert_eq!(turned.machine.on(START + 2_500, Event::Alive), []);
    assert_eq!(turned.at(3_000, Event::Elapsed), renewed());
}

#[test]
fn an_earlier_sign_of_life_does_not_undo_a_later_one() {
    let caps = Caps { liveness: Some(ms(990)), max_hold: None };
    let mut turned = Turned::holding(Terms { caps, ..terms() });
    turned.machine.on(START + 900, Event::Alive);
    turned.machine.on(START + 5, Event::Alive);
    assert_eq!(turned.at(1_000, Event::Elapsed), renewed());
}

#[test]
fn no_longer_than_it_may_be_held() {
    let caps = Caps { liveness: Some(ms(30_000)), max_hold: Some(ms(1_500)) };
    let mut turned = Turned::holding(Terms { caps, ..terms() });
    turned.at(1_000, Event::Elapsed);
    assert_eq!(turned.timer(), Some(1_510));
    turned.at(1_001, Event::Extended(Ok(true)));
    assert_eq!(turned.at(1_509, Event::Elapsed), []);
    assert_eq!(turned.at(1_510, Event::Elapsed), lost_and_withdrawn(Loss::HeldTooLong));
}

#[test]
fn a_lock_that_is_not_renewed_has_a_longest_hold_too() {
    let caps = Caps { liveness: None, max_hold: Some(ms(50)) };
    let mut turned = Turned::holding(Terms { caps, ..terms() });
    assert_eq!(turned.timer(), Some(60));
    assert_eq!(turned.at(59, Event::Elapsed), []);
    assert_eq!(turned.at(60, Event::Elapsed), lost_and_withdrawn(Loss::HeldTooLong));
}
