//! What a server or the embedded engine answers, in the one shape that does not depend on the protocol version.

/// A reply in the shape of RESP2: RESP3 maps and sets arrive as flat lists, doubles and big numbers as text,
/// booleans as 0 and 1, so that a caller sees the same on every server.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// No value.
    Nil,
    /// An integer.
    Int(i64),
    /// A short status such as `OK`.
    Status(String),
    /// A value.
    Bytes(Vec<u8>),
    /// A list; a map is a list of alternating fields and values.
    List(Vec<Reply>),
}

impl Reply {
    /// The `OK` status.
    pub fn ok() -> Self {
        Self::Status("OK".to_owned())
    }

    /// A value from text.
    pub fn text(text: &str) -> Self {
        Self::Bytes(text.as_bytes().to_vec())
    }
}
