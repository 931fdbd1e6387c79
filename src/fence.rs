//! Fences: the number of an acquisition of a lock, higher than that of every earlier one. A store keeps the highest
//! that it has seen for a record, and refuses a write with a lower one: its lock has expired, and somebody else has
//! written under it since.

use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::key::{by_slot, same_slot};
use crate::memory::Database;
use crate::time::Millis;

/// How long a fence outlives the last write under it, unless its record lives longer: longer than any pause of a
/// process from which it may still come back and write.
const LIFETIME: Millis = Millis::new(7 * 24 * 60 * 60 * 1000);

/// The largest whole number that JavaScript and Lua tell from its neighbours.
const MAX: u64 = (1 << 53) - 1;

/// The number of an acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence(u64);

impl Fence {
    /// Checks a number that came from JavaScript: a whole number from 1 to 2^53 - 1.
    pub fn from_number(number: f64) -> Result<Self> {
        if number.fract() == 0.0 && (1.0..=MAX as f64).contains(&number) {
            return Ok(Self(number as u64));
        }
        let text = format!("the fence must be a whole number from 1 to {MAX}, not {number}");
        Err(Error::new(ErrorKind::InvalidArgument, text))
    }

    /// What a write of these records under this fence needs. `key_of` says where the fence of a record is; `ttl` is
    /// how long the records will live.
    pub fn guard(
        self,
        records: impl IntoIterator<Item = String>,
        key_of: impl Fn(&str) -> String,
        ttl: Option<Millis>,
    ) -> Guard {
        let records = records.into_iter().map(|record| {
            let key = key_of(&record);
            (record, key)
        });
        Guard { fence: self, ttl: ttl.map_or(LIFETIME, |ttl| ttl.max(LIFETIME)), records: records.collect() }
    }

    /// A stored fence.
    fn from_stored(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let digits = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|number| digits && *number <= MAX).map(Self)
    }
}

/// What became of a write.
pub trait Outcome {
    /// Whether it found out that the record is another than meant, whose fence is not its business. Anything else
    /// raises the fence, even if nothing had to be written: it shows that a later holder is at work.
    fn mistaken(&self) -> bool {
        false
    }
}

impl Outcome for () {}
impl Outcome for bool {}

/// What one write under a fence checks and raises.
#[derive(Debug, Clone)]
pub struct Guard {
    fence: Fence,
    ttl: Millis,
    /// Each record with the key of its fence.
    records: Vec<(String, String)>,
}

impl Guard {
    /// What is about these records alone, by their places.
    pub fn part(&self, places: &[usize]) -> Self {
        Self { records: places.iter().map(|place| self.records[*place].clone()).collect(), ..*self }
    }

    /// The records whose fences one script checks together with `key`, and the others, those of one slot together.
    pub fn by_slot(&self, key: Option<&str>) -> (Option<Self>, Vec<Self>) {
        let part = |records| Self { records, ..*self };
        let near = |fence: &str| key.is_some_and(|key| same_slot([key, fence]));
        let (beside, elsewhere): (Vec<_>, Vec<_>) =
            self.records.iter().cloned().partition(|(_, fence)| near(fence));
        let fences: Vec<_> = elsewhere.iter().map(|(_, fence)| fence).collect();
        let others = by_slot(&fences)
            .into_iter()
            .map(|places| part(places.into_iter().map(|place| elsewhere[place].clone()).collect()));
        ((!beside.is_empty()).then(|| part(beside.clone())), others.collect())
    }

    /// What `lua/fence.lua` takes: keys, and arguments.
    pub fn words(&self) -> (impl Iterator<Item = &str>, [String; 3]) {
        let words = [self.fence.0, self.ttl.get(), self.records.len() as u64].map(|word| word.to_string());
        (self.records.iter().map(|(_, key)| key.as_str()), words)
    }

    /// What `lua/fence.lua` answered: the reply of the script, or why it did not run.
    pub fn judge(&self, reply: Reply) -> Result<Reply> {
        let Reply::Status(verdict) = &reply else { return Ok(reply) };
        let mut words = verdict.split(' ');
        let (word, number) = (words.next(), words.next().and_then(|number| number.parse::<usize>().ok()));
        let Some((record, key)) = number.and_then(|number| self.records.get(number.wrapping_sub(1))) else {
            return Ok(reply);
        };
        let seen = words.next().and_then(|seen| Fence::from_stored(seen.as_bytes()));
        Err(match (word, seen) {
            (Some("stale"), Some(seen)) => self.stale(record, seen),
            (Some("mistyped"), _) => {
                let text = "WRONGTYPE Operation against a key holding the wrong kind of value";
                Error::new(ErrorKind::WrongType, text).about(key)
            }
            _ => corrupt(key),
        })
    }

