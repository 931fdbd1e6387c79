//! The holder is asked:

use super::*;
use crate::error::ErrorKind::{OutcomeUnknown, Unavailable};

#[test]
fn for_a_longer_ttl_it_is_sent_at_once_and_renewed_by_that() {
    let mut turned = Turned::holding(terms());
    assert_eq!(turned.at(100, Event::AskedToExtend(ms(30_000))), [extend(30_000)]);
    assert_eq!(turned.valid_until(), Some(CERTAIN));
    turned.at(110, Event::Extended(Ok(true)));
    assert_eq!((turned.valid_until(), turned.timer()), (Some(100 + 30_000 - 302), Some(10_100)));
}

#[test]
fn for_a_shorter_ttl_it_counts_from_the_moment_it_is_sent() {
    let mut turned = Turned::holding(terms());
    let shorter = Action::Extend { ttl: ms(600), extent: Extent::ExactOnce };
    assert_eq!(turned.at(100, Event::AskedToExtend(ms(600))), [shorter]);
    assert_eq!(turned.valid_until(), Some(100 + 592));
    turned.at(110, Event::Extended(Ok(true)));
    // From now on this is the TTL, and a copy of a renewal does no harm.
    assert_eq!(turned.at(300, Event::Elapsed), [extend(600), Action::Probe]);
}

#[test]
fn what_may_still_cut_the_time_off_is_reckoned_with() {
    let mut turned = Turned::holding(terms());
    turned.at(100, Event::AskedToExtend(ms(2_000)));
    turned.at(1_000, Event::Extended(Err(error(OutcomeUnknown))));
    assert_eq!(turned.at(1_050, Event::AskedToExtend(ms(200_000))), [extend(200_000)]);
    turned.at(1_060, Event::Extended(Ok(true)));
    let (certain, renewal) = (2_000 - 22, 666);
    assert_eq!((turned.valid_until(), turned.timer()), (Some(1_050 + certain), Some(1_050 + renewal)));
    // Once it cannot arrive any more, the longer time counts.
    let mut now = 1_050 + renewal;
    while now < 1_000 + STRAY_ATTEMPT.get() {
        turned.machine.on(START + now, Event::Alive);
        assert_eq!(turned.at(now, Event::Elapsed), [extend(200_000), Action::Probe]);
        turned.at(now, Event::Extended(Ok(true)));
        assert_eq!(turned.valid_until(), Some(now + certain));
        now += renewal;
    }
    turned.machine.on(START + now, Event::Alive);
    turned.at(now, Event::Elapsed);
    turned.at(now, Event::Extended(Ok(true)));
    assert_eq!(turned.valid_until(), Some(now + 200_000 - 2_002));
}

#[test]
fn while_an_extension_is_under_way_it_follows() {
    for caps in [terms().caps, Caps::default()] {
        for answer in [Ok(true), Err(error(Unavailable))] {
            let mut turned = Turned::holding(Terms { caps, ..terms() });
            turned.at(100, Event::AskedToExtend(ms(TTL)));
            assert_eq!(turned.at(200, Event::AskedToExtend(ms(9_000))), []);
            assert_eq!(turned.at(300, Event::Extended(answer)), [extend(9_000)]);
            turned.at(310, Event::Extended(Ok(true)));
            assert_eq!(turned.valid_until(), Some(300 + 9_000 - 92));
        }
    }
}

#[test]
fn but_not_for_a_lock_that_is_lost_meanwhile() {
    let mut turned = Turned::holding(terms());
    turned.at(100, Event::AskedToExtend(ms(TTL)));
    turned.at(200, Event::AskedToExtend(ms(9_000)));
    assert_eq!(turned.at(CERTAIN, Event::Extended(Ok(true))), lost_and_withdrawn(Loss::Expired(None)));
}

#[test]
fn to_release_it_does_so_also_with_an_extension_under_way() {
    let mut turned = Turned::holding(terms());
    turned.at(1_000, Event::Elapsed);
    assert_eq!(turned.at(1_001, Event::AskedToRelease), [Action::Release]);
    assert_eq!((turned.valid_until(), turned.timer()), (None, None));
    assert_eq!(turned.at(1_002, Event::Extended(Ok(true))), []);
    assert_eq!(turned.valid_until(), None);
}

#[test]
fn to_abandon_it_does_nothing_more() {
    let mut turned = Turned::holding(terms());
    assert_eq!(turned.at(100, Event::AskedToAbandon), []);
    assert!(turned.machine.has_ended());
}
