use super::*;

fn decode(bytes: &[u8]) -> Checked<Option<Value>> {
    ReplyCodec::default().decode(&mut BytesMut::from(bytes))
}

fn violation(bytes: &[u8]) -> &'static str {
    decode(bytes).unwrap_err().text()
}

#[test]
fn a_declared_length_is_refused_before_anything_is_allocated() {
    for text in ["*2147483647\r\n", "%9000000\r\n", "~16777217\r\n", ">99999999999\r\n", "|8388608\r\n"] {
        assert!(violation(text.as_bytes()).contains("16 million values"), "{text}");
    }
    // Each by itself is small enough.
    assert!(violation(b"*10000000\r\n*10000000\r\n").contains("16 million values"));
    for text in ["$536870913\r\n", "=999999999999\r\n", "!536870913\r\n", "*1\r\n$536870913\r\n"] {
        assert!(violation(text.as_bytes()).contains("512 MiB"), "{text}");
    }
    for text in [
        "*99999999999999999999\r\n",
        "$-2\r\n",
        "%-1\r\n",
        "|-1\r\n",
        "=-1\r\n",
        "$\r\n",
        "*1x\r\n",
        "$+5\r\n",
    ] {
        assert!(violation(text.as_bytes()).contains("no number"), "{text}");
    }
    assert!(violation(&[b"$".as_slice(), &[b'1'; 40]].concat()).contains("no number"));
}

#[test]
fn what_is_allowed_is_waited_for_and_costs_nothing_yet() {
    let mut codec = ReplyCodec::default();
    let mut input = BytesMut::from(b"*16777216\r\n$536870912\r\nabc".as_slice());
    assert_eq!(codec.decode(&mut input), Ok(None));
    assert!(input.capacity() < 1024 && codec.scan.open.capacity() < 64);
}

#[test]
fn many_values_together_are_refused_once_they_are_too_large() {
    let mut codec = ReplyCodec::default();
    // Where the second would end is known without its bytes.
    codec.scan.at = MAX_REPLY - 100;
    codec.scan.open.push(5);
    let mut scan = std::mem::take(&mut codec.scan);
    assert_eq!(scan.take(b'$', b"90"), Ok(()));
    assert_eq!(scan.take(b'$', b"90"), Ok(()));
    assert!(scan.at > MAX_REPLY);
}

#[test]
fn lists_within_lists_are_parsed_up_to_the_limit_and_refused_beyond() {
    let nested = |depth: usize| ["*1\r\n".repeat(depth), ":1\r\n".to_owned()].concat();
    assert!(matches!(decode(nested(MAX_DEPTH).as_bytes()), Ok(Some(Value::Array(_)))));
    assert!(violation(nested(MAX_DEPTH + 1).as_bytes()).contains("64 lists"));
    assert!(violation("%1\r\n".repeat(100_000).as_bytes()).contains("64 lists"));
}

#[test]
fn a_line_without_end_is_refused() {
    let line = |length: usize| [b"+".as_slice(), &vec![b'a'; length]].concat();
    assert_eq!(decode(&line(MAX_LINE)), Ok(None));
    assert!(violation(&line(MAX_LINE + 2)).contains("1 MiB"));
    let ended = |length| [line(length), b"\r\n".to_vec()].concat();
    assert!(matches!(decode(&ended(MAX_LINE - 1)), Ok(Some(Value::SimpleString(_)))));
    assert!(violation(&ended(MAX_LINE + 1)).contains("1 MiB"));
}

#[test]
fn a_malformed_reply_is_told_at_once() {
    for bytes in [b"HTTP/1.1 400 Bad Request\r\n".as_slice(), b"\0", b"*1\r\n\r\n", b"*2\r\n:1\r\nx"] {
        assert_eq!(violation(bytes), "a reply of an unknown kind");
    }
    for bytes in [b":x\r\n".as_slice(), b"$1\r\nabc", b"#x\r\n", b">1\r\n:5\r\n", b"=2\r\nab\r\n", b",x\r\n"]
    {
        assert_eq!(violation(bytes), "a malformed reply");
    }
}

