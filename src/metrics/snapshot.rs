//! All numbers together, in the form that TypeScript reads.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{
    CODES, CONNECTIONS, Counter, FAILURES, FALLBACK, FALLBACK_CLASSES, Histogram, LATE_UPDATES, LOCKS,
    OPERATIONS, lock, of_address,
};
use crate::connection::census;

/// All numbers, at one moment as far as atomics without an order allow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Whether there are connections, and all of them are ready.
    ready: bool,
    connections: Vec<ConnectionSnapshot>,
    failures: Vec<(&'static str, u64)>,
    operations: Vec<OperationSnapshot>,
    locks: LockSnapshot,
    /// Absent in a process without workstations, which has no use for more series.
    fallback: Option<FallbackSnapshot>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FallbackSnapshot {
    /// How many workstations do without Redis.
    active: u64,
    operations: Vec<(&'static str, u64)>,
    late_updates: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionSnapshot {
    address: String,
    commands: u64,
    bytes_sent: u64,
    bytes_received: u64,
    reconnects: u64,
    /// Absent if none is open any more.
    open: Option<census::Open>,
}

#[derive(Debug, Serialize)]
pub(super) struct HistogramSnapshot {
    /// Upper bounds, seconds.
    pub(super) bounds: Vec<f64>,
    /// How many were within each bound and above the one before, and how many above all.
    pub(super) counts: Vec<u64>,
    /// Seconds.
    pub(super) sum: f64,
}

#[derive(Debug, Serialize)]
struct OperationSnapshot {
    name: &'static str,
    durations: HistogramSnapshot,
    failures: u64,
}

#[derive(Debug, Serialize)]
struct LockSnapshot {
    wait: HistogramSnapshot,
    hold: HistogramSnapshot,
    acquisitions: [(&'static str, u64); 5],
    losses: [(&'static str, u64); 4],
}

/// What all counters say now.
pub fn snapshot() -> Snapshot {
    let mut open = census::open();
    // What is open and has no counters: a cluster, whose nodes have them.
    open.keys().for_each(|address| drop(of_address(address.clone())));
    let counted = lock(&CONNECTIONS);
    let connections = counted.iter().map(|(address, counted)| ConnectionSnapshot {
        address: address.clone(),
        commands: counted.commands.get(),
        bytes_sent: counted.bytes_sent.get(),
        bytes_received: counted.bytes_received.get(),
        reconnects: counted.reconnects.get(),
        open: open.remove(address),
    });
    Snapshot {
        connections: connections.collect(),
        ready: census::all_ready(),
        failures: counts(CODES, &FAILURES),
        operations: operations(),
        fallback: FALLBACK.known.load(Ordering::Relaxed).then(|| FallbackSnapshot {
            active: FALLBACK.active.load(Ordering::Relaxed),
            operations: counts(&FALLBACK_CLASSES, &FALLBACK.operations),
            late_updates: LATE_UPDATES.get(),
        }),
        locks: LockSnapshot {
            wait: LOCKS.wait.snapshot(),
            hold: LOCKS.hold.snapshot(),
            acquisitions: [
                ("granted", LOCKS.granted.get()),
                ("refused", LOCKS.refused.get()),
                ("not_replicated", LOCKS.not_replicated.get()),
                ("abandoned", LOCKS.abandoned.get()),
                ("failed", LOCKS.failed.get()),
            ],
            losses: [
                ("gone", LOCKS.gone.get()),
                ("expired", LOCKS.expired.get()),
                ("owner_hung", LOCKS.owner_hung.get()),
                ("held_too_long", LOCKS.held_too_long.get()),
            ],
        },
    }
}

fn counts(names: &[&'static str], counters: &[Counter]) -> Vec<(&'static str, u64)> {
    names.iter().zip(counters).map(|(name, count)| (*name, count.get())).collect()
}

fn operations() -> Vec<OperationSnapshot> {
    let mut by_name = BTreeMap::<_, OperationSnapshot>::new();
    for operation in lock(&OPERATIONS).iter() {
        let (name, failures) = (operation.name, operation.failures.get());
        let durations = operation.durations.snapshot();
        match by_name.get_mut(name) {
            Some(known) => {
                known.failures += failures;
                known.durations.sum += durations.sum;
                known.durations.counts.iter_mut().zip(durations.counts).for_each(|(sum, more)| *sum += more);
            }
            None => drop(by_name.insert(name, OperationSnapshot { name, durations, failures })),
        }
    }
    by_name.into_values().collect()
}

impl Histogram {
    pub(super) fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot {
            bounds: self.bounds.iter().map(|bound| seconds(*bound)).collect(),
            counts: self.buckets[..=self.bounds.len()].iter().map(Counter::get).collect(),
            sum: seconds(self.sum.load(Ordering::Relaxed)),
        }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::operation;

    #[test]
    fn operations_of_one_name_are_one() {
        operation!("test.twice").begin().end(false);
        operation!("test.twice").begin().end(true);
        let all = operations();
        let twice: Vec<_> = all.iter().filter(|operation| operation.name == "test.twice").collect();
        assert_eq!(twice.len(), 1);
        assert_eq!(twice[0].failures, 1);
        assert_eq!(twice[0].durations.counts.iter().sum::<u64>(), 2);
    }

    #[test]
    fn counters_of_an_address_are_the_same_ones() {
        of_address("h:1".to_owned()).commands.add(2);
        of_address("h:1".to_owned()).commands.add(3);
        let json = serde_json::to_value(snapshot()).unwrap();
        let connections = json["connections"].as_array().unwrap();
        let counted = connections.iter().find(|connection| connection["address"] == "h:1").unwrap();
        assert_eq!(counted["commands"], 5);
        assert!(counted["open"].is_null());
    }
}
