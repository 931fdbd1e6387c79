//! Commands on strings.

use super::{
    Call, Command, add, bytes_or_nil, count, flag, integer, not_an_integer, server_error, syntax_error,
};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::Database;
use crate::time::Millis;

/// The longest string that a server holds by default (`proto-max-bulk-len`).
const MAX_STRING_BYTES: usize = 512 * 1024 * 1024;

pub(super) const COMMANDS: &[Command] = &[
    Command::data("get", 2, get),
    Command::data("set", -3, set),
    Command::data("setnx", 3, setnx),
    Command::data("setex", 4, |db, call| set_with_ttl(db, call, Expiry::EX)),
    Command::data("psetex", 4, |db, call| set_with_ttl(db, call, Expiry::PX)),
    Command::data("mset", -3, mset),
    Command::data("mget", -2, mget),
    Command::data("append", 3, append),
    Command::data("strlen", 2, strlen),
    Command::data("incr", 2, |db, call| increment(db, call, 1)),
    Command::data("decr", 2, |db, call| increment(db, call, -1)),
    Command::data("incrby", 3, incrby),
    Command::data("decrby", 3, decrby),
];

fn get(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(bytes_or_nil(db.get(key)?))
}

/// How a time is given: in what unit, and whether from now or from 1970.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Expiry {
    unit: i64,
    since_1970: bool,
}

impl Expiry {
    const EX: Self = Self { unit: 1000, since_1970: false };
    const PX: Self = Self { unit: 1, since_1970: false };
    const EXAT: Self = Self { unit: 1000, since_1970: true };
    const PXAT: Self = Self { unit: 1, since_1970: true };

    /// The time to live that an argument means; zero for a date that has passed.
    fn ttl(self, db: &Database, call: Call, amount: &[u8]) -> Result<Millis> {
        let amount = integer(amount).ok_or_else(not_an_integer)?;
        let now = db.unix_millis();
        // The server counts in dates, so it refuses what no date can hold.
        let millis = amount
            .checked_mul(self.unit)
            .filter(|millis| *millis > 0 && (self.since_1970 || millis.checked_add(now).is_some()))
            .ok_or_else(|| call.invalid_expire_time())?;
        let ttl = if self.since_1970 { millis - now } else { millis };
        Ok(Millis::new(ttl.max(0).unsigned_abs()))
    }
}

/// The options of `SET`.
#[derive(Default)]
struct SetOptions<'a> {
    if_absent: bool,
    if_present: bool,
    give_old: bool,
    keep_ttl: bool,
    expiry: Option<(Expiry, &'a [u8])>,
}

impl<'a> SetOptions<'a> {
    fn parse(words: &'a [Vec<u8>]) -> Result<Self> {
        let mut options = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let expiry = match word.to_ascii_uppercase().as_slice() {
                b"NX" if !options.if_present => {
                    options.if_absent = true;
                    continue;
                }
                b"XX" if !options.if_absent => {
                    options.if_present = true;
                    continue;
                }
                b"GET" => {
                    options.give_old = true;
                    continue;
                }
                b"KEEPTTL" if options.expiry.is_none() => {
                    options.keep_ttl = true;
                    continue;
                }
                b"EX" => Expiry::EX,
                b"PX" => Expiry::PX,
                b"EXAT" => Expiry::EXAT,
                b"PXAT" => Expiry::PXAT,
                _ => return Err(syntax_error()),
            };
            // The same option twice is accepted, and the last one counts.
            let conflicting = options.keep_ttl || options.expiry.is_some_and(|(other, _)| other != expiry);
            match words.next() {
                Some(amount) if !conflicting => options.expiry = Some((expiry, amount)),
                _ => return Err(syntax_error()),
            }
        }
        Ok(options)
    }
}

fn set(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, value, options @ ..] = call.args else { return Err(call.wrong_arity()) };
    let options = SetOptions::parse(options)?;
    let ttl = options.expiry.map(|(expiry, amount)| expiry.ttl(db, call, amount)).transpose()?;
    let old = if options.give_old { Some(bytes_or_nil(db.get(key)?)) } else { None };
    let present = db.exists(key);
    if options.if_absent && present || options.if_present && !present {
        return Ok(old.unwrap_or(Reply::Nil));
    }
    if options.keep_ttl {
        db.set_keeping_ttl(key, value.clone());
    } else {
        db.set(key, value.clone(), ttl);
    }
    Ok(old.unwrap_or_else(Reply::ok))
}

fn setnx(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, value] = call.args else { return Err(call.wrong_arity()) };
    Ok(flag(db.set_if_absent(key, value.clone(), None)))
}

fn set_with_ttl(db: &mut Database, call: Call, expiry: Expiry) -> Result<Reply> {
    let [key, amount, value] = call.args else { return Err(call.wrong_arity()) };
    let ttl = expiry.ttl(db, call, amount)?;
    db.set(key, value.clone(), Some(ttl));
    Ok(Reply::ok())
}

fn mset(db: &mut Database, call: Call) -> Result<Reply> {
    let (pairs, []) = call.args.as_chunks() else { return Err(call.wrong_arity()) };
    for [key, value] in pairs {
        db.set(key, value.clone(), None);
    }
    Ok(Reply::ok())
}

/// A key of another type counts as absent here, and here only.
fn mget(db: &mut Database, call: Call) -> Result<Reply> {
    Ok(Reply::List(call.args.iter().map(|key| bytes_or_nil(db.get(key).unwrap_or(None))).collect()))
}

fn append(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, suffix] = call.args else { return Err(call.wrong_arity()) };
    let Some(text) = db.text_mut(key)? else {
        db.set(key, suffix.clone(), None);
        return Ok(count(suffix.len()));
    };
    if text.len().saturating_add(suffix.len()) > MAX_STRING_BYTES {
        return Err(server_error("string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    text.extend_from_slice(suffix);
    Ok(count(text.len()))
}

fn strlen(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(count(db.get(key)?.map_or(0, <[u8]>::len)))
}

fn incrby(db: &mut Database, call: Call) -> Result<Reply> {
    let [_, delta] = call.args else { return Err(call.wrong_arity()) };
    increment(db, call, integer(delta).ok_or_else(not_an_integer)?)
}

fn decrby(db: &mut Database, call: Call) -> Result<Reply> {
    let [_, delta] = call.args else { return Err(call.wrong_arity()) };
    let delta = integer(delta).ok_or_else(not_an_integer)?;
    increment(db, call, delta.checked_neg().ok_or_else(|| server_error("decrement would overflow"))?)
}

fn increment(db: &mut Database, call: Call, delta: i64) -> Result<Reply> {
    let [key, ..] = call.args else { return Err(call.wrong_arity()) };
    let sum = add(db.get(key)?, delta, "value is not an integer or out of range")?;
    db.set_keeping_ttl(key, sum.to_string().into_bytes());
    Ok(Reply::Int(sum))
}
