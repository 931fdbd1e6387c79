//! The machine, step by step, on a clock that the test turns.

use super::*;

mod asked;
mod renewing;
mod waiting;

const START: Moment = 1_000_000;
const TTL: u64 = 3_000;
/// The TTL less 1 % and 2 ms.
const CERTAIN: u64 = 2_968;

fn ms(millis: u64) -> Millis {
    Millis::new(millis)
}

fn terms() -> Terms {
    Terms {
        ttl: ms(TTL),
        wait: ms(10_000),
        poll: ms(500),
        fair: false,
        caps: Caps { liveness: Some(ms(30_000)), max_hold: None },
    }
}

fn error(kind: ErrorKind) -> Error {
    Error::new(kind, "failed")
}

/// A machine whose clock says how many milliseconds have passed since its start.
struct Turned {
    machine: Machine,
    now: Moment,
}

impl Turned {
    fn start(terms: Terms) -> Self {
        let (machine, first) = Machine::start(terms, START);
        assert_eq!(first, Action::Attempt { generation: 0 });
        Self { machine, now: START }
    }

    /// Granted 10 ms after the start.
    fn holding(terms: Terms) -> Self {
        let mut turned = Self::start(terms);
        assert_eq!(turned.at(10, granted()), [settled()]);
        turned
    }

    fn at(&mut self, passed: u64, event: Event) -> Vec<Action> {
        assert!(START + passed >= self.now, "time goes forward");
        self.now = START + passed;
        self.machine.on(self.now, event)
    }

    fn timer(&self) -> Option<u64> {
        self.machine.next_timer().map(|timer| timer - START)
    }

    fn valid_until(&self) -> Option<u64> {
        self.machine.valid_until().map(|until| until - START)
    }
}

fn granted() -> Event {
    Event::Answered(Ok(Attempt::Granted { token: "t".into(), fence: 7 }))
}

fn settled() -> Action {
    Action::Settle(Outcome::Granted { token: "t".into(), fence: 7 })
}

fn held(look_again: Option<u64>) -> Event {
    Event::Answered(Ok(Attempt::Held { look_again: look_again.map(ms), holder: Some(b"h".to_vec()) }))
}

fn attempt() -> Vec<Action> {
    vec![Action::Attempt { generation: 0 }]
}

fn refused() -> Vec<Action> {
    vec![Action::Settle(Outcome::Refused { holder: Some(b"h".to_vec()) })]
}

fn extend(ttl: u64) -> Action {
    Action::Extend { ttl: ms(ttl), extent: Extent::AtLeast }
}

fn renewed() -> Vec<Action> {
    vec![extend(TTL), Action::Probe]
}

/// Lost, and nothing on its way can keep it.
fn lost(loss: Loss) -> Vec<Action> {
    vec![Action::Report(loss)]
}

/// Lost, but the server may keep it for us.
fn lost_and_withdrawn(loss: Loss) -> Vec<Action> {
    vec![Action::Withdraw { generation: 0 }, Action::Report(loss)]
}

fn withdrawn(outcome: Outcome) -> Vec<Action> {
    vec![Action::Withdraw { generation: 0 }, Action::Settle(outcome)]
}

#[test]
fn nothing_happens_after_the_end() {
    let ends: [fn() -> Turned; 4] = [
        || {
            let mut turned = Turned::start(terms());
            turned.at(1, Event::AskedToAbandon);
            turned
        },
        || {
            let mut turned = Turned::holding(terms());
            turned.at(20, Event::AskedToRelease);
            turned
        },
        || {
            let mut turned = Turned::holding(terms());
            turned.at(CERTAIN, Event::Elapsed);
            turned
        },
        || {
            let mut turned = Turned::start(Terms { wait: ms(0), ..terms() });
            turned.at(20, held(None));
            turned
        },
    ];
    for end in ends {
        let mut turned = end();
        for event in [
            granted(),
            held(None),
            Event::Announced,
            Event::Extended(Ok(true)),
            Event::Extended(Ok(false)),
            Event::AskedToExtend(ms(1)),
            Event::AskedToRelease,
            Event::AskedToAbandon,
            Event::Alive,
            Event::Elapsed,
        ] {
            let text = format!("{event:?}");
            assert_eq!(turned.at(60_000, event), [], "{text}");
        }
        assert_eq!((turned.timer(), turned.valid_until()), (None, None));
        assert!(turned.machine.has_ended());
    }
}
