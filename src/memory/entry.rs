//! What a key holds.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::sorted_set::SortedSet;
use crate::time::Millis;

/// Up to this many fields, Redis keeps a hash as a list, in the order in which the fields were added
/// (`hash-max-listpack-entries`). Beyond, its order is arbitrary.
const ORDERED_FIELDS: usize = 128;

/// A value and when it expires.
pub(super) struct Entry {
    pub(super) value: Value,
    /// The last millisecond of its life, if it ends.
    pub(super) deadline: Option<Millis>,
}

impl Entry {
    pub(super) fn new(value: Value) -> Self {
        Self { value, deadline: None }
    }

    /// Whether the entry must look absent. Like Redis, an entry still lives in the millisecond of its deadline:
    /// the clock is rounded down, and a lock must never end before its time. What is empty is no entry.
    pub(super) fn is_gone(&self, now: Millis) -> bool {
        self.deadline.is_some_and(|deadline| now > deadline)
            || match &self.value {
                Value::Text(_) => false,
                Value::Hash(hash) => hash.is_empty(),
                Value::Sorted(set) => set.is_empty(),
                Value::Set(set) => set.is_empty(),
            }
    }
}

/// A value of one of the types that the engine has.
pub(super) enum Value {
    Text(Vec<u8>),
    Hash(Hash),
    Sorted(SortedSet),
    Set(Set),
}

/// The members of a set.
pub type Set = BTreeSet<Vec<u8>>;

impl Value {
    /// The name of the type, as `TYPE` gives it.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Self::Text(_) => "string",
            Self::Hash(_) => "hash",
            Self::Sorted(_) => "zset",
            Self::Set(_) => "set",
        }
    }
}

/// The fields of a hash, in the order in which they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hash {
    fields: IndexMap<Vec<u8>, Vec<u8>>,
}

impl Hash {
    /// The value of a field.
    pub fn get(&self, field: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.fields.get(field.as_ref()).map(Vec::as_slice)
    }

    /// Whether there is such a field.
    pub fn contains(&self, field: impl AsRef<[u8]>) -> bool {
        self.fields.contains_key(field.as_ref())
    }

    /// Sets a field and says whether it is new. One that is not new keeps its place.
    pub fn set(&mut self, field: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> bool {
        self.fields.insert(field.into(), value.into()).is_none()
    }

    /// Removes a field and says whether it was there.
    pub fn remove(&mut self, field: impl AsRef<[u8]>) -> bool {
        let field = field.as_ref();
        if self.fields.len() <= ORDERED_FIELDS {
            self.fields.shift_remove(field).is_some()
        } else {
            self.fields.swap_remove(field).is_some()
        }
    }

    /// All fields with their values.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        self.fields.iter().map(|(field, value)| (field.as_slice(), value.as_slice()))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_hash_keeps_the_order_of_its_fields() {
        let mut hash = Hash::default();
        for field in ["a", "b", "c", "d"] {
            assert!(hash.set(field, "1"));
        }
        assert!(!hash.set("b", "2"));
        assert!(hash.remove("a"));
        assert!(!hash.remove("a"));
        assert!(hash.set("a", "3"));
        let fields: Vec<_> = hash.iter().collect();
        assert_eq!(
            fields,
            [("b", "2"), ("c", "1"), ("d", "1"), ("a", "3")].map(|(f, v)| (f.as_bytes(), v.as_bytes()))
        );
    }
}
