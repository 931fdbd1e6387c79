//! Where keys lie in a cluster.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

/// How many slots a cluster has.
pub const SLOTS: usize = 16_384;

/// The slot of a cluster that a key lies in: that of its hash tag, `{tag}`, if it has one.
pub fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        // An empty tag is none.
        (close > 0).then(|| &rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS as u16
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| crc16_on(crc, *byte))
}

fn crc16_on(crc: u16, byte: u8) -> u16 {
    (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)]
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// Whether all these keys lie in one slot, so that one script may touch them.
pub fn same_slot<'key>(keys: impl IntoIterator<Item = &'key str>) -> bool {
    let mut slots = keys.into_iter().map(|key| slot(key.as_bytes()));
    let first = slots.next();
    slots.all(|slot| Some(slot) == first)
}

/// Where these keys stand, those of one slot together.
pub fn by_slot(keys: &[impl AsRef<[u8]>]) -> Vec<Vec<usize>> {
    let mut places: Vec<_> = keys.iter().map(|key| slot(key.as_ref())).zip(0..).collect();
    places.sort_unstable();
    places
        .chunk_by(|(one, _), (other, _)| one == other)
        .map(|of_slot| of_slot.iter().map(|place| place.1).collect())
        .collect()
}

/// Whether a key, or the start of one, says itself where it lies.
pub(super) fn has_tag(key: &str) -> bool {
    let rest = key.split_once('{').map(|(_, rest)| rest);
    rest.and_then(|rest| rest.find('}')).is_some_and(|close| close > 0)
}

/// A short hash tag that lies in a slot, for keys of our own that must lie beside others: the lowest number, in hex, that
/// does. It is a part of stored keys.
///
/// To find all of them at once would hold the I/O thread up for long, so it is searched on from where the last search
/// ended.
pub(super) fn tag_of(slot: u16) -> String {
    /// One more than the number, once it is known.
    static KNOWN: [AtomicU32; SLOTS] = [const { AtomicU32::new(0) }; SLOTS];
    static SEARCHED_TO: Mutex<u32> = Mutex::new(0);
    let known = |slot: u16| &KNOWN[usize::from(slot)];
    if known(slot).load(Ordering::Relaxed) == 0 {
        let mut next = SEARCHED_TO.lock().unwrap_or_else(PoisonError::into_inner);
        while known(slot).load(Ordering::Relaxed) == 0 {
            // Numbers that differ in their last digit have all but one step of the sum in common.
            let others = if *next == 0 { 0 } else { crc16(format!("{:x}", *next >> 4).as_bytes()) };
            for (number, digit) in (*next..).zip(*b"0123456789abcdef") {
                let found = known(crc16_on(others, digit) % SLOTS as u16);
                if found.load(Ordering::Relaxed) == 0 {
                    found.store(number + 1, Ordering::Relaxed);
                }
            }
            *next += 16;
        }
    }
    format!("{:x}", known(slot).load(Ordering::Relaxed).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_servers() {
        // As CLUSTER KEYSLOT answers them.
        for (key, expected) in [
            ("", 0),
            ("123456789", 12739),
            ("foo", 12182),
            ("foo{bar}{zap}", 5061),
            ("{bar}", 5061),
            ("bar", 5061),
            ("foo{{bar}}zap", 4015),
            ("{bar", 4015),
        ] {
            assert_eq!(slot(key.as_bytes()), expected, "{key}");
        }
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_eq!(slot(b"foo}{bar}"), slot(b"bar"));
    }

    #[test]
    fn every_slot_has_a_tag() {
        for number in 0..SLOTS as u16 {
            assert_eq!(slot(format!("a{{{}}}:b", tag_of(number)).as_bytes()), number);
        }
        assert!(tag_of(0).len() <= 6);
    }

    #[test]
    fn a_tag_is_the_lowest_number_of_its_slot() {
        let mut seen = std::collections::HashSet::new();
        for number in 0u32.. {
            let text = format!("{number:x}");
            let slot = slot(text.as_bytes());
            if seen.insert(slot) {
                assert_eq!(tag_of(slot), text);
            }
            if seen.len() == SLOTS {
                break;
            }
        }
    }

    #[test]
    fn keys_of_one_tag_lie_together() {
        assert!(same_slot(["{a}:1", "2{a}", "{a}"]) && same_slot([]) && same_slot(["a"]));
        assert!(!same_slot(["a", "b"]));
        let groups = by_slot(&["{a}1", "b", "{a}2", "{c}", "{a}3"]);
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), 5);
        assert!(groups.contains(&vec![0, 2, 4]) && groups.contains(&vec![1]), "{groups:?}");
        assert!(by_slot(&[""; 0]).is_empty());
        for (key, tagged) in
            [("a{b}c", true), ("a{}b", false), ("a{b", false), ("}{", false), ("{}{a}", false)]
        {
            assert_eq!(has_tag(key), tagged, "{key}");
        }
    }
}