    /// The records with the keys of their fences.
    pub fn records(&self) -> &[(String, String)] {
        &self.records
    }

    /// Whether what is stored as the fence of a record allows the write.
    pub fn compare(&self, record: &str, key: &str, stored: Option<&[u8]>) -> Result<()> {
        let seen = stored.map(|stored| Fence::from_stored(stored).ok_or_else(|| corrupt(key))).transpose()?;
        match seen.filter(|seen| seen.0 > self.fence.0) {
            Some(seen) => Err(self.stale(record, seen)),
            None => Ok(()),
        }
    }

    fn stale(&self, record: &str, seen: Fence) -> Error {
        let (own, current) = (self.fence.0, seen.0);
        let text = format!(
            "a later holder of the lock has written (fence {current}, this write has {own}), so nothing was written"
        );
        Error::new(ErrorKind::StaleFence, text).about(record).with_fences(own, current)
    }

    /// The same in the embedded engine: `write` happens under a guard, if there is one.
    pub fn around<T: Outcome>(
        guard: Option<&Self>,
        db: &mut Database,
        write: impl FnOnce(&mut Database) -> Result<T>,
    ) -> Result<T> {
        let Some(guard) = guard else { return write(db) };
        for (record, key) in &guard.records {
            guard.compare(record, key, db.get(key)?)?;
        }
        let answer = write(db)?;
        if !answer.mistaken() {
            for (_, key) in &guard.records {
                let left = db.ttl(key).flatten().map_or(guard.ttl, |left| left.max(guard.ttl));
                db.set(key, guard.fence.0.to_string().into_bytes(), Some(left));
            }
        }
        Ok(answer)
    }
}

fn corrupt(key: &str) -> Error {
    Error::new(ErrorKind::CorruptEntry, format!("the entry {key:?} is no fence")).about(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_from_1_are_fences() {
        for bad in [0.0, -1.0, 1.5, f64::NAN, f64::INFINITY, 9_007_199_254_740_992.0] {
            assert!(Fence::from_number(bad).is_err(), "{bad}");
        }
        assert_eq!(Fence::from_number(9_007_199_254_740_991.0).unwrap(), Fence(MAX));
        for bad in ["", "0", "07", "+7", "-1", "1.5", "7 ", "9007199254740992", "99999999999999999999", "x"] {
            assert_eq!(Fence::from_stored(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Fence::from_stored(b"9007199254740991"), Some(Fence(MAX)));
    }

    #[test]
    fn a_verdict_names_the_record_that_it_is_about() {
        let guard = Fence(5).guard(["a", "b"].map(String::from), |record| format!("fence {record}"), None);
        let refused = |verdict: &str| guard.judge(Reply::Status(verdict.into())).unwrap_err();
        let stale = refused("stale 2 7");
        assert_eq!(
            (stale.kind(), stale.key(), stale.fences()),
            (ErrorKind::StaleFence, Some("b"), Some([5, 7]))
        );
        assert_eq!(refused("corrupt 1").key(), Some("fence a"));
        assert_eq!(refused("mistyped 2").kind(), ErrorKind::WrongType);
        assert_eq!(guard.judge(Reply::Int(1)).unwrap(), Reply::Int(1));
    }

    #[test]
    fn fences_are_checked_by_slot() {
        let guard = Fence(5).guard(
            ["{a}1", "{b}1", "{a}2", "{b}2", "c"].map(String::from),
            |record| record.to_owned(),
            None,
        );
        let names =
            |guard: &Guard| guard.records.iter().map(|(record, _)| record.clone()).collect::<Vec<_>>();
        let (near, others) = guard.by_slot(Some("{a}"));
        assert_eq!(near.as_ref().map(names).unwrap(), ["{a}1", "{a}2"]);
        let mut others: Vec<_> = others.iter().map(names).collect();
        others.sort();
        assert_eq!(others, [vec!["c"], vec!["{b}1", "{b}2"]]);
        let (none, all) = guard.by_slot(None);
        assert!(none.is_none() && all.len() == 3);
    }
}
