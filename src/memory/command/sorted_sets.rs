//! Commands on sorted sets.

use super::{Call, Command, bytes_or_nil, count, integer, not_an_integer, server_error};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::{Database, SortedSet};

pub(super) const COMMANDS: &[Command] = &[
    Command::data("zadd", -4, zadd),
    Command::data("zrem", -3, zrem),
    Command::data("zcard", 2, zcard),
    Command::data("zscore", 3, zscore),
    Command::data("zrange", 4, zrange),
];

/// Without options: they are words where a score is expected, and refused as such.
fn zadd(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, pairs @ ..] = call.args else { return Err(call.wrong_arity()) };
    let (pairs, []) = pairs.as_chunks() else { return Err(server_error("syntax error")) };
    let mut scored = Vec::with_capacity(pairs.len());
    for [score, member] in pairs {
        let score = std::str::from_utf8(score).ok().and_then(|text| text.parse::<f64>().ok());
        let score = score.filter(|score| !score.is_nan());
        scored.push((score.ok_or_else(|| server_error("value is not a valid float"))?, member));
    }
    let set = db.sorted_mut(key)?;
    Ok(count(scored.into_iter().filter(|(score, member)| set.add(member.as_slice(), *score)).count()))
}

fn zrem(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, members @ ..] = call.args else { return Err(call.wrong_arity()) };
    let set = db.sorted_mut(key)?;
    Ok(count(members.iter().filter(|member| set.remove(member)).count()))
}

fn zcard(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(count(db.sorted(key)?.map_or(0, SortedSet::len)))
}

fn zscore(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, member] = call.args else { return Err(call.wrong_arity()) };
    let score = db.sorted(key)?.and_then(|set| set.score(member));
    Ok(bytes_or_nil(score.map(|score| score.to_string()).as_deref().map(str::as_bytes)))
}

/// By index; negative ones count from the end.
fn zrange(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, start, stop] = call.args else { return Err(call.wrong_arity()) };
    let start = integer(start).ok_or_else(not_an_integer)?;
    let stop = integer(stop).ok_or_else(not_an_integer)?;
    let Some(set) = db.sorted(key)? else { return Ok(Reply::List(Vec::new())) };
    let length = i64::try_from(set.len()).unwrap_or(i64::MAX);
    let from_start = |index: i64| if index < 0 { index.saturating_add(length) } else { index };
    let (start, stop) = (from_start(start).max(0), from_start(stop));
    let members = set.iter().zip(0..).filter(|(_, index)| (start..=stop).contains(index));
    Ok(Reply::List(members.map(|((member, _), _)| Reply::Bytes(member.to_vec())).collect()))
}
