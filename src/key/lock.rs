//! Keys of locks, and of what is beside them.

use super::slot::{has_tag, slot, tag_of};
use super::{OwnChannel, check_name, check_prefix};
use crate::error::{Error, ErrorKind, Result};

/// Keys of locks: `{prefix}{key}` (contract of @flowmonkey/redis; the workflow service's prefix is
/// `{workflow prefix}:lock:`).
#[derive(Debug, Clone)]
pub struct LockKeys {
    prefix: String,
    /// The keys beside a lock lie in its slot of a cluster.
    clustered: bool,
}

impl LockKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the lock manager's own, `fm:lock:` by default.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_prefix("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}"), clustered: false })
    }

    /// The same in a cluster.
    pub fn in_cluster(self) -> Result<Self> {
        if self.prefix.contains('{') && !has_tag(&self.prefix) {
            let problem = "keyPrefix of locks in a cluster must not contain \"{\" without a hash tag";
            return Err(Error::new(ErrorKind::Config, problem));
        }
        Ok(Self { clustered: true, ..self })
    }

    /// The string that holds the owner's token.
    pub fn lock(&self, key: &str) -> Result<String> {
        check_name("the lock key", key)?;
        if key.starts_with(OWN) {
            return Err(Error::new(
                ErrorKind::InvalidArgument,
                format!("the lock key must not start with \"{OWN}\": such keys are beside the locks"),
            ));
        }
        Ok([self.prefix.as_str(), key].concat())
    }

    /// A key of our own beside a lock.
    fn beside(&self, key: &str, what: &str) -> String {
        let prefix = &self.prefix;
        if !self.clustered {
            return format!("{prefix}{OWN}{what}");
        }
        let tag = tag_of(slot(format!("{prefix}{key}").as_bytes()));
        format!("{prefix}{OWN}{what}:{{{tag}}}")
    }

    /// The string that counts fences: one for all locks, or one for all locks of a slot.
    pub fn fence_counter(&self, key: &str) -> String {
        self.beside(key, "fence")
    }

    /// The string that marks a claim of a lock as given up.
    pub fn tombstone(&self, key: &str, claim: &str) -> String {
        format!("{}:{claim}", self.beside(key, "withdrawn"))
    }

    /// The string that is there while there may be tombstones: without it, nobody need look for one.
    pub fn any_tombstone(&self, key: &str) -> String {
        format!("{}:any", self.beside(key, "withdrawn"))
    }

    /// The string that keeps the answer to a request about a lock.
    pub fn request(&self, key: &str, id: &str) -> String {
        format!("{}:{id}", self.beside(key, "request"))
    }

    /// The string that holds the token under which a lock was held when it was last released by force.
    pub fn forced(&self, key: &str) -> String {
        format!("{}:{key}", self.beside(key, "forced"))
    }

    /// The sorted set of the claims that wait for a lock in their order.
    pub fn queue(&self, key: &str) -> String {
        format!("{}:{key}", self.beside(key, "queue"))
    }

    /// The sorted set of the leases of those claims.
    pub fn leases(&self, key: &str) -> String {
        format!("{}:{key}", self.beside(key, "leases"))
    }

    /// The sorted set of the locks that are held, by fence. Of all slots: it is written by itself.
    pub fn index(&self) -> String {
        format!("{}{OWN}held", self.prefix)
    }

    /// What the channel on which a release of a lock is announced begins with; the full key follows, so that every
    /// process that competes for the lock listens to the same one.
    pub const RELEASED: &str = "ferroflow:released:";

    /// The channel on which a release of a lock is announced.
    pub fn released(lock_key: &str) -> String {
        format!("{}{lock_key}", Self::RELEASED)
    }

    /// The same with its name in a cluster, which lies in the slot of the lock: a script may publish nowhere else.
    pub fn announced(lock_key: &str) -> OwnChannel {
        let tag = tag_of(slot(lock_key.as_bytes()));
        OwnChannel {
            name: Self::released(lock_key),
            sharded: format!("ferroflow:released:{{{tag}}}:{lock_key}"),
        }
    }
}

/// What stands between a prefix of locks and the names of our own keys beside them.
pub(super) const OWN: &str = "ferroflow:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_announced_in_the_slot_of_the_lock() {
        for lock in ["fm:lock:job", "{app}:fm:lock:job", "a}b", "a{}b", "{", "a{b", "ü"] {
            let OwnChannel { name, sharded } = LockKeys::announced(lock);
            assert_eq!(name, format!("ferroflow:released:{lock}"));
            assert_eq!(slot(sharded.as_bytes()), slot(lock.as_bytes()), "{sharded}");
            assert!(sharded.starts_with("ferroflow:released:{") && sharded.ends_with(&format!(":{lock}")));
        }
    }
}
