//! What a node says when it does not run a command.

use crate::connection::config::Address;
use crate::error::{Error, ErrorKind};
use crate::key::SLOTS;

/// Where a command has to go instead. None of these did anything.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The slot belongs to another node for good.
    Moved {
        /// The slot.
        slot: u16,
        /// The node. Without a host, it is that of the node that said so.
        address: Address,
    },
    /// The key may have gone ahead to the node that is taking the slot over.
    Ask {
        /// That node.
        address: Address,
    },
    /// Later.
    Later,
}

/// The longest name of a host that is accepted.
const MAX_HOST: usize = 255;

impl Refusal {
    /// What an error reply says about where to go. `None` if it is the outcome of the command.
    pub fn of(error: &Error) -> Option<Self> {
        let mut words = error.message().split(' ');
        match (error.kind(), words.next()?) {
            (ErrorKind::Server, "MOVED") => {
                let (slot, address) = target(words)?;
                Some(Self::Moved { slot, address })
            }
            (ErrorKind::Server, "ASK") => target(words).map(|(_, address)| Self::Ask { address }),
            (
                ErrorKind::ServerNotReady,
                "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "MASTERDOWN" | "READONLY",
            ) => Some(Self::Later),
            _ => None,
        }
    }
}

/// `slot host:port`, from a server that may say anything.
fn target<'text>(mut words: impl Iterator<Item = &'text str>) -> Option<(u16, Address)> {
    let slot = words.next()?.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    if words.next().is_some() {
        return None;
    }
    // Node and ioredis write IPv6 in brackets, Redis does not.
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address(host, port.parse().ok()?).map(|address| (slot, address))
}

/// An address that a server named, unless it cannot be one. The host may be empty.
pub fn address(host: &str, port: u16) -> Option<Address> {
    let is_host = host.len() <= MAX_HOST
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:%".contains(&byte));
    (is_host && port != 0).then(|| Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ErrorKind, text: &str) -> Option<Refusal> {
        Refusal::of(&Error::new(kind, text.to_owned()))
    }

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.to_owned(), port }
    }

    #[test]
    fn redirections_are_read() {
        let moved = |slot, host, port| Some(Refusal::Moved { slot, address: at(host, port) });
        assert_eq!(of(ErrorKind::Server, "MOVED 3999 10.0.0.1:6381"), moved(3999, "10.0.0.1", 6381));
        assert_eq!(of(ErrorKind::Server, "MOVED 0 ::1:6381"), moved(0, "::1", 6381));
        assert_eq!(of(ErrorKind::Server, "MOVED 16383 [fe80::1%eth0]:1"), moved(16383, "fe80::1%eth0", 1));
        assert_eq!(of(ErrorKind::Server, "MOVED 1 :6381"), moved(1, "", 6381));
        assert_eq!(of(ErrorKind::Server, "MOVED 1 __proto__:1"), moved(1, "__proto__", 1));
        assert_eq!(of(ErrorKind::Server, "ASK 1 h:2"), Some(Refusal::Ask { address: at("h", 2) }));
        assert_eq!(of(ErrorKind::ServerNotReady, "TRYAGAIN Multiple keys"), Some(Refusal::Later));
        assert_eq!(of(ErrorKind::ServerNotReady, "OOM command not allowed"), None);
    }

    #[test]
    fn what_is_no_redirection_is_the_outcome() {
        let long = "a".repeat(256);
        for text in [
            "MOVED",
            "MOVED 1",
            "MOVED 1 ",
            "MOVED x h:1",
            "MOVED -1 h:1",
            "MOVED 16384 h:1",
            "MOVED 99999999999999999999 h:1",
            "MOVED 1 h",
            "MOVED 1 h:",
            "MOVED 1 h:0",
            "MOVED 1 h:65536",
            "MOVED 1 h:1 more",
            "MOVED 1 ?:1",
            "MOVED 1 a\r\nb:1",
            "MOVED 1 a\0b:1",
            "MOVED 1 user@h:1",
            "MOVED 1 h/path:1",
            "MOVED  1 h:1",
            "moved 1 h:1",
            "ASK 1 h:x",
            "ASKED 1 h:1",
            "ERR MOVED 1 h:1",
            "",
        ] {
            assert_eq!(of(ErrorKind::Server, text), None, "{text}");
        }
        assert_eq!(of(ErrorKind::Server, &format!("MOVED 1 {long}:1")), None);
        assert_eq!(of(ErrorKind::Unavailable, "MOVED 1 h:1"), None);
    }
}
