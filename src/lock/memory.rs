//! Locks in the embedded engine.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    Attempt, Claim, Extent, Inspection, Listed, LockStore, Ownership, Page, QUEUE_LEASE, Release,
    ReleaseWatch, STRAY_ATTEMPT,
};
use crate::error::{Error, ErrorKind, Result};
use crate::key::LockKeys;
use crate::memory::{Database, Engine, Subscription};
use crate::time::Millis;

/// Locks in one embedded engine.
pub struct MemoryLocks {
    engine: Arc<Engine>,
    keys: LockKeys,
}

impl MemoryLocks {
    /// Locks with these keys.
    pub fn new(engine: Arc<Engine>, keys: LockKeys) -> Self {
        Self { engine, keys }
    }

    /// The next fence: more than any before, as in `acquire_lock.lua`.
    fn next_fence(&self, db: &mut Database, claim: &Claim) -> Result<u64> {
        let counter = self.keys.fence_counter(&claim.key);
        let last = db.get(&counter)?.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        let fence = (last.unwrap_or(0) + 1).max(db.unix_micros()).max(claim.floor + 1);
        db.set(&counter, fence.to_string().into_bytes(), None);
        Ok(fence)
    }

    /// Takes or keeps a place in the queue. If it is not the first, the time until the lease of the first is over.
    fn queue_up(&self, db: &mut Database, claim: &Claim) -> Result<Option<Millis>> {
        let (queue, leases) = (self.keys.queue(&claim.key), self.keys.leases(&claim.key));
        let now = db.now().get() as f64;
        db.sorted_mut(&leases)?.add(claim.id.as_str(), now + QUEUE_LEASE.get() as f64);
        let all = db.sorted_mut(&leases)?;
        let dead: Vec<Vec<u8>> = all.below(now).chain(all.at(now)).map(<[u8]>::to_vec).collect();
        for claim in &dead {
            db.sorted_mut(&leases)?.remove(claim);
            db.sorted_mut(&queue)?.remove(claim);
        }
        let waiting = db.sorted_mut(&queue)?;
        let last = waiting.iter().next_back().map_or(0.0, |(_, place)| place);
        waiting.add_if_absent(claim.id.as_str(), last + 1.0);
        // They go with the last waiter; this is for an engine whose users all gave up without a word.
        let abandoned = Millis::new(QUEUE_LEASE.get() * 20);
        db.expire(&queue, abandoned);
        db.expire(&leases, abandoned);
        let head = db.sorted_mut(&queue)?.iter().next().map(|(head, _)| head.to_vec()).unwrap_or_default();
        if head == claim.id.as_bytes() {
            return Ok(None);
        }
        let lease = db.sorted_mut(&leases)?.score(&head).unwrap_or(now);
        Ok(Some(Millis::new((lease - now).max(0.0) as u64)))
    }

    fn leave_queue(&self, db: &mut Database, key: &str, claim: &str) -> Result<bool> {
        db.sorted_mut(self.keys.leases(key))?.remove(claim);
        Ok(db.sorted_mut(self.keys.queue(key))?.remove(claim))
    }

    fn announce(&self, lock: &str) {
        self.engine.publish(LockKeys::released(lock), b"");
    }
}

/// Whether a lock's value is a token of this claim.
fn is_of(holder: &[u8], claim: &str) -> bool {
    holder.strip_prefix(claim.as_bytes()).is_some_and(|rest| rest.first() == Some(&b':'))
}

/// Who owns a lock, seen from a token.
fn ownership(db: &mut Database, lock: &str, token: &str) -> Result<Ownership> {
    Ok(match db.get(lock)? {
        None => Ownership::Expired,
        Some(holder) if holder == token.as_bytes() => Ownership::Ours,
        Some(holder) => Ownership::Taken(holder.to_vec()),
    })
}

#[async_trait]
impl LockStore for MemoryLocks {
    async fn try_acquire(&self, claim: &Claim) -> Result<Attempt> {
        let lock = self.keys.lock(&claim.key)?;
        self.engine.atomically(|db| {
            let holder = db.get(&lock)?.map(<[u8]>::to_vec);
            let tombstone = self.keys.tombstone(&claim.key, &claim.id);
            let bar = db.get(&tombstone)?.map(|bar| String::from_utf8_lossy(bar).parse().unwrap_or(u64::MAX));
            if bar.is_some_and(|bar| claim.number() < bar) {
                let given_up = Error::new(ErrorKind::Closed, "the attempt was given up before it arrived");
                return Err(given_up.about(&lock));
            }
            if claim.repetition > 0 {
                db.set(&tombstone, claim.number().to_string().into_bytes(), Some(STRAY_ATTEMPT));
            }
            let behind = if claim.fair { self.queue_up(db, claim)? } else { None };
            match (holder, behind) {
                (Some(token), _) if is_of(&token, &claim.id) => {
                    db.expire(&lock, claim.ttl);
                    self.leave_queue(db, &claim.key, &claim.id)?;
                    let token = String::from_utf8_lossy(&token).into_owned();
                    let fence = super::token::Token::fence_of(&token)?;
                    Ok(Attempt::Granted { token, fence })
                }
                (Some(holder), _) => {
                    Ok(Attempt::Held { look_again: db.ttl(&lock).flatten(), holder: Some(holder) })
                }
                (None, Some(lease)) => Ok(Attempt::Held { look_again: Some(lease), holder: None }),
                (None, None) => {
                    if claim.replicas.is_some_and(|replicas| replicas.count > 0) {
                        return Ok(Attempt::NotReplicated { reached: 0 });
                    }
                    let fence = self.next_fence(db, claim)?;
                    let token = format!("{}:{}:{fence}", claim.id, db.unix_micros() / 1000);
                    db.set(&lock, token.clone().into_bytes(), Some(claim.ttl));
                    self.leave_queue(db, &claim.key, &claim.id)?;
                    Ok(Attempt::Granted { token, fence })
                }
            }
        })
    }

