//! The Redis commands of the engine: one table, and what its handlers share. Replies and error texts are those of
//! Redis 7.

mod hashes;
mod keys;
mod server;
mod sets;
mod sorted_sets;
mod strings;

use super::{Database, Engine};
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};

/// All commands, by topic.
const TABLES: [&[Command]; 6] = [
    strings::COMMANDS,
    hashes::COMMANDS,
    sets::COMMANDS,
    sorted_sets::COMMANDS,
    keys::COMMANDS,
    server::COMMANDS,
];

/// A command of the table.
struct Command {
    /// In lower case, as error texts name it.
    name: &'static str,
    /// The number of words including the name; negative for "at least", as in Redis.
    arity: i8,
    handler: Handler,
}

/// What runs a command.
enum Handler {
    /// In an atomic section.
    Data(fn(&mut Database, Call) -> Result<Reply>),
    /// Outside of one.
    Engine(fn(&Engine, Call) -> Result<Reply>),
}

impl Command {
    const fn data(name: &'static str, arity: i8, run: fn(&mut Database, Call) -> Result<Reply>) -> Self {
        Self { name, arity, handler: Handler::Data(run) }
    }

    const fn engine(name: &'static str, arity: i8, run: fn(&Engine, Call) -> Result<Reply>) -> Self {
        Self { name, arity, handler: Handler::Engine(run) }
    }

    fn accepts(&self, words: usize) -> bool {
        let bound = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { words >= bound } else { words == bound }
    }
}

/// A command on its way: its name and arguments. The number of arguments has been checked against the table.
#[derive(Clone, Copy)]
struct Call<'a> {
    name: &'static str,
    args: &'a [Vec<u8>],
}

impl Call<'_> {
    fn wrong_arity(&self) -> Error {
        server_error(format!("wrong number of arguments for '{}' command", self.name))
    }

    fn invalid_expire_time(&self) -> Error {
        server_error(format!("invalid expire time in '{}' command", self.name))
    }
}

/// Runs a command given as Redis gets it: the name, then the arguments.
pub(super) fn run(engine: &Engine, words: &[Vec<u8>]) -> Result<Reply> {
    let Some((name, args)) = words.split_first() else {
        return Err(Error::new(ErrorKind::InvalidArgument, "a command needs a name"));
    };
    let command = TABLES
        .iter()
        .flat_map(|table| table.iter())
        .find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
        .ok_or_else(|| unknown(name))?;
    let call = Call { name: command.name, args };
    if !command.accepts(words.len()) {
        return Err(call.wrong_arity());
    }
    match command.handler {
        Handler::Data(run) => engine.atomically(|db| run(db, call)),
        Handler::Engine(run) => run(engine, call),
    }
}

fn unknown(name: &[u8]) -> Error {
    let name: String = String::from_utf8_lossy(name).chars().take(128).collect();
    Error::new(
        ErrorKind::Unsupported,
        format!("memory:// does not have the command '{}'", name.escape_debug()),
    )
}

fn server_error(text: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Server, format!("ERR {text}"))
}

fn syntax_error() -> Error {
    server_error("syntax error")
}

fn not_an_integer() -> Error {
    server_error("value is not an integer or out of range")
}

/// Reads an integer in the one spelling that Redis takes: no plus, no spaces, no leading zeros.
fn integer(digits: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == digits).then_some(number)
}

/// Adds to a number that is stored as text; `stored_error` is the text if it is none.
fn add(stored: Option<&[u8]>, delta: i64, stored_error: &'static str) -> Result<i64> {
    let stored = stored.map_or(Some(0), integer).ok_or_else(|| server_error(stored_error))?;
    stored.checked_add(delta).ok_or_else(|| server_error("increment or decrement would overflow"))
}

fn count(number: usize) -> Reply {
    Reply::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn flag(yes: bool) -> Reply {
    Reply::Int(yes.into())
}

fn bytes_or_nil(bytes: Option<&[u8]>) -> Reply {
    bytes.map_or(Reply::Nil, |bytes| Reply::Bytes(bytes.to_vec()))
}

#[cfg(test)]
mod tests;
