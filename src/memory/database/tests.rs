use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

fn simulated() -> (Arc<AtomicU64>, Database) {
    let time = Arc::new(AtomicU64::new(1_000));
    let clock = Arc::clone(&time);
    (time, Database::new(Clock::Simulated(Arc::new(move || Millis::new(clock.load(Ordering::SeqCst))))))
}

/// One section at a time, as [`Engine::atomically`](crate::memory::Engine::atomically) runs it.
fn section<T>(db: &mut Database, work: impl FnOnce(&mut Database) -> T) -> T {
    db.begin_section();
    let result = work(db);
    db.end_section();
    result
}

fn ms(millis: u64) -> Option<Millis> {
    Some(Millis::new(millis))
}

#[test]
fn an_entry_lives_to_the_millisecond() {
    let (time, mut db) = simulated();
    section(&mut db, |db| db.set("k", b"v".to_vec(), ms(100)));
    time.store(1_100, Ordering::SeqCst);
    section(&mut db, |db| {
        assert_eq!(db.ttl("k"), Some(ms(0)));
        assert_eq!(db.get("k").unwrap(), Some(&b"v"[..]));
        assert!(!db.set_if_absent("k", b"w".to_vec(), None));
    });
    time.store(1_101, Ordering::SeqCst);
    section(&mut db, |db| {
        assert_eq!(db.ttl("k"), None);
        assert!(!db.expire("k", Millis::new(5)));
        assert!(!db.delete("k"));
        assert!(db.set_if_absent("k", b"w".to_vec(), None));
        assert_eq!(db.ttl("k"), Some(None));
    });
}

#[test]
fn time_stands_still_in_a_section() {
    let (time, mut db) = simulated();
    section(&mut db, |db| {
        db.set("k", b"v".to_vec(), ms(1));
        time.store(9_000, Ordering::SeqCst);
        assert!(db.exists("k"));
    });
    assert!(!section(&mut db, |db| db.exists("k")));
}

#[test]
fn the_latest_ttl_counts() {
    let (time, mut db) = simulated();
    section(&mut db, |db| {
        db.set("replaced", b"v".to_vec(), ms(10));
        db.set("replaced", b"v".to_vec(), None);
        db.set("persisted", b"v".to_vec(), ms(10));
        assert!(db.persist("persisted"));
        assert!(!db.persist("persisted"));
        db.set("prolonged", b"v".to_vec(), ms(10));
        assert!(db.expire("prolonged", Millis::new(500)));
        db.set("kept", b"v".to_vec(), ms(10));
        db.set_keeping_ttl(b"kept", b"w".to_vec());
        db.set("ended", b"v".to_vec(), ms(10));
        assert!(db.expire("ended", Millis::new(0)));
        db.set("never", b"v".to_vec(), ms(0));
        assert!(!db.exists("ended") && !db.exists("never"));
    });
    time.store(1_200, Ordering::SeqCst);
    section(&mut db, |db| {
        assert!(db.exists("replaced") && db.exists("persisted") && !db.exists("kept"));
        assert_eq!(db.ttl("prolonged"), Some(ms(300)));
    });
    assert_eq!(db.deadlines.len(), 1);
}

#[test]
fn each_section_removes_a_few_due_entries() {
    let (time, mut db) = simulated();
    section(&mut db, |db| (0..40).for_each(|n| db.set(format!("k{n}"), Vec::new(), ms(1 + n % 3))));
    section(&mut db, |db| db.set("stays", Vec::new(), ms(60_000)));
    time.store(2_000, Ordering::SeqCst);
    for left in [41 - 16, 41 - 32, 1, 1] {
        section(&mut db, |_| ());
        assert_eq!((db.entries.len(), db.deadlines.len()), (left, left));
    }
    assert!(section(&mut db, |db| db.exists("stays")));
}

#[test]
fn counts_and_lists_leave_out_what_is_due() {
    let (time, mut db) = simulated();
    section(&mut db, |db| (0..40).for_each(|n| db.set(format!("k{n}"), Vec::new(), ms(1))));
    section(&mut db, |db| db.set("stays", Vec::new(), None));
    time.store(2_000, Ordering::SeqCst);
    section(&mut db, |db| {
        assert_eq!(db.keys().collect::<Vec<_>>(), [(&b"stays"[..], "string")]);
        assert_eq!(db.len(), 1);
    });
}

#[test]
fn a_key_of_another_type_is_refused() {
    let (_, mut db) = simulated();
    db.hash_mut("h").unwrap().set("f", "v");
    db.set("s", b"v".to_vec(), None);
    let error = db.get("h").unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::WrongType, Some("h")));
    assert_eq!(error.message(), "WRONGTYPE Operation against a key holding the wrong kind of value");
    assert!(db.hash("s").is_err() && db.hash_mut("s").is_err());
    db.set("h", b"v".to_vec(), None);
    assert!(db.get("h").is_ok());
}

#[test]
fn an_empty_hash_is_no_entry() {
    let (_, mut db) = simulated();
    section(&mut db, |db| {
        db.hash_mut("never filled").unwrap();
        db.hash_mut("emptied").unwrap().set("f", "v");
        assert!(db.expire("emptied", Millis::new(50)));
        assert!(db.hash_mut("emptied").unwrap().remove("f"));
        assert!(!db.exists("emptied"));
        db.hash_mut("emptied").unwrap().set("g", "v");
        assert_eq!(db.ttl("emptied"), Some(None));
        db.hash_mut("emptied").unwrap().remove("g");
    });
    assert!(db.entries.is_empty() && db.deadlines.is_empty());
}

#[test]
fn a_scan_misses_nothing_that_stays() {
    let (_, mut db) = simulated();
    (0..100).for_each(|n| db.set(format!("k{n}"), Vec::new(), None));
    let mut seen = BTreeSet::new();
    let mut cursor = 0;
    for round in 0.. {
        let (next, page) = db.scan(cursor, 7);
        seen.extend(page.map(|(key, _)| key.to_vec()));
        cursor = next;
        if cursor == 0 {
            break;
        }
        db.delete(format!("k{round}"));
        db.set(format!("new{round}"), Vec::new(), None);
    }
    assert!((20..100).all(|n| seen.contains(format!("k{n}").as_bytes())));
}

#[test]
fn an_emptied_sorted_set_is_absent_and_types_do_not_mix() {
    let (_, mut db) = simulated();
    section(&mut db, |db| {
        db.sorted_mut("z").unwrap().add("m", 1.0);
        assert_eq!(db.type_name(b"z"), Some("zset"));
        assert_eq!(db.sorted("z").unwrap().map(SortedSet::len), Some(1));
        assert!(db.hash("z").is_err() && db.get("z").is_err());
        db.hash_mut("h").unwrap().set("f", "v");
        assert!(db.sorted("h").is_err() && db.sorted_mut("h").is_err());
    });
    section(&mut db, |db| assert!(db.sorted_mut("z").unwrap().remove("m")));
    section(&mut db, |db| {
        assert!(!db.exists("z"));
        assert!(db.sorted("z").unwrap().is_none());
    });
}
