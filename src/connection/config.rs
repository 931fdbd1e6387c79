//! What a connection needs to know, as TypeScript hands it over (JSON, every field resolved). Two connections with
//! equal configuration are one.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::batch::Limits;
use crate::error::{Error, ErrorKind, Result};
use crate::key;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

/// By hand, because serde's own message would print a value of the wrong type.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("a secret must be a string")),
        }
    }
}

impl Secret {
    /// The text, for the wire.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Endpoint {
    /// A Redis server over TCP.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
    /// A Redis server over a Unix domain socket.
    Unix {
        /// Path of the socket.
        path: String,
    },
    /// The embedded engine, shared by name within the process.
    Memory {
        /// Its name; empty for the common one.
        name: String,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix { path } => formatter.write_str(path),
            Self::Memory { name } => write!(formatter, "memory://{name}"),
        }
    }
}

/// TLS, in the terms of Node's `tls.connect`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsOptions {
    /// Certificates to trust, PEM; the system's if absent.
    pub ca: Option<String>,
    /// Client certificate chain, PEM.
    pub cert: Option<String>,
    /// Client key, PEM.
    pub key: Option<Secret>,
    /// Name to verify and to send as SNI; the host if absent.
    pub servername: Option<String>,
    /// Whether a certificate that cannot be verified ends the connection.
    pub reject_unauthorized: bool,
}

/// Everything that makes one connection differ from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Config {
    /// Where to connect to.
    pub endpoint: Endpoint,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Database number.
    pub db: u32,
    /// TLS, if any.
    pub tls: Option<TlsOptions>,
    /// Put before every key, like ioredis' option of the same name.
    pub key_prefix: String,
    /// 4 or 6 to use only addresses of that family, 0 for any.
    pub family: u8,
    /// Name shown in `CLIENT LIST`.
    pub connection_name: Option<String>,
    /// 3, or 2 for servers before Redis 6 and proxies that know no `HELLO`.
    pub protocol: u8,
    /// Time to establish a connection, milliseconds.
    pub connect_timeout: u64,
    /// Time for one call to settle, milliseconds.
    pub call_timeout: u64,
    /// TCP keepalive interval, milliseconds; 0 for none.
    pub keep_alive: u64,
    /// The first redial after a loss follows within this, milliseconds.
    pub redial_delay: u64,
    /// Commands that may wait while there is no connection.
    pub max_queued_commands: usize,
    /// Bytes of commands that may wait while there is no connection.
    pub max_queued_bytes: usize,
}

impl Config {
    /// Reads and checks the JSON that TypeScript made.
    pub fn from_json(json: &str) -> Result<Self> {
        let config: Self = serde_json::from_str(json)
            .map_err(|error| Error::new(ErrorKind::Config, format!("connection options: {error}")))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::new(ErrorKind::Config, format!("connection options: {text}")));
        match &self.endpoint {
            Endpoint::Tcp { host, port } if host.is_empty() || *port == 0 => {
                return refuse("host and port must be given");
            }
            Endpoint::Unix { path } if path.is_empty() => return refuse("path must not be empty"),
            Endpoint::Unix { .. } if cfg!(not(unix)) => {
                return refuse("this platform has no Unix domain sockets");
            }
            _ => {}
        }
        if !matches!(self.family, 0 | 4 | 6) {
            return refuse("family must be 0, 4 or 6");
        }
        if !matches!(self.protocol, 2 | 3) {
            return refuse("protocol must be 2 or 3");
        }
        if self.connect_timeout == 0 || self.call_timeout == 0 {
            return refuse("timeouts must be at least 1 millisecond");
        }
        // Without any delay, a server that ends every connection would be redialled in a loop.
        if self.redial_delay == 0 {
            return refuse("redialDelay must be at least 1 millisecond");
        }
        key::check_prefix("keyPrefix", &self.key_prefix)
            .map_err(|error| Error::new(ErrorKind::Config, error.message().to_owned()))
    }

    /// Time to establish a connection.
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout)
    }

    /// Time for one call to settle.
    pub fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout)
    }

    /// The bound of the first delay after a loss.
    pub fn redial_delay(&self) -> Duration {
        Duration::from_millis(self.redial_delay)
    }

    /// Bounds of the queue while down.
    pub fn limits(&self) -> Limits {
        Limits { commands: self.max_queued_commands, bytes: self.max_queued_bytes }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn json(endpoint: &str, extra: &str) -> String {
        format!(
            r#"{{"endpoint":{endpoint},"db":0,"keyPrefix":"","family":0,"protocol":3,"connectTimeout":5000,
            "callTimeout":5000,"keepAlive":30000,"redialDelay":1200,"maxQueuedCommands":10000,"maxQueuedBytes":67108864{extra}}}"#
        )
    }

    const TCP: &str = r#"{"tcp":{"host":"h","port":6379}}"#;

    #[test]
    fn every_endpoint_is_read() {
        let endpoint = |text| Config::from_json(&json(text, "")).unwrap().endpoint;
        assert_eq!(endpoint(TCP), Endpoint::Tcp { host: "h".into(), port: 6379 });
        assert_eq!(endpoint(r#"{"unix":{"path":"/s"}}"#), Endpoint::Unix { path: "/s".into() });
        assert_eq!(endpoint(r#"{"memory":{"name":""}}"#), Endpoint::Memory { name: String::new() });
        assert_eq!(Endpoint::Tcp { host: "::1".into(), port: 1 }.to_string(), "[::1]:1");
    }

    #[test]
    fn contradictions_are_refused() {
        for bad in [
            json(r#"{"tcp":{"host":"","port":6379}}"#, ""),
            json(r#"{"tcp":{"host":"h","port":0}}"#, ""),
            json(r#"{"tcp":{"host":"h","port":70000}}"#, ""),
            json(TCP, r#","unknown":1"#),
            json(TCP, "").replace("\"family\":0", "\"family\":5"),
            json(TCP, "").replace("\"protocol\":3", "\"protocol\":4"),
            json(TCP, "").replace("\"callTimeout\":5000", "\"callTimeout\":0"),
            json(TCP, "").replace("\"redialDelay\":1200", "\"redialDelay\":0"),
            json(TCP, "").replace("\"keyPrefix\":\"\"", "\"keyPrefix\":\"a\\nb\""),
        ] {
            assert_eq!(Config::from_json(&bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn no_secret_is_printed() {
        let config = Config::from_json(&json(
            TCP,
            r#","password":"s3cret","tls":{"key":"s3cret","rejectUnauthorized":true}"#,
        ));
        assert!(!format!("{:?}", config.unwrap()).contains("s3cret"));
        let error = Config::from_json(&json(TCP, r#","password":{"s3cret":1}"#)).unwrap_err();
        assert!(!error.message().contains("s3cret"));
        let error = Config::from_json(&json(TCP, r#","password":987654"#)).unwrap_err();
        assert!(!error.message().contains("987654"));
    }

    #[test]
    fn equal_configurations_are_equal_keys() {
        let read = |extra| Config::from_json(&json(TCP, extra)).unwrap();
        assert_eq!(read(r#","password":"a""#), read(r#","password":"a""#));
        assert_ne!(read(r#","password":"a""#), read(r#","password":"b""#));
    }
}
