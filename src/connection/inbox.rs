//! What a connection has received and nobody has taken yet. Whoever reads the socket has its lock: mostly the driver, and
//! for a while a thread that the driver lends the reading to ([`super::loan`]).

use bytes::BytesMut;

use super::limits::ReplyCodec;
use super::loan::Loans;

/// As much is read at once.
pub(super) const READ_SIZE: usize = 64 * 1024;

/// Received bytes with the parser's state.
#[derive(Default)]
pub struct Inbox {
    /// The reply parser.
    pub codec: ReplyCodec,
    /// Bytes received and not yet parsed.
    pub input: BytesMut,
    /// Who else may read.
    pub(super) loans: Loans,
}

impl Inbox {
    /// Of a new connection, which has said this already.
    pub(super) fn new(codec: ReplyCodec, input: BytesMut) -> Self {
        Self { codec, input, loans: Loans::default() }
    }
}
