//! One error type for the whole crate. Its [`ErrorKind`] decides the stable `code` and whether a caller may
//! simply try again; the text is for people and never parsed.

use std::borrow::Cow;

/// What went wrong, as far as a program can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// A connection option is missing, contradictory or out of range.
    Config,
    /// An argument of one call is of the wrong type or out of range.
    InvalidArgument,
    /// The server refused the credentials.
    AuthFailed,
    /// The user may not run this command (ACL).
    NoPermission,
    /// No server could be reached, and nothing was sent.
    Unavailable,
    /// A read was sent and not answered in time.
    Timeout,
    /// A write was sent and its reply lost: it may or may not have happened.
    OutcomeUnknown,
    /// Too many calls wait for a connection.
    QueueFull,
    /// The connection or store was closed by its owner.
    Closed,
    /// The key holds another Redis type than the operation needs.
    WrongType,
    /// Stored bytes are not what this library or its predecessors write.
    CorruptEntry,
    /// A later holder of the lock has written; nothing was written.
    StaleFence,
    /// The server is loading, read-only, out of memory or otherwise unable; nothing was written.
    ServerNotReady,
    /// The server does not know a script by its digest. Handled in `script.rs`, users never see it.
    NoScript,
    /// Any other error reply.
    Server,
    /// The engine behind this target has no such command.
    Unsupported,
    /// A panic was caught at the border. A bug of this library.
    Internal,
}

impl ErrorKind {
    /// The stable string that users compare with (`error.code`).
    pub fn code(self) -> &'static str {
        match self {
            Self::Config => "CONFIG",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::AuthFailed => "AUTH_FAILED",
            Self::NoPermission => "NO_PERMISSION",
            Self::Unavailable => "REDIS_UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::OutcomeUnknown => "OUTCOME_UNKNOWN",
            Self::QueueFull => "QUEUE_FULL",
            Self::Closed => "CLOSED",
            Self::WrongType => "WRONG_TYPE",
            Self::CorruptEntry => "CORRUPT_ENTRY",
            Self::StaleFence => "STALE_FENCE",
            Self::ServerNotReady => "SERVER_NOT_READY",
            Self::NoScript | Self::Server => "SERVER_ERROR",
            Self::Unsupported => "UNSUPPORTED",
            Self::Internal => "INTERNAL_PANIC",
        }
    }

    /// Whether the same call may succeed later without any change.
    pub fn retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Timeout | Self::QueueFull | Self::ServerNotReady)
    }
}

/// An error on its way to JavaScript.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    key: Option<String>,
    fences: Option<[u64; 2]>,
    another_copy: bool,
}

/// The result of everything that can fail in this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of a kind with a text for people.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), key: None, fences: None, another_copy: false }
    }

    /// A caught panic, with whatever text it carried.
    pub fn from_panic(payload: &(dyn std::any::Any + Send)) -> Self {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        Self::new(ErrorKind::Internal, format!("ferroflow failed internally, please report it: {text}"))
    }

    /// The same if a part of the operation was written before: what was said of nothing having been sent or written
    /// is no longer true.
    pub fn after_a_write(self) -> Self {
        let kind = match self.kind {
            ErrorKind::Unavailable | ErrorKind::QueueFull | ErrorKind::Closed | ErrorKind::ServerNotReady => {
                ErrorKind::OutcomeUnknown
            }
            other => other,
        };
        if kind == self.kind {
            return self;
        }
        let message = format!("a part of it may have been written, the rest failed: {}", self.message);
        Self { kind, message: message.into(), ..self }
    }

    /// The same of a request that was sent before, and whose reply was lost: that nothing was sent or written is true of
    /// the last copy only.
    pub fn after_another_copy(self) -> Self {
        let did_nothing = matches!(
            self.kind,
            ErrorKind::Unavailable
                | ErrorKind::QueueFull
                | ErrorKind::Closed
                | ErrorKind::ServerNotReady
                | ErrorKind::NoPermission
        );
        if !did_nothing {
            return Self { another_copy: true, ..self };
        }
        let message = format!(
            "the connection to Redis was lost before the reply, the write may or may not have happened: sent again, it \
             failed: {}",
            self.message
        );
        Self { kind: ErrorKind::OutcomeUnknown, message: message.into(), another_copy: true, ..self }
    }

    /// Whether another copy of the request was sent before, and may have been run.
    pub fn is_after_another_copy(&self) -> bool {
        self.another_copy
    }

    /// Names the Redis key that the failed operation was about. The first name given stays.
    pub fn about(mut self, key: &str) -> Self {
        if self.key.is_none() {
            self.key = Some(key.to_owned());
        }
        self
    }

    /// Names the fence of a write that was refused, and the one that refused it.
    pub fn with_fences(mut self, own: u64, current: u64) -> Self {
        self.fences = Some([own, current]);
        self
    }

    /// The kind, from which code and retryability follow.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The text for people. Never holds a secret.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The Redis key that the operation was about, if one is to blame.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The fence of a write that was refused, and the one that refused it.
    pub fn fences(&self) -> Option<[u64; 2]> {
        self.fences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_payloads_become_texts() {
        let formatted: Box<dyn std::any::Any + Send> = Box::new(String::from("index 3"));
        assert!(Error::from_panic(&*formatted).message().ends_with("index 3"));
        let unit: Box<dyn std::any::Any + Send> = Box::new(());
        assert_eq!(Error::from_panic(&*unit).kind().code(), "INTERNAL_PANIC");
    }

    #[test]
    fn the_first_key_named_stays() {
        let error = Error::new(ErrorKind::WrongType, "x").about("inner").about("outer");
        assert_eq!(error.key(), Some("inner"));
    }
}
