//! Where a command belongs: the slot of its first key, anywhere, or every master.

use crate::key::slot;

/// Where a command belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// The master of a slot.
    Slot(u16),
    /// Any master: it names no key.
    Anywhere,
    /// Every master, with the answers put together.
    Everywhere(Merge),
    /// The masters one after the other (`SCAN`).
    InTurn,
}

/// How the answers of all masters become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// Lists, one after the other.
    Concatenate,
    /// Lists, one after the other, without what is in an earlier one.
    Unite,
    /// The sum of integers.
    Add,
    /// The sum of integers, each behind its name.
    AddByName,
    /// They are all the same.
    First,
}

/// Where the first key of a command is.
enum FirstKey {
    /// The word with this number; the name is 0.
    Word(usize),
    /// Behind a count, which is the word with this number; without keys, the command may go anywhere.
    AfterCount(usize),
    /// Behind the word `STREAMS`.
    AfterStreams,
}

/// Where a command in wire form belongs.
pub fn of(wire: &[u8]) -> Route {
    let mut upper = [0; 20];
    let Some(name) = words(wire).next() else { return Route::Anywhere };
    let Some(upper) = upper.get_mut(..name.len()) else { return by_first_key(wire, FirstKey::Word(1)) };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    match &*upper {
        b"SCAN" => Route::InTurn,
        b"KEYS" => Route::Everywhere(Merge::Concatenate),
        b"DBSIZE" => Route::Everywhere(Merge::Add),
        b"FLUSHDB" | b"FLUSHALL" | b"SCRIPT" | b"FUNCTION" => Route::Everywhere(Merge::First),
        b"PUBSUB" => match words(wire).nth(1).map(<[u8]>::to_ascii_uppercase).as_deref() {
            Some(b"NUMSUB") => Route::Everywhere(Merge::AddByName),
            Some(b"NUMPAT") => Route::Everywhere(Merge::Add),
            Some(b"CHANNELS") => Route::Everywhere(Merge::Unite),
            _ => Route::Anywhere,
        },
        b"PING" | b"ECHO" | b"TIME" | b"INFO" | b"ROLE" | b"LASTSAVE" | b"LOLWUT" | b"RANDOMKEY"
        | b"CLIENT" | b"CONFIG" | b"COMMAND" | b"CLUSTER" | b"ACL" | b"SLOWLOG" | b"LATENCY" | b"MODULE"
        | b"DEBUG" | b"SAVE" | b"BGSAVE" | b"BGREWRITEAOF" | b"SHUTDOWN" | b"FAILOVER" | b"REPLICAOF"
        | b"SLAVEOF" | b"SWAPDB" | b"READONLY" | b"READWRITE" => Route::Anywhere,
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
            by_first_key(wire, FirstKey::AfterCount(2))
        }
        b"LMPOP" | b"ZMPOP" | b"SINTERCARD" | b"ZINTERCARD" | b"ZUNION" | b"ZINTER" | b"ZDIFF" => {
            by_first_key(wire, FirstKey::AfterCount(1))
        }
        b"BITOP" | b"OBJECT" | b"MEMORY" | b"XGROUP" | b"XINFO" => by_first_key(wire, FirstKey::Word(2)),
        b"MIGRATE" => by_first_key(wire, FirstKey::Word(3)),
        b"XREAD" | b"XREADGROUP" => by_first_key(wire, FirstKey::AfterStreams),
        _ => by_first_key(wire, FirstKey::Word(1)),
    }
}

fn by_first_key(wire: &[u8], first_key: FirstKey) -> Route {
    let key = match first_key {
        FirstKey::Word(number) => words(wire).nth(number),
        FirstKey::AfterCount(number) => {
            let mut words = words(wire).skip(number);
            words.next().filter(|count| *count != b"0").and_then(|_| words.next())
        }
        FirstKey::AfterStreams => {
            words(wire).skip_while(|word| !word.eq_ignore_ascii_case(b"STREAMS")).nth(1)
        }
    };
    key.map_or(Route::Anywhere, |key| Route::Slot(slot(key)))
}

/// The words of a command that we put together ourselves: `*count`, and `$length` and bytes for each.
pub fn words(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_line(wire);
    std::iter::from_fn(move || {
        let length = rest.strip_prefix(b"$")?;
        let end = length.iter().position(|byte| *byte == b'\r')?;
        let length: usize = std::str::from_utf8(&length[..end]).ok()?.parse().ok()?;
        let body = after_line(rest);
        rest = body.get(length + 2..)?;
        body.get(..length)
    })
}

fn after_line(bytes: &[u8]) -> &[u8] {
    bytes.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &bytes[end + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::command::Command;

    fn route(text: &str) -> Route {
        let mut command = Command::of_words();
        text.split(' ').for_each(|word| command.push_word(word.as_bytes()));
        of(&command.into_wire())
    }

    #[test]
    fn words_are_found_in_the_wire_form() {
        let wire = Command::new("SET").arg("").arg("\r\n$1\r\nx").arg("k").into_wire();
        assert_eq!(words(&wire).collect::<Vec<_>>(), [&b"SET"[..], b"", b"\r\n$1\r\nx", b"k"]);
    }

    #[test]
    fn commands_go_to_the_slot_of_their_first_key() {
        let key = Route::Slot(slot(b"k"));
        for text in [
            "GET k",
            "get k",
            "SET k v",
            "DEL k l",
            "EVAL script 2 k l argument",
            "evalsha digest 1 k",
            "FCALL f 1 k",
            "ZINTER 2 k l",
            "BITOP AND k l",
            "OBJECT ENCODING k",
            "XGROUP CREATE k g $",
            "XREAD COUNT 1 STREAMS k 0",
            "xreadgroup GROUP g c streams k >",
            "MIGRATE host 1 k 0 5",
            // Any node would do, but messages from several would overtake each other.
            "PUBLISH k message",
            "SPUBLISH k message",
            "A.COMMAND.OF.SOME.MODULE.WITH.A.LONG.NAME k",
        ] {
            assert_eq!(route(text), key, "{text}");
        }
    }

    #[test]
    fn commands_without_a_key_go_anywhere_or_everywhere() {
        for text in ["PING", "EVAL script 0 argument", "INFO server", "GET", "EVAL"] {
            assert_eq!(route(text), Route::Anywhere, "{text}");
        }
        assert_eq!(route("KEYS *"), Route::Everywhere(Merge::Concatenate));
        assert_eq!(route("dbsize"), Route::Everywhere(Merge::Add));
        assert_eq!(route("FLUSHALL ASYNC"), Route::Everywhere(Merge::First));
        assert_eq!(route("pubsub numsub a b"), Route::Everywhere(Merge::AddByName));
        assert_eq!(route("PUBSUB SHARDCHANNELS"), Route::Anywhere);
        assert_eq!(route("SCAN 0"), Route::InTurn);
        assert_eq!(of(b""), Route::Anywhere);
    }
}
