//! Commands that are not about one key.

use super::{Call, Command, count, syntax_error};
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::memory::{Database, Engine};

pub(super) const COMMANDS: &[Command] = &[
    Command::engine("ping", -1, ping),
    Command::engine("echo", 2, echo),
    Command::engine("time", 1, time),
    Command::engine("publish", 3, publish),
    Command::data("dbsize", 1, |db, _| Ok(count(db.len()))),
    Command::data("flushdb", -1, flush),
    Command::data("flushall", -1, flush),
];

fn ping(_: &Engine, call: Call) -> Result<Reply> {
    match call.args {
        [] => Ok(Reply::Status("PONG".to_owned())),
        [message] => Ok(Reply::Bytes(message.clone())),
        _ => Err(call.wrong_arity()),
    }
}

fn echo(_: &Engine, call: Call) -> Result<Reply> {
    let [message] = call.args else { return Err(call.wrong_arity()) };
    Ok(Reply::Bytes(message.clone()))
}

fn time(engine: &Engine, _: Call) -> Result<Reply> {
    let now = engine.clock.unix();
    Ok(Reply::List(vec![
        Reply::text(&now.as_secs().to_string()),
        Reply::text(&now.subsec_micros().to_string()),
    ]))
}

fn publish(engine: &Engine, call: Call) -> Result<Reply> {
    let [channel, message] = call.args else { return Err(call.wrong_arity()) };
    Ok(count(engine.publish(channel, message)))
}

fn flush(db: &mut Database, call: Call) -> Result<Reply> {
    match call.args {
        [] => {}
        [mode] if mode.eq_ignore_ascii_case(b"SYNC") || mode.eq_ignore_ascii_case(b"ASYNC") => {}
        _ => return Err(syntax_error()),
    }
    db.clear();
    Ok(Reply::ok())
}
