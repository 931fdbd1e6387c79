//! Commands on hashes.

use super::{Call, Command, add, bytes_or_nil, count, flag, integer, not_an_integer};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::{Database, Hash};

pub(super) const COMMANDS: &[Command] = &[
    Command::data("hset", -4, hset),
    Command::data("hsetnx", 4, hsetnx),
    Command::data("hget", 3, hget),
    Command::data("hmget", -3, hmget),
    Command::data("hgetall", 2, |db, call| list(db, call, |field, value| [field, value])),
    Command::data("hkeys", 2, |db, call| list(db, call, |field, _| [field])),
    Command::data("hvals", 2, |db, call| list(db, call, |_, value| [value])),
    Command::data("hdel", -3, hdel),
    Command::data("hexists", 3, hexists),
    Command::data("hlen", 2, hlen),
    Command::data("hincrby", 4, hincrby),
];

fn hset(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, pairs @ ..] = call.args else { return Err(call.wrong_arity()) };
    let (pairs, []) = pairs.as_chunks() else { return Err(call.wrong_arity()) };
    let hash = db.hash_mut(key)?;
    let mut added = 0;
    for [field, value] in pairs {
        added += usize::from(hash.set(field.clone(), value.clone()));
    }
    Ok(count(added))
}

fn hsetnx(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, field, value] = call.args else { return Err(call.wrong_arity()) };
    let hash = db.hash_mut(key)?;
    Ok(flag(!hash.contains(field) && hash.set(field.clone(), value.clone())))
}

fn hget(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, field] = call.args else { return Err(call.wrong_arity()) };
    Ok(bytes_or_nil(db.hash(key)?.and_then(|hash| hash.get(field))))
}

fn hmget(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, fields @ ..] = call.args else { return Err(call.wrong_arity()) };
    let hash = db.hash(key)?;
    Ok(Reply::List(fields.iter().map(|field| bytes_or_nil(hash.and_then(|hash| hash.get(field)))).collect()))
}

/// What `pick` takes of every field and its value.
fn list<const N: usize>(
    db: &mut Database,
    call: Call,
    pick: for<'a> fn(&'a [u8], &'a [u8]) -> [&'a [u8]; N],
) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    let fields = db.hash(key)?.into_iter().flat_map(Hash::iter);
    Ok(Reply::List(
        fields.flat_map(|(field, value)| pick(field, value)).map(|it| Reply::Bytes(it.to_vec())).collect(),
    ))
}

fn hdel(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, fields @ ..] = call.args else { return Err(call.wrong_arity()) };
    let hash = db.hash_mut(key)?;
    Ok(count(fields.iter().filter(|field| hash.remove(field)).count()))
}

fn hexists(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, field] = call.args else { return Err(call.wrong_arity()) };
    Ok(flag(db.hash(key)?.is_some_and(|hash| hash.contains(field))))
}

fn hlen(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(count(db.hash(key)?.map_or(0, Hash::len)))
}

fn hincrby(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, field, delta] = call.args else { return Err(call.wrong_arity()) };
    let delta = integer(delta).ok_or_else(not_an_integer)?;
    let hash = db.hash_mut(key)?;
    let sum = add(hash.get(field), delta, "hash value is not an integer")?;
    hash.set(field.clone(), sum.to_string());
    Ok(Reply::Int(sum))
}
