//! Commands on sets.

use super::{Call, Command, count, flag};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::{Database, Set};

pub(super) const COMMANDS: &[Command] = &[
    Command::data("sadd", -3, sadd),
    Command::data("srem", -3, srem),
    Command::data("smembers", 2, smembers),
    Command::data("sismember", 3, sismember),
    Command::data("scard", 2, scard),
];

fn sadd(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, members @ ..] = call.args else { return Err(call.wrong_arity()) };
    let set = db.members_mut(key)?;
    Ok(count(members.iter().filter(|member| set.insert((*member).clone())).count()))
}

fn srem(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, members @ ..] = call.args else { return Err(call.wrong_arity()) };
    let set = db.members_mut(key)?;
    Ok(count(members.iter().filter(|member| set.remove(*member)).count()))
}

fn smembers(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    let members = db.members(key)?.into_iter().flatten();
    Ok(Reply::List(members.map(|member| Reply::Bytes(member.clone())).collect()))
}

fn sismember(db: &mut Database, call: Call) -> Result<Reply> {
    let [key, member] = call.args else { return Err(call.wrong_arity()) };
    Ok(flag(db.members(key)?.is_some_and(|set| set.contains(member))))
}

fn scard(db: &mut Database, call: Call) -> Result<Reply> {
    let [key] = call.args else { return Err(call.wrong_arity()) };
    Ok(count(db.members(key)?.map_or(0, Set::len)))
}
