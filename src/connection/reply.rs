//! What a server or the embedded engine answers, in the one shape that does not depend on the protocol version.

use redis::Value;

use crate::error::{Error, ErrorKind, Result};

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

    /// The bytes of a value, or `None` for no value.
    pub fn into_bytes(self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Nil => Ok(None),
            Self::Bytes(bytes) => Ok(Some(bytes)),
            Self::Status(text) => Ok(Some(text.into_bytes())),
            Self::Int(int) => Ok(Some(int.to_string().into_bytes())),
            Self::List(_) => Err(unexpected("a value", "a list")),
        }
    }

    /// An integer.
    pub fn into_int(self) -> Result<i64> {
        match self {
            Self::Int(int) => Ok(int),
            other => Err(unexpected("an integer", other.shape())),
        }
    }

    /// A list.
    pub fn into_list(self) -> Result<Vec<Reply>> {
        match self {
            Self::List(items) => Ok(items),
            other => Err(unexpected("a list", other.shape())),
        }
    }

    fn shape(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Int(_) => "an integer",
            Self::Status(_) => "a status",
            Self::Bytes(_) => "a value",
            Self::List(_) => "a list",
        }
    }
}

fn unexpected(wanted: &str, found: &str) -> Error {
    Error::new(ErrorKind::Server, format!("the server answered {found} where {wanted} was expected"))
}

/// Takes a parsed value over; an error reply becomes an error of its kind.
pub fn from_value(value: Value) -> Result<Reply> {
    match value {
        Value::Nil => Ok(Reply::Nil),
        Value::Int(int) => Ok(Reply::Int(int)),
        Value::BulkString(bytes) => Ok(Reply::Bytes(bytes)),
        Value::Array(items) | Value::Set(items) | Value::Push { data: items, .. } => list(items),
        Value::SimpleString(text) => Ok(Reply::Status(text)),
        Value::Okay => Ok(Reply::ok()),
        Value::Map(pairs) => list(pairs.into_iter().flat_map(|(field, value)| [field, value])),
        Value::Attribute { data, .. } => from_value(*data),
        Value::Double(number) => Ok(Reply::Bytes(number.to_string().into_bytes())),
        Value::Boolean(bool) => Ok(Reply::Int(bool.into())),
        Value::VerbatimString { text, .. } => Ok(Reply::Bytes(text.into_bytes())),
        Value::BigNumber(digits) => Ok(Reply::Bytes(digits)),
        Value::ServerError(error) => Err(from_server_error(&error)),
        other => Err(Error::new(
            ErrorKind::Server,
            format!("the server sent a reply of an unknown kind: {other:?}"),
        )),
    }
}

fn list(items: impl IntoIterator<Item = Value>) -> Result<Reply> {
    items.into_iter().map(from_value).collect::<Result<_>>().map(Reply::List)
}

fn from_server_error(error: &redis::ServerError) -> Error {
    let (code, details) = match (error.code(), error.details()) {
        (code @ ("ERR" | RETURNED), Some(details)) => {
            inside_script(code, details).unwrap_or((code, Some(details)))
        }
        told => told,
    };
    if code == "CROSSSLOT" {
        return Error::new(
            ErrorKind::Unsupported,
            "the keys of this call lie in different slots of the cluster: give them a common hash tag, for instance a \
             key prefix like {app}:",
        );
    }
    let kind = match code {
        "WRONGTYPE" => ErrorKind::WrongType,
        "NOPERM" => ErrorKind::NoPermission,
        "NOAUTH" | "WRONGPASS" => ErrorKind::AuthFailed,
        "NOSCRIPT" => ErrorKind::NoScript,
        "LOADING" | "MASTERDOWN" | "READONLY" | "CLUSTERDOWN" | "TRYAGAIN" | "OOM" | "BUSY" | "MISCONF"
        | "NOREPLICAS" => ErrorKind::ServerNotReady,
        _ => ErrorKind::Server,
    };
    match details {
        Some(details) => Error::new(kind, format!("{code} {details}")),
        None => Error::new(kind, code.to_owned()),
    }
}

/// Begins an error, before Redis 7, that the server gave to a script and the script returns.
const RETURNED: &str = "@user_script:";

/// Before Redis 7, an error of a command inside a script is the end of a text about the script:
/// `ERR Error running script (call to f_…): @user_script:1: @user_script: 1: -READONLY You can't write …`, or without the
/// first half if the script has caught it, and returns it.
fn inside_script<'text>(code: &str, text: &'text str) -> Option<(&'text str, Option<&'text str>)> {
    let error = match code {
        RETURNED => text,
        _ => text.strip_prefix("Error running script (")?.split_once(" @user_script: ")?.1,
    };
    let error = error.split_once(": -")?.1.trim_end();
    match error.split_once(' ') {
        Some((code, details)) => Some((code, Some(details))),
        None => Some((error, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resp3_shapes_become_those_of_resp2() {
        let value = redis::parse_redis_value(b"%1\r\n+a\r\n~2\r\n#t\r\n,1.5\r\n").unwrap();
        assert_eq!(
            from_value(value).unwrap(),
            Reply::List(vec![
                Reply::Status("a".into()),
                Reply::List(vec![Reply::Int(1), Reply::Bytes(b"1.5".to_vec())])
            ])
        );
        assert_eq!(from_value(redis::parse_redis_value(b"_\r\n").unwrap()).unwrap(), Reply::Nil);
    }

    #[test]
    fn error_replies_have_kinds() {
        let kind = |text: &[u8]| from_value(redis::parse_redis_value(text).unwrap()).unwrap_err().kind();
        assert_eq!(kind(b"-WRONGTYPE no\r\n"), ErrorKind::WrongType);
        assert_eq!(kind(b"-NOPERM no\r\n"), ErrorKind::NoPermission);
        assert_eq!(kind(b"-OOM no\r\n"), ErrorKind::ServerNotReady);
        assert_eq!(kind(b"-CROSSSLOT Keys in request\r\n"), ErrorKind::Unsupported);
        let of_script: &[u8] =
            b"-ERR Error running script (call to f_0): @user_script:35: @user_script: 35: -READONLY No\r\n";
        let error = from_value(redis::parse_redis_value(of_script).unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::ServerNotReady, "READONLY No"));
        let returned: &[u8] =
            b"-@user_script: 22: -READONLY You can't write against a read only replica.  \r\n";
        let error = from_value(redis::parse_redis_value(returned).unwrap()).unwrap_err();
        let text = "READONLY You can't write against a read only replica.";
        assert_eq!((error.kind(), error.message()), (ErrorKind::ServerNotReady, text));
        let denied: &[u8] = b"-@user_script: 22: The user executing the script can't run this command\r\n";
        let error = from_value(redis::parse_redis_value(denied).unwrap()).unwrap_err();
        assert!(error.kind() == ErrorKind::Server && error.message().contains("The user executing"));
        let of_lua: &[u8] =
            b"-ERR Error running script (call to f_0): @user_script:1: user_script:1: : -OOM\r\n";
        assert_eq!(kind(of_lua), ErrorKind::Server);
        assert_eq!(kind(b"-ERR WRONGTYPE in the text does not count\r\n"), ErrorKind::Server);
    }
}
