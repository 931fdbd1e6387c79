//! Until the lock is granted, or is not.

use super::*;
use crate::error::ErrorKind::{
    Closed, Internal, NoPermission, OutcomeUnknown, QueueFull, ServerNotReady, Timeout, Unavailable,
    WrongType,
};

#[test]
fn a_grant_is_valid_from_before_the_attempt_left() {
    let turned = Turned::holding(terms());
    assert_eq!(turned.valid_until(), Some(CERTAIN));
    assert_eq!(turned.timer(), Some(TTL / 3));
}

#[test]
fn a_short_ttl_is_counted_carefully_too() {
    let turned = Turned::start(Terms { ttl: ms(10), ..terms() });
    let mut turned = turned;
    turned.at(3, granted());
    assert_eq!(turned.valid_until(), Some(8));
}

#[test]
fn the_next_attempt_comes_with_the_poll_or_when_the_holder_expires() {
    for (look_again, pause) in [
        (None, 500),
        (Some(0), 1),
        (Some(100), 101),
        (Some(499), 500),
        (Some(60_000), 500),
        (Some(u64::MAX), 500),
    ] {
        let mut turned = Turned::start(terms());
        assert_eq!(turned.at(20, held(look_again)), []);
        assert_eq!(turned.timer(), Some(20 + pause), "{look_again:?}");
        assert_eq!(turned.at(19 + pause, Event::Elapsed), []);
        assert_eq!(turned.at(20 + pause, Event::Elapsed), attempt());
        assert_eq!(turned.timer(), None);
    }
}

#[test]
fn who_waits_in_order_comes_back_before_its_place_is_given_away() {
    let mut turned = Turned::start(Terms { poll: ms(60_000), wait: ms(600_000), fair: true, ..terms() });
    turned.at(0, held(None));
    assert_eq!(turned.timer(), Some(QUEUE_LEASE.get() / 3));
}

#[test]
fn a_release_wakes_at_once() {
    let mut turned = Turned::start(terms());
    turned.at(20, held(Some(60_000)));
    assert_eq!(turned.at(30, Event::Announced), attempt());
}

#[test]
fn a_release_during_an_attempt_is_not_missed() {
    let mut turned = Turned::start(terms());
    assert_eq!(turned.at(5, Event::Announced), []);
    assert_eq!(turned.at(20, held(Some(60_000))), attempt());
    // Once: the attempt was sent after it.
    assert_eq!(turned.at(30, held(Some(60_000))), []);
}

#[test]
fn the_budget_ends_the_waiting() {
    let mut turned = Turned::start(Terms { wait: ms(700), ..terms() });
    turned.at(20, held(None));
    assert_eq!(turned.at(520, Event::Elapsed), attempt());
    turned.at(530, held(None));
    assert_eq!((turned.timer(), turned.machine.gives_up_at()), (Some(700), START + 700));
    assert_eq!(turned.at(699, Event::Elapsed), []);
    assert_eq!(turned.at(700, Event::Elapsed), refused());
    assert!(turned.machine.has_ended());
    assert_eq!(turned.machine.attempts(), 2);
}

#[test]
fn a_release_after_the_budget_comes_too_late() {
    let mut turned = Turned::start(Terms { wait: ms(700), ..terms() });
    turned.at(20, held(None));
    assert_eq!(turned.at(700, Event::Announced), refused());
}

#[test]
fn without_a_budget_there_is_one_attempt() {
    let mut turned = Turned::start(Terms { wait: ms(0), ..terms() });
    assert_eq!(turned.at(0, Event::Announced), []);
    assert_eq!(turned.at(0, held(None)), refused());
    let mut turned = Turned::start(Terms { wait: ms(0), ..terms() });
    assert_eq!(turned.at(50, granted()), [settled()]);
}

#[test]
fn a_budget_without_end_does_not_overflow() {
    let (machine, _) = Machine::start(Terms { wait: ms(u64::MAX), ..terms() }, START);
    assert_eq!(machine.gives_up_at(), u64::MAX);
}

#[test]
fn who_leaves_the_queue_says_so() {
    let mut turned = Turned::start(Terms { wait: ms(0), fair: true, ..terms() });
    assert_eq!(turned.at(1, held(None)), withdrawn(Outcome::Refused { holder: Some(b"h".to_vec()) }));
}

#[test]
fn a_grant_that_arrives_too_late_is_given_back_and_tried_again() {
    let mut turned = Turned::start(terms());
    let again = [Action::Withdraw { generation: 0 }, Action::Attempt { generation: 1 }];
    assert_eq!(turned.at(CERTAIN, granted()), again);
    assert_eq!(turned.valid_until(), None);
    assert_eq!(turned.at(CERTAIN + 5, granted()), [settled()]);
    assert_eq!(turned.valid_until(), Some(2 * CERTAIN));

    let mut turned = Turned::start(Terms { wait: ms(100), ..terms() });
    let refused = Action::Settle(Outcome::Refused { holder: None });
    assert_eq!(turned.at(CERTAIN, granted()), [Action::Withdraw { generation: 0 }, refused]);
    assert!(turned.machine.has_ended());
}

#[test]
fn given_up_while_an_attempt_is_on_its_way() {
    let mut turned = Turned::start(terms());
    assert_eq!(turned.at(5, Event::AskedToAbandon), withdrawn(Outcome::Abandoned));
    assert_eq!(turned.at(20, granted()), []);
    assert_eq!(turned.valid_until(), None);
}

#[test]
fn given_up_between_attempts() {
    for (fair, expected) in
        [(false, vec![Action::Settle(Outcome::Abandoned)]), (true, withdrawn(Outcome::Abandoned))]
    {
        let mut turned = Turned::start(Terms { fair, ..terms() });
        turned.at(5, held(None));
        assert_eq!(turned.at(6, Event::AskedToAbandon), expected, "fair: {fair}");
        assert_eq!(turned.at(7, Event::Announced), []);
    }
}

#[test]
fn a_claim_is_withdrawn_if_its_attempt_may_have_arrived() {
    for (kind, may_have_arrived) in [
        (Timeout, true),
        (OutcomeUnknown, true),
        (Closed, true),
        (Internal, true),
        (Unavailable, false),
        (QueueFull, false),
        (ServerNotReady, false),
        (NoPermission, false),
        (WrongType, false),
    ] {
        for fair in [false, true] {
            let mut turned = Turned::start(Terms { fair, ..terms() });
            let outcome = Outcome::Failed(error(kind));
            let expected =
                if may_have_arrived || fair { withdrawn(outcome) } else { vec![Action::Settle(outcome)] };
            assert_eq!(turned.at(5, Event::Answered(Err(error(kind)))), expected, "{kind:?} {fair}");
            assert!(turned.machine.has_ended());
        }
    }
}

#[test]
fn a_grant_that_too_few_replicas_know_of_is_given_back() {
    let mut turned = Turned::start(terms());
    let answer = Event::Answered(Ok(Attempt::NotReplicated { reached: 1 }));
    assert_eq!(turned.at(5, answer), withdrawn(Outcome::NotReplicated { reached: 1 }));
}

#[test]
fn what_belongs_to_holding_does_not_disturb_an_attempt() {
    let mut turned = Turned::start(terms());
    for event in [
        Event::Extended(Ok(true)),
        Event::AskedToExtend(ms(1)),
        Event::AskedToRelease,
        Event::Alive,
        Event::Elapsed,
    ] {
        assert_eq!(turned.at(5, event), []);
    }
    assert_eq!(turned.at(10, granted()), [settled()]);
}
