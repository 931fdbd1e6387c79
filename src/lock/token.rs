//! Tokens: the value of a lock, which names one acquisition and says who made it.
//!
//! `ff1:{id}:{pid}:{caps}:{host}:{label}` is the claim, made by the client and known before the lock is granted.
//! The server appends `:{acquired at, in milliseconds since 1970}:{fence}`, and both together are the token.

use std::fmt::Write as _;
use std::sync::Arc;

use super::machine::Caps;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Millis;

const VERSION: &str = "ff1";
/// Of the random part of a claim, in hex.
const ID_DIGITS: usize = 32;
const HEX: &[u8; 16] = b"0123456789abcdef";
/// The longest host name or label that is kept, in bytes as written.
const MAX_TEXT_BYTES: usize = 128;

/// Who claims a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimant {
    /// Name of the machine.
    pub host: String,
    /// Id of the process.
    pub pid: u32,
    /// What the program calls itself, or nothing.
    pub label: String,
    /// When the lock ends, if nobody releases it.
    pub caps: Caps,
}

impl Claimant {
    /// What all claims of this claimant say.
    pub fn signature(&self) -> Signature {
        let mut signature = format!("{}:", self.pid);
        let _ = match self.caps.liveness {
            None => write!(signature, "-"),
            Some(liveness) => write!(signature, "{}", liveness.get()),
        };
        if let Some(limit) = self.caps.max_hold {
            let _ = write!(signature, "+{}", limit.get());
        }
        for text in [&self.host, &self.label] {
            signature.push(':');
            escape(text, &mut signature);
        }
        Signature(signature.into())
    }
}

/// A claimant as claims name it.
#[derive(Debug, Clone)]
pub struct Signature(Arc<str>);

impl Signature {
    /// A claim that nobody made before.
    pub fn claim(&self) -> String {
        let mut claim = String::with_capacity(VERSION.len() + ID_DIGITS + 2 + self.0.len());
        claim.push_str(VERSION);
        claim.push(':');
        // By hand, without a formatter: every acquisition has a claim.
        for byte in rand::random::<[u8; ID_DIGITS / 2]>() {
            for digit in [byte >> 4, byte & 15] {
                claim.push(char::from(HEX[usize::from(digit)]));
            }
        }
        claim.push(':');
        claim.push_str(&self.0);
        claim
    }
}

/// A claim in two parts, of which the second is the same for all claims with one signature.
pub fn split_claim(claim: &str) -> (&str, &str) {
    claim.split_at_checked(VERSION.len() + 1 + ID_DIGITS).unwrap_or((claim, ""))
}

/// What a token of ours says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Who holds the lock.
    pub claimant: Claimant,
    /// Milliseconds since 1970, by the server's clock.
    pub acquired_at: u64,
    /// Greater than that of any earlier acquisition.
    pub fence: u64,
}

impl Token {
    /// What a token says; `None` if it is not one of ours.
    pub fn parse(token: &[u8]) -> Option<Self> {
        let parts: Vec<&str> = std::str::from_utf8(token).ok()?.split(':').collect();
        let [version, _id, pid, caps, host, label, acquired_at, fence] = parts[..] else { return None };
        if version != VERSION {
            return None;
        }
        let millis = |text: &str| text.parse().ok().map(Millis::new);
        let (liveness, max_hold) = match caps.split_once('+') {
            Some((liveness, limit)) => (liveness, Some(millis(limit)?)),
            None => (caps, None),
        };
        let liveness = if liveness == "-" { None } else { Some(millis(liveness)?) };
        let caps = Caps { liveness, max_hold };
        let claimant =
            Claimant { host: unescape(host), pid: pid.parse().ok()?, label: unescape(label), caps };
        Some(Self { claimant, acquired_at: acquired_at.parse().ok()?, fence: fence.parse().ok()? })
    }

    /// The claim that a token of ours starts with.
    pub fn claim_of(token: &str) -> Option<&str> {
        let mut parts = token.rsplitn(3, ':');
        parts.nth(2).filter(|claim| claim.starts_with(VERSION))
    }