#[test]
fn a_text_that_is_not_utf8_is_still_a_reply() {
    let mut codec = ReplyCodec::default();
    let mut input = BytesMut::from(b"-ERR unknown command '\xff'\r\n:7\r\n".as_slice());
    match codec.decode(&mut input) {
        Ok(Some(Value::ServerError(error))) => {
            assert_eq!(error.details(), Some("unknown command '\u{fffd}'"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(codec.decode(&mut input), Ok(Some(Value::Int(7))));
}

#[test]
fn a_buffer_that_grew_for_one_reply_is_let_go() {
    let mut codec = ReplyCodec::default();
    let mut input = BytesMut::with_capacity(4 * KEPT_BUFFER);
    input.extend_from_slice(b"+OK\r\n");
    assert_eq!(codec.decode(&mut input), Ok(Some(Value::Okay)));
    assert_eq!(codec.decode(&mut input), Ok(None));
    assert!(input.capacity() <= KEPT_BUFFER);
}

/// Small, fast and the same on every machine (xorshift64*).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
}

fn write_reply(random: &mut Seeded, depth: usize, wire: &mut Vec<u8>) {
    let text = |random: &mut Seeded, most: usize| -> Vec<u8> {
        let length = random.below(most);
        (0..length).map(|_| b' ' + random.below(90) as u8).collect()
    };
    match random.below(if depth < 5 { 16 } else { 11 }) {
        0 => wire.extend_from_slice(b"+OK\r\n"),
        1 => wire.extend([b"-ERR ".as_slice(), &text(random, 60), b"\r\n"].concat()),
        2 => wire.extend(format!(":{}\r\n", random.next() as i64).bytes()),
        3 => wire.extend_from_slice([b"_\r\n".as_slice(), b"$-1\r\n", b"*-1\r\n"][random.below(3)]),
        4 => wire.extend_from_slice([b"#t\r\n".as_slice(), b",1.5\r\n", b"(12345\r\n"][random.below(3)]),
        5..=8 => {
            let most = [4, 40, 3000][random.below(3)];
            let length = random.below(most);
            wire.extend(format!("${length}\r\n").bytes());
            wire.extend((0..length).map(|_| random.next() as u8));
            wire.extend_from_slice(b"\r\n");
        }
        9 => wire.extend_from_slice(b"=7\r\ntxt:abc\r\n"),
        10 => wire.extend_from_slice(b"!7\r\nERR abc\r\n"),
        kind => {
            let length = random.below(6);
            let (mark, values) = match kind {
                11 | 12 => ('*', length),
                13 => ('~', length),
                14 => ('%', length * 2),
                _ => ('|', length * 2 + 1),
            };
            wire.extend(format!("{mark}{length}\r\n").bytes());
            (0..values).for_each(|_| write_reply(random, depth + 1, wire));
        }
    }
}

/// Feeds bytes in pieces of random lengths, as a socket would.
fn feed(random: &mut Seeded, wire: &[u8]) -> (Vec<Value>, Checked<()>) {
    let mut codec = ReplyCodec::default();
    let mut input = BytesMut::new();
    let mut values = Vec::new();
    let mut rest = wire;
    while !rest.is_empty() {
        let most = [2, 20, 20_000][random.below(3)];
        let (piece, later) = rest.split_at((random.below(most) + 1).min(rest.len()));
        input.extend_from_slice(piece);
        rest = later;
        loop {
            match codec.decode(&mut input) {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(violation) => return (values, Err(violation)),
            }
        }
    }
    (values, Ok(()))
}

/// Bytes that are fed; `FERROFLOW_FUZZ_BYTES` says how many.
fn budget() -> usize {
    std::env::var("FERROFLOW_FUZZ_BYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10_000_000)
}

/// Seed of the run; `FERROFLOW_FUZZ_SEED` repeats one that failed.
fn seed() -> u64 {
    std::env::var("FERROFLOW_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_240_601)
}

#[test]
fn whatever_arrives_is_parsed_the_same_in_any_pieces_or_refused() {
    let seed = seed().max(1);
    let mut random = Seeded(seed);
    let (mut fed, mut refused, mut whole) = (0, 0, 0);
    while fed < budget() {
        let mut wire = Vec::new();
        let replies = random.below(20) + 1;
        (0..replies).for_each(|_| write_reply(&mut random, 0, &mut wire));
        let (values, outcome) = feed(&mut random, &wire);
        assert_eq!((values.len(), outcome), (replies, Ok(())), "seed {seed}, after {fed} bytes");
        let mut plain = ValueCodec::default();
        let mut input = BytesMut::from(wire.as_slice());
        for value in &values {
            // A NaN is not equal to itself, and none is written here.
            assert_eq!(plain.decode(&mut input).ok().flatten().as_ref(), Some(value), "seed {seed}");
        }
        fed += wire.len();
        whole += replies;
        for _ in 0..random.below(4) + 1 {
            let place = random.below(wire.len());
            match random.below(4) {
                0 => wire[place] = random.next() as u8,
                1 => wire[place] = b"*$%|>~=!-0123456789\r\n"[random.below(21)],
                2 => drop(wire.drain(place..(place + random.below(8)).min(wire.len()))),
                _ => wire.truncate(place),
            }
            if wire.is_empty() {
                break;
            }
        }
        refused += usize::from(feed(&mut random, &wire).1.is_err());
        let noise: Vec<u8> =
            (0..random.below(300)).map(|_| b"*$%|>~=!:+-_#,019\r\n\xff"[random.below(20)]).collect();
        refused += usize::from(feed(&mut random, &noise).1.is_err());
        fed += wire.len() + noise.len();
    }
    assert!(whole > 100 && refused > 100, "{whole} whole, {refused} refused");
}
