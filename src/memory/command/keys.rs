//! Commands on keys of any type, above all about how long they live.

use super::{Call, Command, count, flag, integer, not_an_integer, server_error, syntax_error};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::{Database, glob};
use crate::time::Millis;

/// How many entries a page of `SCAN` looks at if the caller does not say.
const SCAN_COUNT: i64 = 10;

pub(super) const COMMANDS: &[Command] = &[
    Command::data("del", -2, |db, call| Ok(count(call.args.iter().filter(|key| db.delete(key)).count()))),
    Command::data("unlink", -2, |db, call| Ok(count(call.args.iter().filter(|key| db.delete(key)).count()))),
    Command::data("exists", -2, |db, call| Ok(count(call.args.iter().filter(|key| db.exists(key)).count()))),
    Command::data("type", 2, type_of),
    Command::data("expire", -3, |db, call| expire(db, call, 1000)),
    Command::data("pexpire", -3, |db, call| expire(db, call, 1)),
    Command::data("ttl", 2, |db, call| ttl(db, call, |left| (left + 500) / 1000)),
    Command::data("pttl", 2, |db, call| ttl(db, call, |left| left)),
    Command::data("persist", 2, persist),
    Command::data("keys", 2, keys),
    Command::data("scan", -2, scan),
];

fn type_of(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(Reply::Status(db.type_name(key).unwrap_or("none").to_owned()))
}

/// `EXPIRE` and `PEXPIRE`: `unit` is the number of milliseconds in one of theirs.
fn expire(db: &mut Database, call: Call, unit: i64) -> Result<Reply> {
    let [key, amount, options @ ..] = call.args else { return Err(call.wrong_arity()) };
    let condition = ExpireCondition::parse(options)?;
    let ttl = integer(amount).ok_or_else(not_an_integer)?.checked_mul(unit);
    // The server counts in dates, so it refuses what no date can hold.
    let ttl = ttl.filter(|ttl| ttl.checked_add(db.unix_millis()).is_some());
    let ttl = ttl.ok_or_else(|| call.invalid_expire_time())?;
    let allowed = db.ttl(key).is_some_and(|left| condition.allows(left, ttl));
    Ok(flag(allowed && db.expire(key, Millis::new(ttl.max(0).unsigned_abs()))))
}

/// When `EXPIRE` may replace a time to live.
#[derive(Default)]
struct ExpireCondition {
    if_none: bool,
    if_any: bool,
    if_longer: bool,
    if_shorter: bool,
}

impl ExpireCondition {
    fn parse(options: &[Vec<u8>]) -> Result<Self> {
        let mut condition = Self::default();
        for option in options {
            let named = match option.to_ascii_uppercase().as_slice() {
                b"NX" => &mut condition.if_none,
                b"XX" => &mut condition.if_any,
                b"GT" => &mut condition.if_longer,
                b"LT" => &mut condition.if_shorter,
                _ => {
                    return Err(server_error(format!(
                        "Unsupported option {}",
                        String::from_utf8_lossy(option)
                    )));
                }
            };
            *named = true;
        }
        let Self { if_none, if_any, if_longer, if_shorter } = condition;
        if if_none && (if_any || if_longer || if_shorter) {
            return Err(server_error("NX and XX, GT or LT options at the same time are not compatible"));
        }
        if if_longer && if_shorter {
            return Err(server_error("GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// An entry that does not expire counts as one that lives longer than any other.
    fn allows(&self, left: Option<Millis>, ttl: i64) -> bool {
        let left = left.map(|left| i64::try_from(left.get()).unwrap_or(i64::MAX));
        !(self.if_none && left.is_some()
            || self.if_any && left.is_none()
            || self.if_longer && left.is_none_or(|left| ttl <= left)
            || self.if_shorter && left.is_some_and(|left| ttl >= left))
    }
}

/// `TTL` and `PTTL`.
fn ttl(db: &mut Database, call: Call, in_unit: fn(u64) -> u64) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(Reply::Int(match db.ttl(key) {
        None => -2,
        Some(None) => -1,
        Some(Some(left)) => i64::try_from(in_unit(left.get())).unwrap_or(i64::MAX),
    }))
}

fn persist(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(flag(db.persist(key)))
}

fn keys(db: &mut Database, call: Call) -> Result<Reply> {
    let [pattern] = call.args else { return Err(call.wrong_arity()) };
    let matching = db.keys().filter(|(key, _)| glob::matches(pattern, key));
    Ok(Reply::List(matching.map(|(key, _)| Reply::Bytes(key.to_vec())).collect()))
}

fn scan(db: &mut Database, call: Call) -> Result<Reply> {
    let [cursor, options @ ..] = call.args else { return Err(call.wrong_arity()) };
    let cursor = std::str::from_utf8(cursor).ok().and_then(|cursor| cursor.parse().ok());
    let cursor = cursor.ok_or_else(|| server_error("invalid cursor"))?;
    let (mut pattern, mut type_name, mut page_size) = (None, None, SCAN_COUNT);
    let (options, []) = options.as_chunks() else { return Err(syntax_error()) };
    for [option, value] in options {
        match option.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = Some(value),
            b"TYPE" => type_name = Some(value),
            b"COUNT" => page_size = integer(value).ok_or_else(not_an_integer)?,
            _ => return Err(syntax_error()),
        }
        if page_size < 1 {
            return Err(syntax_error());
        }
    }
    let (next, page) = db.scan(cursor, page_size.unsigned_abs());
    let matching = page.filter(|(key, name)| {
        pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && type_name.is_none_or(|wanted| wanted.eq_ignore_ascii_case(name.as_bytes()))
    });
    let matching = matching.map(|(key, _)| Reply::Bytes(key.to_vec())).collect();
    Ok(Reply::List(vec![Reply::text(&next.to_string()), Reply::List(matching)]))
}
