//! The data of an engine, as one atomic section sees it.

use std::collections::BTreeSet;
use std::sync::Arc;

use indexmap::IndexMap;

use super::clock::Clock;
use super::entry::{Entry, Hash, Set, Value};
use super::sorted_set::SortedSet;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Millis;

/// How many due entries one section removes besides those it touches: enough to keep up, as a section rarely
/// adds more than one, and too few to make anyone wait.
const REMOVED_PER_SECTION: usize = 16;

type Key = Arc<[u8]>;

/// All entries of an engine. An entry whose time is over is invisible at once, and removed when it is touched or
/// when its turn comes.
///
/// A time to live of zero is over before it starts: the entry is gone, or never comes to be.
pub struct Database {
    clock: Clock,
    /// The time of the current section: it stands still, so that a section cannot contradict itself.
    now: Millis,
    entries: IndexMap<Key, Entry>,
    /// The entries that expire, soonest first.
    deadlines: BTreeSet<(Millis, Key)>,
    /// The hashes, sets and sorted sets that this section may have emptied.
    changed: Vec<Key>,
}

impl Database {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            now: clock.now(),
            clock,
            entries: IndexMap::new(),
            deadlines: BTreeSet::new(),
            changed: Vec::new(),
        }
    }

    pub(super) fn begin_section(&mut self) {
        self.now = self.clock.now();
        self.remove_due(REMOVED_PER_SECTION);
    }

    pub(super) fn end_section(&mut self) {
        // To find such an entry is to remove it.
        while let Some(key) = self.changed.pop() {
            self.find(&key);
        }
    }

    /// The time of this section, on the engine's clock.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Microseconds since 1970.
    pub fn unix_micros(&self) -> u64 {
        u64::try_from(self.clock.unix().as_micros()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since 1970.
    pub(super) fn unix_millis(&self) -> i64 {
        i64::try_from(self.clock.unix().as_millis()).unwrap_or(i64::MAX)
    }

    /// The string at `key`.
    pub fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<&[u8]>> {
        Ok(self.text_mut(key.as_ref())?.map(|text| text.as_slice()))
    }

    /// The string at `key`, to be changed in place.
    pub(super) fn text_mut(&mut self, key: &[u8]) -> Result<Option<&mut Vec<u8>>> {
        match self.find(key) {
            None => Ok(None),
            Some(index) => match &mut self.entries[index].value {
                Value::Text(text) => Ok(Some(text)),
                _ => Err(wrong_type(key)),
            },
        }
    }

    /// Sets `key` to a string, whatever it held, with this time to live or none.
    pub fn set(&mut self, key: impl AsRef<[u8]>, value: Vec<u8>, ttl: Option<Millis>) {
        let key = key.as_ref();
        if ttl == Some(Millis::new(0)) {
            self.delete(key);
            return;
        }
        let index = self.put(key, Value::Text(value));
        self.schedule(index, ttl.map(|ttl| self.after(ttl)));
    }

    /// Like [`Database::set`], but what was there keeps its time to live.
    pub(super) fn set_keeping_ttl(&mut self, key: &[u8], value: Vec<u8>) {
        self.put(key, Value::Text(value));
    }

    /// Like [`Database::set`], but only if there is nothing at `key`; says whether it did.
    pub fn set_if_absent(&mut self, key: impl AsRef<[u8]>, value: Vec<u8>, ttl: Option<Millis>) -> bool {
        let key = key.as_ref();
        let absent = self.find(key).is_none();
        if absent {
            self.set(key, value, ttl);
        }
        absent
    }

    /// The hash at `key`. Never an empty one.
    pub fn hash(&mut self, key: impl AsRef<[u8]>) -> Result<Option<&Hash>> {
        let key = key.as_ref();
        match self.find(key) {
            None => Ok(None),
            Some(index) => match &self.entries[index].value {
                Value::Hash(hash) => Ok(Some(hash)),
                _ => Err(wrong_type(key)),
            },
        }
    }

    /// The hash at `key`, to be changed, and made if it is not there. One that is left empty counts as absent
    /// from then on, as in Redis.
    pub fn hash_mut(&mut self, key: impl AsRef<[u8]>) -> Result<&mut Hash> {
        let key = key.as_ref();
        let index = match self.find(key) {
            Some(index) => index,
            None => self.put(key, Value::Hash(Hash::default())),
        };
        match self.entries.get_index_mut(index) {
            Some((key, Entry { value: Value::Hash(hash), .. })) => {
                self.changed.push(Arc::clone(key));
                Ok(hash)
            }
            _ => Err(wrong_type(key)),
        }
    }

    /// The sorted set at `key`. Never an empty one.
    pub fn sorted(&mut self, key: impl AsRef<[u8]>) -> Result<Option<&SortedSet>> {
        let key = key.as_ref();
        match self.find(key) {
            None => Ok(None),
            Some(index) => match &self.entries[index].value {
                Value::Sorted(set) => Ok(Some(set)),
                _ => Err(wrong_type(key)),
            },
        }
    }

    /// The sorted set at `key`, to be changed, and made if it is not there. One that is left empty counts as absent
    /// from then on, as in Redis.
    pub fn sorted_mut(&mut self, key: impl AsRef<[u8]>) -> Result<&mut SortedSet> {
        let key = key.as_ref();
        let index = match self.find(key) {
            Some(index) => index,
            None => self.put(key, Value::Sorted(SortedSet::default())),
        };
        match self.entries.get_index_mut(index) {
            Some((key, Entry { value: Value::Sorted(set), .. })) => {
                self.changed.push(Arc::clone(key));
                Ok(set)
            }
            _ => Err(wrong_type(key)),
        }
    }

    /// The set at `key`. Never an empty one.
    pub fn members(&mut self, key: impl AsRef<[u8]>) -> Result<Option<&Set>> {
        let key = key.as_ref();
        match self.find(key) {
            None => Ok(None),
            Some(index) => match &self.entries[index].value {
                Value::Set(set) => Ok(Some(set)),
                _ => Err(wrong_type(key)),
            },
        }
    }

    /// The set at `key`, to be changed, and made if it is not there. One that is left empty counts as absent from then
    /// on, as in Redis.
    pub fn members_mut(&mut self, key: impl AsRef<[u8]>) -> Result<&mut Set> {
        let key = key.as_ref();
        let index = match self.find(key) {
            Some(index) => index,
            None => self.put(key, Value::Set(Set::default())),
        };
        match self.entries.get_index_mut(index) {
            Some((key, Entry { value: Value::Set(set), .. })) => {
                self.changed.push(Arc::clone(key));
                Ok(set)
            }
            _ => Err(wrong_type(key)),
        }
    }

    /// Removes `key` and says whether it was there.
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> bool {
        let found = self.find(key.as_ref());
        if let Some(index) = found {
            self.remove(index);
        }
        found.is_some()
    }

    /// Whether there is anything at `key`.
    pub fn exists(&mut self, key: impl AsRef<[u8]>) -> bool {
        self.find(key.as_ref()).is_some()
    }

    /// Gives `key` a new time to live; `false` if it is absent.
    pub fn expire(&mut self, key: impl AsRef<[u8]>, ttl: Millis) -> bool {
        let found = self.find(key.as_ref());
        match found {
            Some(index) if ttl.get() == 0 => self.remove(index),
            Some(index) => self.schedule(index, Some(self.after(ttl))),
            None => {}
        }
        found.is_some()
    }

    /// Takes the time to live from `key`; `false` if it is absent or has none.
    pub fn persist(&mut self, key: impl AsRef<[u8]>) -> bool {
        match self.find(key.as_ref()) {
            Some(index) if self.entries[index].deadline.is_some() => {
                self.schedule(index, None);
                true
            }
            _ => false,
        }
    }

    /// `None` if `key` is absent, `Some(None)` if it does not expire, otherwise the time it has left.
    pub fn ttl(&mut self, key: impl AsRef<[u8]>) -> Option<Option<Millis>> {
        let index = self.find(key.as_ref())?;
        let deadline = self.entries[index].deadline;
        Some(deadline.map(|deadline| Millis::new(deadline.get().saturating_sub(self.now.get()))))
    }

    /// The name of the type of what `key` holds.
    pub(super) fn type_name(&mut self, key: &[u8]) -> Option<&'static str> {
        self.find(key).map(|index| self.entries[index].value.type_name())
    }

    /// The number of entries.
    pub(super) fn len(&mut self) -> usize {
        self.remove_due(usize::MAX);
        self.entries.len()
    }

    /// All keys with the names of their types.
    pub fn keys(&self) -> impl Iterator<Item = (&[u8], &'static str)> {
        self.range(0, self.entries.len())
    }

    /// Up to `count` keys that come before `cursor`, and the cursor for the next ones; zero is both the first and
    /// the last cursor.
    ///
    /// From the end to the start, because removing an entry moves the last one into its place: so an entry that
    /// stays during the whole scan may come twice, but is never missed.
    pub(super) fn scan(&self, cursor: u64, count: u64) -> (u64, impl Iterator<Item = (&[u8], &'static str)>) {
        let all = self.entries.len();
        let end = match usize::try_from(cursor) {
            Ok(0) | Err(_) => all,
            Ok(cursor) => cursor.min(all),
        };
        let start = end.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        (start as u64, self.range(start, end))
    }

    fn range(&self, start: usize, end: usize) -> impl Iterator<Item = (&[u8], &'static str)> {
        let living =
            self.entries.iter().skip(start).take(end - start).filter(|(_, entry)| !entry.is_gone(self.now));
        living.map(|(key, entry)| (&**key, entry.value.type_name()))
    }

    /// Removes everything, and gives back its memory.
    pub(super) fn clear(&mut self) {
        self.entries = IndexMap::new();
        self.deadlines = BTreeSet::new();
    }

    /// Where the entry of `key` is, until the next change; removes it if its time is over.
    fn find(&mut self, key: &[u8]) -> Option<usize> {
        let (index, _, entry) = self.entries.get_full(key)?;
        if entry.is_gone(self.now) {
            self.remove(index);
            return None;
        }
        Some(index)
    }

    /// Stores a value and leaves the time to live of what was there.
    fn put(&mut self, key: &[u8], value: Value) -> usize {
        match self.find(key) {
            Some(index) => {
                self.entries[index].value = value;
                index
            }
            None => self.entries.insert_full(Key::from(key), Entry::new(value)).0,
        }
    }

    fn remove(&mut self, index: usize) {
        if let Some((key, Entry { deadline: Some(deadline), .. })) = self.entries.swap_remove_index(index) {
            self.deadlines.remove(&(deadline, key));
        }
    }

    fn schedule(&mut self, index: usize, deadline: Option<Millis>) {
        let Some((key, entry)) = self.entries.get_index_mut(index) else { return };
        if let Some(old) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(old, Arc::clone(key)));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, Arc::clone(key)));
        }
    }

    fn after(&self, ttl: Millis) -> Millis {
        Millis::new(self.now.get().saturating_add(ttl.get()))
    }

    fn remove_due(&mut self, at_most: usize) {
        for _ in 0..at_most {
            if self.deadlines.first().is_none_or(|(deadline, _)| *deadline >= self.now) {
                return;
            }
            if let Some((_, key)) = self.deadlines.pop_first() {
                self.entries.swap_remove(&key);
            }
        }
    }
}

fn wrong_type(key: &[u8]) -> Error {
    Error::new(ErrorKind::WrongType, "WRONGTYPE Operation against a key holding the wrong kind of value")
        .about(&String::from_utf8_lossy(key))
}

#[cfg(test)]
mod tests;