    /// The fence of a token that the store made.
    pub fn fence_of(token: &str) -> Result<u64> {
        token.rsplit(':').next().and_then(|fence| fence.parse().ok()).ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "the server answered with a token that has no fence, please report it",
            )
        })
    }
}

/// Writes a text without colons, percent signs and control characters, and cuts it where it gets too long.
fn escape(text: &str, to: &mut String) {
    let end = to.len() + MAX_TEXT_BYTES;
    for character in text.chars() {
        let whole = to.len();
        if character == ':' || character == '%' || character.is_control() {
            let _ = write!(to, "%{:02x}.", character as u32);
        } else {
            to.push(character);
        }
        if to.len() > end {
            to.truncate(whole);
            return;
        }
    }
}

fn unescape(text: &str) -> String {
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_once('.').unwrap_or((part, ""));
        plain.extend(u32::from_str_radix(code, 16).ok().and_then(char::from_u32));
        plain.push_str(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_went_into_its_claim() {
        let times = [None, Some(Millis::new(1500))];
        for (liveness, max_hold) in times.iter().flat_map(|one| times.map(|other| (*one, other))) {
            let caps = Caps { liveness, max_hold };
            let claimant = Claimant {
                host: "web-1.example".into(),
                pid: 4711,
                label: "a:b%c\u{1}\u{85}é ".into(),
                caps,
            };
            let token = format!("{}:1700000000000:1700000000000123", claimant.signature().claim());
            let parsed = Token::parse(token.as_bytes()).unwrap();
            assert_eq!(
                parsed,
                Token { claimant, acquired_at: 1_700_000_000_000, fence: 1_700_000_000_000_123 }
            );
            assert_eq!(Token::fence_of(&token).unwrap(), 1_700_000_000_000_123);
            assert_eq!(Token::claim_of(&token), token.strip_suffix(":1700000000000:1700000000000123"));
        }
    }

    #[test]
    fn no_two_claims_are_alike_and_none_starts_another() {
        let claimant = Claimant { host: String::new(), pid: 1, label: String::new(), caps: Caps::default() };
        let signature = claimant.signature();
        let (one, other) = (signature.claim(), signature.claim());
        assert!(!one.starts_with(&other) && !other.starts_with(&one));
    }

    #[test]
    fn claims_with_one_signature_end_alike() {
        let claimant = Claimant { host: "h".into(), pid: 1, label: "l".into(), caps: Caps::default() };
        let signature = claimant.signature();
        let (one, other) = (signature.claim(), signature.claim());
        let ((begin, end), (other_begin, other_end)) = (split_claim(&one), split_claim(&other));
        assert_eq!((end, other_end), (":1:-:h:l", ":1:-:h:l"));
        assert_ne!(begin, other_begin);
        assert_eq!(format!("{begin}{end}"), one);
        assert_eq!(split_claim("short"), ("short", ""));
    }

    #[test]
    fn values_of_others_are_no_tokens() {
        for foreign in [
            "",
            "4d0ee5d3-3f0a-4a4c-a1ce-2f6b1c0d9e11",
            r#"{"owner":"x","expiresAt":1}"#,
            "ff1:::::::",
            "ff2:0:1:-:h:l:1:1",
            "ff1:0:1:x:h:l:1:1",
        ] {
            assert_eq!(Token::parse(foreign.as_bytes()), None, "{foreign}");
            assert!(
                Token::claim_of(foreign).is_none_or(|claim| foreign.starts_with("ff1:") && claim != foreign)
            );
        }
        assert_eq!(Token::parse(b"ff1:\xff"), None);
        assert_eq!(Token::claim_of("4d0ee5d3:1:2"), None);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let claimant =
            Claimant { host: "ü".repeat(500), pid: 1, label: "%".repeat(500), caps: Caps::default() };
        let token = Token::parse(format!("{}:1:2", claimant.signature().claim()).as_bytes()).unwrap();
        assert_eq!(token.claimant.host, "ü".repeat(64));
        assert_eq!(token.claimant.label, "%".repeat(32));
    }
}
