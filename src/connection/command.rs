//! One command: its arguments in wire form, and whether it may be sent again after its reply was lost.

/// What to do when a command was sent and the connection ended before its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It only reads.
    Read,
    /// It writes, but sending it twice has the effect of sending it once.
    Write,
    /// It must not run twice; its outcome stays unknown.
    Never,
}

/// A command in RESP, ready to be appended to a pipeline.
#[derive(Debug, Clone)]
pub struct Command {
    arguments: usize,
    body: Vec<u8>,
    repeat: Repeat,
}

impl Command {
    /// A command that must not run twice.
    pub fn new(name: &str) -> Self {
        let command = Self { arguments: 0, body: Vec::with_capacity(64), repeat: Repeat::Never };
        command.arg(name)
    }

    /// A command of any kind, to be made of its words.
    pub fn of_words() -> Self {
        Self { arguments: 0, body: Vec::with_capacity(256), repeat: Repeat::Never }
    }

    /// Adds a word. The first is the name: the command is repeated only if it is known to read.
    pub fn push_word(&mut self, word: &[u8]) {
        if self.arguments == 0 && only_reads(word) {
            self.repeat = Repeat::Read;
        }
        self.push(word);
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument.as_ref());
        self
    }

    /// Adds a number.
    pub fn number(self, number: impl Into<u64>) -> Self {
        self.arg(number.into().to_string())
    }

    /// Declares that it only reads.
    pub fn reads(mut self) -> Self {
        self.repeat = Repeat::Read;
        self
    }

    /// Declares that it writes, and that writing twice is the same as once.
    pub fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Write;
        self
    }

    /// Whether it may be sent again.
    pub fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// The bytes to send.
    pub fn into_wire(self) -> Vec<u8> {
        let mut wire = Vec::with_capacity(self.body.len() + 16);
        wire.push(b'*');
        push_number(&mut wire, self.arguments);
        wire.extend_from_slice(&self.body);
        wire
    }

    /// The arguments by themselves, for an engine that needs no wire.
    pub fn into_words(self) -> Vec<Vec<u8>> {
        let mut words = Vec::with_capacity(self.arguments);
        let mut rest = self.body.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            // "$<length>\r\n<argument>\r\n", as `push` wrote it.
            let length =
                rest[1..end - 1].iter().fold(0, |number, digit| number * 10 + usize::from(digit - b'0'));
            words.push(rest[end + 1..end + 1 + length].to_vec());
            rest = &rest[end + 1 + length + 2..];
        }
        words
    }

    /// Adds an argument in place.
    pub fn push(&mut self, argument: &[u8]) {
        self.arguments += 1;
        self.body.push(b'$');
        push_number(&mut self.body, argument.len());
        self.body.extend_from_slice(argument);
        self.body.extend_from_slice(b"\r\n");
    }
}

fn push_number(wire: &mut Vec<u8>, number: usize) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    wire.extend_from_slice(&digits[start..]);
    wire.extend_from_slice(b"\r\n");
}

/// Commands that change nothing, and so may be repeated at will. Sorted, upper case.
const READS: &[&str] = &[
    "BITCOUNT",
    "BITPOS",
    "DBSIZE",
    "DUMP",
    "ECHO",
    "EVALSHA_RO",
    "EVAL_RO",
    "EXISTS",
    "EXPIRETIME",
    "GET",
    "GETBIT",
    "GETRANGE",
    "HEXISTS",
    "HGET",
    "HGETALL",
    "HKEYS",
    "HLEN",
    "HMGET",
    "HSCAN",
    "HSTRLEN",
    "HVALS",
    "INFO",
    "KEYS",
    "LINDEX",
    "LLEN",
    "LPOS",
    "LRANGE",
    "MGET",
    "PEXPIRETIME",
    "PING",
    "PTTL",
    "SCAN",
    "SCARD",
    "SISMEMBER",
    "SMEMBERS",
    "SMISMEMBER",
    "STRLEN",
    "TIME",
    "TTL",
    "TYPE",
    "XLEN",
    "XRANGE",
    "XREVRANGE",
    "ZCARD",
    "ZCOUNT",
    "ZRANGE",
    "ZRANGEBYSCORE",
    "ZRANK",
    "ZSCORE",
];

fn only_reads(name: &[u8]) -> bool {
    // In upper case, without an allocation: this runs for every command.
    let mut upper = [0; 16];
    let Some(upper) = upper.get_mut(..name.len()) else { return false };
    upper.copy_from_slice(name);
    upper.make_ascii_uppercase();
    READS.binary_search_by(|read| read.as_bytes().cmp(upper)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&[u8]]) -> Command {
        let mut command = Command::of_words();
        words.iter().for_each(|word| command.push_word(word));
        command
    }

    #[test]
    fn the_wire_form_counts_bytes() {
        let command = Command::new("SET").arg("ключ").number(1234567890u64);
        assert_eq!(
            String::from_utf8(command.into_wire()).unwrap(),
            "*3\r\n$3\r\nSET\r\n$8\r\nключ\r\n$10\r\n1234567890\r\n"
        );
        assert_eq!(Command::new("GET").arg("").into_wire(), b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n");
    }

    #[test]
    fn words_survive_the_wire_form() {
        let words: [&[u8]; 4] = [b"SET", b"", b"\r\n$3\r\n", "ü".as_bytes()];
        assert_eq!(of(&words).into_words(), words);
    }

    #[test]
    fn only_known_reads_are_repeated() {
        assert!(READS.is_sorted() && READS.iter().all(|read| read.len() <= 16));
        let repeat = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
            of(&words).repeat()
        };
        assert_eq!(repeat(&["get", "k"]), Repeat::Read);
        assert_eq!(repeat(&["SET", "GET", "v"]), Repeat::Never);
        assert_eq!(repeat(&["GETDEL", "k"]), Repeat::Never);
        assert_eq!(Command::new("SET").repeatable().repeat(), Repeat::Write);
    }
}
