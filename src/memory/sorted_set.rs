//! Members with scores, in the order of Redis.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

/// A score, ordered as Redis orders scores. NaN never gets in.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Score(f64);

impl Eq for Score {}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Members ordered by score, and those of equal score by their bytes.
#[derive(Debug, Clone, Default)]
pub struct SortedSet {
    scores: HashMap<Vec<u8>, Score>,
    order: BTreeSet<(Score, Vec<u8>)>,
}

impl SortedSet {
    /// Gives a member a score, and says whether it is new. A NaN is refused like in Redis: nothing changes.
    pub fn add(&mut self, member: impl Into<Vec<u8>>, score: f64) -> bool {
        if score.is_nan() {
            return false;
        }
        // Redis knows one zero.
        let (member, score) = (member.into(), Score(score + 0.0));
        let old = self.scores.insert(member.clone(), score);
        if let Some(old) = old {
            self.order.remove(&(old, member.clone()));
        }
        self.order.insert((score, member));
        old.is_none()
    }

    /// Adds a member unless it is there already, which then keeps its score; says whether it did.
    pub fn add_if_absent(&mut self, member: impl Into<Vec<u8>>, score: f64) -> bool {
        let member = member.into();
        !self.scores.contains_key(&member) && self.add(member, score)
    }

    /// Removes a member and says whether it was there.
    pub fn remove(&mut self, member: impl AsRef<[u8]>) -> bool {
        match self.scores.remove_entry(member.as_ref()) {
            Some((member, score)) => self.order.remove(&(score, member)),
            None => false,
        }
    }

    /// The score of a member.
    pub fn score(&self, member: impl AsRef<[u8]>) -> Option<f64> {
        self.scores.get(member.as_ref()).map(|score| score.0)
    }

    /// All members with their scores, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], f64)> {
        self.order.iter().map(|(score, member)| (member.as_slice(), score.0))
    }

    /// The members of one score.
    pub fn at(&self, score: f64) -> impl Iterator<Item = &[u8]> {
        let start = Bound::Included((Score(score + 0.0), Vec::new()));
        self.order
            .range((start, Bound::Unbounded))
            .take_while(move |(found, _)| found.0 == score)
            .map(|(_, member)| member.as_slice())
    }

    /// The members whose score is below `limit`, lowest first.
    pub fn below(&self, limit: f64) -> impl Iterator<Item = &[u8]> {
        let end = Bound::Excluded((Score(limit + 0.0), Vec::new()));
        self.order.range((Bound::Unbounded, end)).map(|(_, member)| member.as_slice())
    }

    /// The number of members.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members<'a>(members: impl Iterator<Item = &'a [u8]>) -> Vec<&'a str> {
        members.map(|member| std::str::from_utf8(member).unwrap()).collect()
    }

    fn example() -> SortedSet {
        let mut set = SortedSet::default();
        for (member, score) in [("c", 2.0), ("b", 1.0), ("a", 2.0), ("d", -1.0), ("e", 10.0)] {
            assert!(set.add(member, score));
        }
        set
    }

    #[test]
    fn members_are_ordered_by_score_and_then_by_their_bytes() {
        let set = example();
        assert_eq!(members(set.iter().map(|(member, _)| member)), ["d", "b", "a", "c", "e"]);
        assert_eq!(members(set.iter().rev().map(|(member, _)| member)), ["e", "c", "a", "b", "d"]);
        assert_eq!(members(set.at(2.0)), ["a", "c"]);
        assert_eq!(members(set.at(3.0)), [""; 0]);
        assert_eq!(members(set.below(2.0)), ["d", "b"]);
        assert_eq!(members(set.below(f64::INFINITY)).len(), set.len());
    }

    #[test]
    fn a_member_has_one_score() {
        let mut set = example();
        assert!(!set.add("a", 0.0));
        assert!(!set.add_if_absent("a", 7.0));
        assert!(!set.add("a", f64::NAN));
        assert_eq!(set.score("a"), Some(0.0));
        assert_eq!(members(set.at(-0.0)), ["a"]);
        assert_eq!(set.len(), 5);
        assert!(set.remove("a"));
        assert!(!set.remove("a"));
        assert_eq!((set.score("a"), set.len()), (None, 4));
        assert!(set.add_if_absent("a", 7.0));
    }
}