    async fn release(&self, key: &str, token: &str) -> Result<Release> {
        let lock = self.keys.lock(key)?;
        let ownership = self.engine.atomically(|db| {
            let ownership = ownership(db, &lock, token)?;
            if ownership == Ownership::Ours {
                db.delete(&lock);
            }
            Ok::<_, Error>(ownership)
        })?;
        if ownership == Ownership::Ours {
            self.announce(&lock);
        }
        Ok(Release::Answered(ownership))
    }

    async fn withdraw(&self, key: &str, claim: &str) -> Result<()> {
        let lock = self.keys.lock(key)?;
        let free = self.engine.atomically(|db| {
            db.set(self.keys.tombstone(key, claim), Vec::new(), Some(STRAY_ATTEMPT));
            let waited = self.leave_queue(db, key, claim)?;
            let holder = db.get(&lock)?;
            let ours = holder.is_some_and(|holder| is_of(holder, claim));
            let free = ours || (waited && holder.is_none());
            if ours {
                db.delete(&lock);
            }
            Ok::<_, Error>(free)
        })?;
        if free {
            self.announce(&lock);
        }
        Ok(())
    }

    async fn extend(&self, key: &str, token: &str, ttl: Millis, extent: Extent) -> Result<Ownership> {
        let lock = self.keys.lock(key)?;
        self.engine.atomically(|db| {
            let ownership = ownership(db, &lock, token)?;
            if ownership == Ownership::Ours {
                let longer = db.ttl(&lock).flatten().is_some_and(|left| left >= ttl);
                if !(extent == Extent::AtLeast && longer) {
                    db.expire(&lock, ttl);
                }
            }
            Ok(ownership)
        })
    }

    async fn is_locked(&self, key: &str) -> Result<bool> {
        let lock = self.keys.lock(key)?;
        Ok(self.engine.atomically(|db| db.exists(&lock)))
    }

    async fn inspect(&self, key: &str) -> Result<Inspection> {
        let lock = self.keys.lock(key)?;
        let listening = self.engine.listeners(LockKeys::released(&lock)) as u64;
        self.engine.atomically(|db| {
            let holder = db.get(&lock)?.map(<[u8]>::to_vec);
            let queued = db.sorted(self.keys.queue(key))?.map_or(0, |queue| queue.len()) as u64;
            Ok(Inspection { holder, ttl_left: db.ttl(&lock).flatten(), queued, listening })
        })
    }

    async fn force_release(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let lock = self.keys.lock(key)?;
        let holder = self.engine.atomically(|db| {
            let holder = db.get(&lock)?.map(<[u8]>::to_vec);
            db.delete(&lock);
            Ok::<_, Error>(holder)
        })?;
        if holder.is_some() {
            self.announce(&lock);
        }
        Ok(holder)
    }

    async fn list_changes(&self, held: &[(String, u64)], ended: &[(String, u64)]) -> Result<()> {
        self.engine.atomically(|db| {
            let index = db.sorted_mut(self.keys.index())?;
            for (key, fence) in held {
                index.add(key.as_str(), *fence as f64);
            }
            for (key, fence) in ended {
                if index.score(key) == Some(*fence as f64) {
                    index.remove(key);
                }
            }
            Ok(())
        })
    }

    async fn list(&self, after: u64, limit: usize) -> Result<Page> {
        self.engine.atomically(|db| {
            let index = self.keys.index();
            let Some(all) = db.sorted(&index)? else { return Ok(Page::default()) };
            let entries: Vec<(String, u64)> = all
                .iter()
                .filter(|(_, fence)| *fence > after as f64)
                .take(limit)
                .map(|(key, fence)| (String::from_utf8_lossy(key).into_owned(), fence as u64))
                .collect();
            let next = (entries.len() == limit).then(|| entries.last().map(|(_, fence)| *fence)).flatten();
            let mut locks = Vec::new();
            for (key, _) in entries {
                let lock = self.keys.lock(&key)?;
                match db.get(&lock)?.map(<[u8]>::to_vec) {
                    Some(token) => locks.push(Listed { ttl_left: db.ttl(&lock).flatten(), key, token }),
                    None => drop(db.sorted_mut(&index)?.remove(&key)),
                }
            }
            Ok(Page { locks, next })
        })
    }

    async fn watch(&self, key: &str) -> Result<Box<dyn ReleaseWatch>> {
        let channel = LockKeys::released(&self.keys.lock(key)?);
        Ok(Box::new(MemoryReleaseWatch(self.engine.subscribe(channel))))
    }
}

struct MemoryReleaseWatch(Subscription);

#[async_trait]
impl ReleaseWatch for MemoryReleaseWatch {
    async fn released(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
