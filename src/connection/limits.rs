//! What a server may send. Every reply passes here before it is parsed: where it ends is found without allocating for
//! what it declares, and only a whole reply goes to the parser. A hostile or broken server costs a connection then, and
//! never more memory than a small multiple of the bytes that it really sent.

use bytes::BytesMut;
use redis::{Value, ValueCodec};
use tokio_util::codec::Decoder;

/// Lists within lists. The parser descends once for each.
pub const MAX_DEPTH: usize = 64;
/// Bytes of one value: the server's own default bound (`proto-max-bulk-len`), and the longest string of V8.
pub const MAX_VALUE: usize = 512 * 1024 * 1024;
/// Bytes of one reply with everything in it.
pub const MAX_REPLY: usize = 1024 * 1024 * 1024;
/// Values of one reply. Parsed, each takes many times the three bytes that are enough to send one.
pub const MAX_VALUES: usize = 1 << 24;
/// Bytes of a line: a status, an error, a number.
pub const MAX_LINE: usize = 1024 * 1024;
/// The longest line that declares a length.
const MAX_LENGTH_LINE: usize = 24;
/// A buffer that grew beyond this for one reply is not kept for the next.
const KEPT_BUFFER: usize = 1024 * 1024;

/// How a server broke the protocol or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Violation(&'static str);

impl Violation {
    /// What it did, for people.
    pub fn text(self) -> &'static str {
        self.0
    }
}

type Checked<T> = std::result::Result<T, Violation>;

/// Takes replies out of received bytes.
#[derive(Default)]
pub struct ReplyCodec {
    parser: ValueCodec,
    scan: Scan,
}

impl ReplyCodec {
    /// The next whole reply; `None` until more has arrived. After a violation the connection is of no use.
    pub fn decode(&mut self, input: &mut BytesMut) -> Checked<Option<Value>> {
        let Some(end) = self.scan.end(input)? else {
            if input.is_empty() && input.capacity() > KEPT_BUFFER {
                *input = BytesMut::new();
            }
            return Ok(None);
        };
        self.scan.restart();
        let left = input.len() - end;
        // Texts of errors may repeat bytes of the command, which need not be UTF-8.
        if matches!(input[0], b'-' | b'+') && std::str::from_utf8(&input[..end]).is_err() {
            return self.parse_lossy(input, end).map(Some);
        }
        match self.parser.decode(input) {
            Ok(Some(value)) if input.len() == left => Ok(Some(value)),
            _ => Err(Violation("a malformed reply")),
        }
    }

    fn parse_lossy(&mut self, input: &mut BytesMut, end: usize) -> Checked<Value> {
        let line = input.split_to(end);
        let mut text = BytesMut::from(String::from_utf8_lossy(&line).as_bytes());
        match self.parser.decode(&mut text) {
            Ok(Some(value)) => Ok(value),
            _ => Err(Violation("a malformed reply")),
        }
    }
}

/// Looks for the end of the reply at the start of a buffer, and goes on where it stopped when the buffer has grown.
#[derive(Default)]
struct Scan {
    /// Where the next value begins; beyond the buffer while one is being received.
    at: usize,
    /// No line ends between `at` and here.
    searched: usize,
    /// Values seen or declared.
    values: usize,
    /// Values still to come in each list that has begun.
    open: Vec<usize>,
}

impl Scan {
    fn restart(&mut self) {
        self.at = 0;
        self.searched = 0;
        self.values = 0;
        self.open.clear();
    }

    fn end(&mut self, input: &[u8]) -> Checked<Option<usize>> {
        while self.at <= input.len() {
            if self.at > 0 && self.open.is_empty() {
                return Ok(Some(self.at));
            }
            let Some(line_end) = self.line_end(input)? else { return Ok(None) };
            let (kind, line) = (input[self.at], &input[self.at + 1..line_end]);
            self.at = line_end + 2;
            self.searched = 0;
            self.take(kind, line)?;
            if self.at > MAX_REPLY {
                return Err(Violation("a reply of more than 1 GiB"));
            }
        }
        Ok(None)
    }

    /// Where the line at `at` ends. Checks what can be said before it does.
    fn line_end(&mut self, input: &[u8]) -> Checked<Option<usize>> {
        let Some(kind) = input.get(self.at) else { return Ok(None) };
        let (limit, too_long) = match kind {
            b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => (MAX_LINE, "a line of more than 1 MiB"),
            b'$' | b'=' | b'!' | b'*' | b'~' | b'>' | b'%' | b'|' => {
                (MAX_LENGTH_LINE, "a length that is no number")
            }
            _ => return Err(Violation("a reply of an unknown kind")),
        };
        let mut from = self.searched.max(self.at);
        while let Some(offset) = input[from..].iter().position(|byte| *byte == b'\r') {
            from += offset;
            match input.get(from + 1) {
                Some(b'\n') if from - self.at <= limit => return Ok(Some(from)),
                Some(b'\n') => return Err(Violation(too_long)),
                Some(_) => from += 1,
                None => break,
            }
        }
        if input.len() - self.at > limit + 2 {
            return Err(Violation(too_long));
        }
        // A carriage return at the very end is looked at again.
        self.searched = if input.last() == Some(&b'\r') { input.len() - 1 } else { input.len() };
        Ok(None)
    }

    fn take(&mut self, kind: u8, line: &[u8]) -> Checked<()> {
        let nullable = matches!(kind, b'$' | b'*' | b'~' | b'>');
        let inside = match kind {
            b'$' | b'=' | b'!' => {
                if let Some(bytes) = length(line, nullable)? {
                    if bytes > MAX_VALUE {
                        return Err(Violation("a value of more than 512 MiB"));
                    }
                    self.at += bytes + 2;
                }
                0
            }
            b'*' | b'~' | b'>' => length(line, nullable)?.unwrap_or(0),
            b'%' => length(line, nullable)?.unwrap_or(0).saturating_mul(2),
            // The value that they describe comes after the attributes.
            b'|' => length(line, nullable)?.unwrap_or(0).saturating_mul(2).saturating_add(1),
            _ => 0,
        };
        self.values = self.values.saturating_add(inside);
        if self.values > MAX_VALUES {
            return Err(Violation("a reply of more than 16 million values"));
        }
        if inside > 0 {
            if self.open.len() == MAX_DEPTH {
                return Err(Violation("a reply of more than 64 lists within each other"));
            }
            self.open.push(inside);
            return Ok(());
        }
        while let Some(left) = self.open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            self.open.pop();
        }
        Ok(())
    }
}

/// A declared length; `None` for the -1 that means no value.
fn length(line: &[u8], nullable: bool) -> Checked<Option<usize>> {
    if line == b"-1" && nullable {
        return Ok(None);
    }
    let no_number = Violation("a length that is no number");
    // 18 digits fit, and everything that long is refused by whoever asked.
    if line.is_empty() || line.len() > 18 {
        return Err(no_number);
    }
    line.iter()
        .try_fold(0, |number: usize, byte| match byte {
            b'0'..=b'9' => Ok(number.saturating_mul(10).saturating_add(usize::from(byte - b'0'))),
            _ => Err(no_number),
        })
        .map(Some)
}

#[cfg(test)]
mod tests;
