use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::time::Millis;

/// A reply or error on one line: `nil`, `(1)`, `+OK`, `"text"`, `["a" nil]`, `-ERR ...`.
fn show(outcome: &Result<Reply>) -> String {
    match outcome {
        Ok(Reply::Nil) => "nil".to_owned(),
        Ok(Reply::Int(number)) => format!("({number})"),
        Ok(Reply::Status(status)) => format!("+{status}"),
        Ok(Reply::Bytes(bytes)) => format!("\"{}\"", bytes.escape_ascii()),
        Ok(Reply::List(items)) => {
            let items: Vec<_> = items.iter().map(|item| show(&Ok(item.clone()))).collect();
            format!("[{}]", items.join(" "))
        }
        Err(error) => format!("-{}", error.message()),
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

/// Runs the lines in order on one engine; each is a command, `=>`, and what Redis 7.0 answers.
fn transcript(lines: &[&str]) {
    let engine = Engine::with_clock(Arc::new(|| Millis::new(1_700_000_000_000)));
    for line in lines {
        let (command, expected) = line.split_once(" => ").unwrap();
        assert_eq!(show(&engine.command(&words(command))), expected, "{command}");
    }
}

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

#[test]
fn strings_answer_as_redis_does() {
    transcript(&[
        "get k => nil",
        "set k v => +OK",
        "GeT k => \"v\"",
        "set k w NX => nil",
        "set k w NX GET => \"v\"",
        "set k w XX GET => \"v\"",
        "set new w XX => nil",
        "set new w XX GET => nil",
        "set new w NX GET => nil",
        "get new => \"w\"",
        "set k w NX XX => -ERR syntax error",
        "set k w EX 5 PX 5 => -ERR syntax error",
        "set k w KEEPTTL EX 5 => -ERR syntax error",
        "set k w EX => -ERR syntax error",
        "set k w EX 0 => -ERR invalid expire time in 'set' command",
        "set k w PX -1 => -ERR invalid expire time in 'set' command",
        "set k w EX 9223372036854775807 => -ERR invalid expire time in 'set' command",
        "set k w PX 9223372036854775807 => -ERR invalid expire time in 'set' command",
        "set k w EX 1.5 => -ERR value is not an integer or out of range",
        "set k w px 1 PX 60000 => +OK",
        "ttl k => (60)",
        "set k 1 KEEPTTL => +OK",
        "incr k => (2)",
        "append k 0 => (2)",
        "pttl k => (60000)",
        "set k v => +OK",
        "ttl k => (-1)",
        "set k v PXAT 1700000000500 => +OK",
        "pttl k => (500)",
        "ttl k => (1)",
        "set k v EXAT 1 => +OK",
        "get k => nil",
        "setex k 0 v => -ERR invalid expire time in 'setex' command",
        "psetex k x v => -ERR value is not an integer or out of range",
        "setex k 10 v => +OK",
        "ttl k => (10)",
        "setnx k w => (0)",
        "setnx fresh w => (1)",
        "strlen fresh => (1)",
        "strlen none => (0)",
        "append grown ab => (2)",
        "append grown cd => (4)",
        "mset a 1 b 2 a 3 => +OK",
        "mget a none b => [\"3\" nil \"2\"]",
        "mset a 1 b => -ERR wrong number of arguments for 'mset' command",
        "decrby n 5 => (-5)",
        "incrby n +1 => -ERR value is not an integer or out of range",
        "incrby n 01 => -ERR value is not an integer or out of range",
        "decrby n -9223372036854775808 => -ERR decrement would overflow",
        "set n 9223372036854775807 => +OK",
        "incr n => -ERR increment or decrement would overflow",
        "decr n => (9223372036854775806)",
        "incr grown => -ERR value is not an integer or out of range",
        "get => -ERR wrong number of arguments for 'get' command",
        "get a b => -ERR wrong number of arguments for 'get' command",
        "SET a => -ERR wrong number of arguments for 'set' command",
    ]);
}

#[test]
fn hashes_answer_as_redis_does() {
    transcript(&[
        "hset h b 1 a 2 b 3 => (2)",
        "hset h b 4 c 5 => (1)",
        "hgetall h => [\"b\" \"4\" \"a\" \"2\" \"c\" \"5\"]",
        "hkeys h => [\"b\" \"a\" \"c\"]",
        "hvals h => [\"4\" \"2\" \"5\"]",
        "hmget h a none c => [\"2\" nil \"5\"]",
        "hmget none a => [nil]",
        "hgetall none => []",
        "hget h a => \"2\"",
        "hget h none => nil",
        "hexists h a => (1)",
        "hexists h none => (0)",
        "hlen h => (3)",
        "hlen none => (0)",
        "hsetnx h a 9 => (0)",
        "hsetnx h d 9 => (1)",
        "hset h a 1 b => -ERR wrong number of arguments for 'hset' command",
        "hincrby h a 40 => (42)",
        "hincrby h new -1 => (-1)",
        "hincrby h a x => -ERR value is not an integer or out of range",
        "hset h text x => (1)",
        "hincrby h text 1 => -ERR hash value is not an integer",
        "hset h big 9223372036854775807 => (1)",
        "hincrby h big 1 => -ERR increment or decrement would overflow",
        "hdel h a a none b => (2)",
        "hdel h c d new text big => (5)",
        "exists h => (0)",
        "hdel none f => (0)",
        "type none => +none",
    ]);
}

#[test]
fn keys_answer_as_redis_does() {
    transcript(&[
        "set s v => +OK",
        "hset h f v => (1)",
        "type s => +string",
        "type h => +hash",
        "exists s h s none => (3)",
        "pttl none => (-2)",
        "expire none 5 => (0)",
        "expire s 5 XX => (0)",
        "expire s 5 GT => (0)",
        "expire s 5 LT => (1)",
        "expire s 6 LT => (0)",
        "expire s 6 nx => (0)",
        "expire s 6 xx gt => (1)",
        "ttl s => (6)",
        "expire s 6 NX GT => -ERR NX and XX, GT or LT options at the same time are not compatible",
        "expire s 6 GT LT => -ERR GT and LT options at the same time are not compatible",
        "expire s 6 soon => -ERR Unsupported option soon",
        "expire s x => -ERR value is not an integer or out of range",
        "expire s 9223372036854775807 => -ERR invalid expire time in 'expire' command",
        "pexpire s 9223372036854775807 => -ERR invalid expire time in 'pexpire' command",
        "pexpire s 1499 => (1)",
        "ttl s => (1)",
        "pexpire s 1500 => (1)",
        "ttl s => (2)",
        "persist s => (1)",
        "persist s => (0)",
        "pexpire h -1 => (1)",
        "exists h => (0)",
        "mset k1 v k2 v other v => +OK",
        "keys k? => [\"k1\" \"k2\"]",
        "dbsize => (4)",
        "del k1 k1 none => (1)",
        "unlink k2 => (1)",
        "scan 0 match o* count 100 => [\"0\" [\"other\"]]",
        "scan 0 type hash => [\"0\" []]",
        "scan x => -ERR invalid cursor",
        "scan 0 count 0 => -ERR syntax error",
        "scan 0 count x => -ERR value is not an integer or out of range",
        "scan 0 match => -ERR syntax error",
        "flushdb later => -ERR syntax error",
        "flushdb async => +OK",
        "dbsize => (0)",
        "flushall => +OK",
    ]);
}

#[test]
fn the_server_answers_as_redis_does() {
    transcript(&[
        "ping => +PONG",
        "ping hello => \"hello\"",
        "ping a b => -ERR wrong number of arguments for 'ping' command",
        "echo hello => \"hello\"",
        "publish c m => (0)",
        "time => [\"1700000000\" \"0\"]",
    ]);
}

#[test]
fn a_key_of_another_type_is_refused_by_every_command() {
    let engine = Engine::new();
    for setup in ["set string v", "hset hash f v"] {
        engine.command(&words(setup)).unwrap();
    }
    for line in [
        "get hash",
        "set hash v GET",
        "append hash v",
        "strlen hash",
        "incr hash",
        "hset string f v",
        "hsetnx string f v",
        "hget string f",
        "hmget string f",
        "hgetall string",
        "hkeys string",
        "hvals string",
        "hdel string f",
        "hexists string f",
        "hlen string",
        "hincrby string f 1",
    ] {
        assert_eq!(show(&engine.command(&words(line))), WRONG_TYPE, "{line}");
    }
    assert_eq!(show(&engine.command(&words("mget hash string"))), "[nil \"v\"]");
}

#[test]
fn a_ttl_ends_for_commands_too() {
    let time = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&time);
    let engine = Engine::with_clock(Arc::new(move || Millis::new(clock.load(Ordering::SeqCst))));
    engine.command(&words("psetex k 100 v")).unwrap();
    time.store(101, Ordering::SeqCst);
    assert_eq!(show(&engine.command(&words("incr k"))), "(1)");
    assert_eq!(show(&engine.command(&words("pttl k"))), "(-1)");
}

#[test]
fn keys_and_values_may_be_any_bytes() {
    let engine = Engine::new();
    let key = vec![0xff, 0x00, b'k'];
    let reply = engine.command(&[b"SET".to_vec(), key.clone(), vec![0xfe]]);
    assert_eq!(reply.unwrap(), Reply::ok());
    assert_eq!(engine.command(&[b"GET".to_vec(), key.clone()]).unwrap(), Reply::Bytes(vec![0xfe]));
    let listed = engine.command(&words("KEYS *")).unwrap();
    assert_eq!(listed, Reply::List(vec![Reply::Bytes(key)]));
}

#[tokio::test]
async fn publish_reaches_subscriptions() {
    let engine = Engine::new();
    let mut listener = engine.subscribe("c");
    assert_eq!(show(&engine.command(&words("PUBLISH c m"))), "(1)");
    assert_eq!(listener.recv().await.unwrap(), "m");
}

#[test]
fn an_unknown_command_says_who_lacks_it() {
    let error = Engine::new().command(&words("LPUSH k v")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.message(), "memory:// does not have the command 'LPUSH'");
    assert_eq!(Engine::new().command(&[]).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn sorted_sets_answer_as_redis_does() {
    transcript(&[
        "zadd z 2 b 1 a 2 c => (3)",
        "zadd z 3 a 4 d => (1)",
        "zrange z 0 -1 => [\"b\" \"c\" \"a\" \"d\"]",
        "zrange z 1 2 => [\"c\" \"a\"]",
        "zrange z -2 9 => [\"a\" \"d\"]",
        "zrange z 3 1 => []",
        "zrange z x 1 => -ERR value is not an integer or out of range",
        "zrange none 0 -1 => []",
        "zscore z a => \"3\"",
        "zscore z none => nil",
        "zcard z => (4)",
        "type z => +zset",
        "zadd z x a => -ERR value is not a valid float",
        "zadd z nan a => -ERR value is not a valid float",
        "zadd z 1 a 2 => -ERR syntax error",
        "zrem z a b none => (2)",
        "zrem z c d => (2)",
        "exists z => (0)",
        "zcard z => (0)",
    ]);
    transcript(&[
        "set k v => +OK",
        &format!("zadd k 1 a => {WRONG_TYPE}"),
        &format!("zcard k => {WRONG_TYPE}"),
    ]);
}
