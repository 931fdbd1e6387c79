//! What a connection needs to know, as TypeScript hands it over (JSON, every field resolved). Two connections with
//! equal configuration are one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::batch::Limits;
use super::nat_map::{Mapper, NatMap};
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

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Address {
    fn is_complete(&self) -> bool {
        !self.host.is_empty() && self.port != 0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "[{host}]:{port}")
        } else {
            write!(formatter, "{host}:{port}")
        }
    }
}

/// Sentinels that watch a master.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentinelOptions {
    /// Where the Sentinels are.
    pub sentinels: Vec<Address>,
    /// The name that they give to the master.
    pub name: String,
    /// ACL user on the Sentinels.
    pub username: Option<String>,
    /// Password on the Sentinels.
    pub password: Option<Secret>,
    /// TLS to the Sentinels, if any.
    pub tls: Option<TlsOptions>,
    /// Where the addresses that they name are reached.
    pub nat_map: NatMap,
    /// Whether to ask the Sentinels for further ones.
    pub update_sentinels: bool,
}

/// A Redis Cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterOptions {
    /// Nodes to ask for all others.
    pub nodes: Vec<Address>,
    /// Where the addresses that the nodes name are reached.
    pub nat_map: NatMap,
    /// Who answers reads.
    #[serde(default)]
    pub scale_reads: ScaleReads,
}

/// Who answers reads in a cluster, in ioredis' words. A replica may be behind its master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ScaleReads {
    /// The master of the slot.
    #[default]
    Master,
    /// A replica of it, and the master while there is none.
    Slave,
    /// Any of them.
    All,
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Endpoint {
    /// A Redis server over TCP.
    Tcp(Address),
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
    /// The master that Sentinels watch.
    Sentinel(SentinelOptions),
    /// A Redis Cluster.
    Cluster(ClusterOptions),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix { path } => formatter.write_str(path),
            Self::Memory { name } => write!(formatter, "memory://{name}"),
            Self::Sentinel(SentinelOptions { sentinels, name, .. }) => {
                write!(formatter, "{name} of the Sentinels {}", listed(sentinels))
            }
            Self::Cluster(ClusterOptions { nodes, .. }) => write!(formatter, "the cluster {}", listed(nodes)),
        }
    }
}

fn listed(addresses: &[Address]) -> String {
    addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(", ")
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

    /// Has a function of the program say where the addresses are reached that servers name.
    pub fn with_mapper(mut self, mapper: Arc<Mapper>) -> Self {
        if let Endpoint::Sentinel(SentinelOptions { nat_map, .. })
        | Endpoint::Cluster(ClusterOptions { nat_map, .. }) = &mut self.endpoint
        {
            *nat_map = NatMap::Mapper(mapper);
        }
        self
    }

    fn check(&self) -> Result<()> {
        let refuse = |text: &str| Err(Error::new(ErrorKind::Config, format!("connection options: {text}")));
        match &self.endpoint {
            Endpoint::Tcp(address) if !address.is_complete() => {
                return refuse("host and port must be given");
            }
            Endpoint::Sentinel(SentinelOptions { sentinels: addresses, .. })
            | Endpoint::Cluster(ClusterOptions { nodes: addresses, .. })
                if addresses.is_empty() || !addresses.iter().all(Address::is_complete) =>
            {
                return refuse("at least one node must be given, each with host and port");
            }
            Endpoint::Sentinel(SentinelOptions { name, .. }) if name.is_empty() => {
                return refuse("name must say which master of the Sentinels is meant");
            }
            Endpoint::Cluster(_) if self.db != 0 => return refuse("a cluster has only database 0"),
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

    /// TCP keepalive interval, if any.
    pub fn keep_alive(&self) -> Option<Duration> {
        (self.keep_alive > 0).then(|| Duration::from_millis(self.keep_alive))
    }

    /// The first delay after a loss, at the most.
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
            "callTimeout":5000,"keepAlive":30000,"redialDelay":900,"maxQueuedCommands":10000,"maxQueuedBytes":67108864{extra}}}"#
        )
    }

    const TCP: &str = r#"{"tcp":{"host":"h","port":6379}}"#;

    #[test]
    fn every_endpoint_is_read() {
        let endpoint = |text| Config::from_json(&json(text, "")).unwrap().endpoint;
        let address = |host: &str, port| Address { host: host.into(), port };
        assert_eq!(endpoint(TCP), Endpoint::Tcp(address("h", 6379)));
        assert_eq!(endpoint(r#"{"unix":{"path":"/s"}}"#), Endpoint::Unix { path: "/s".into() });
        assert_eq!(endpoint(r#"{"memory":{"name":""}}"#), Endpoint::Memory { name: String::new() });
        assert_eq!(Endpoint::Tcp(address("::1", 1)).to_string(), "[::1]:1");
        let cluster = endpoint(
            r#"{"cluster":{"nodes":[{"host":"h","port":1}],"natMap":{"a:1":{"host":"b","port":2}}}}"#,
        );
        assert_eq!(cluster.to_string(), "the cluster h:1");
        let Endpoint::Cluster(ClusterOptions { nat_map, .. }) = cluster else { panic!() };
        assert_eq!(nat_map.reached(address("a", 1)).unwrap(), address("b", 2));
        let sentinel = r#"{"sentinel":{"sentinels":[{"host":"h","port":1}],"name":"m","natMap":{},"updateSentinels":true}}"#;
        assert_eq!(endpoint(sentinel).to_string(), "m of the Sentinels h:1");
    }

    #[test]
    fn contradictions_are_refused() {
        for bad in [
            json(r#"{"tcp":{"host":"","port":6379}}"#, ""),
            json(r#"{"tcp":{"host":"h","port":0}}"#, ""),
            json(r#"{"tcp":{"host":"h","port":70000}}"#, ""),
            json(r#"{"cluster":{"nodes":[],"natMap":{}}}"#, ""),
            json(r#"{"cluster":{"nodes":[{"host":"h","port":1}],"natMap":{}}}"#, "")
                .replace("\"db\":0", "\"db\":1"),
            json(
                r#"{"sentinel":{"sentinels":[{"host":"h","port":1}],"name":"","natMap":{},"updateSentinels":true}}"#,
                "",
            ),
            json(TCP, r#","unknown":1"#),
            json(TCP, "").replace("\"family\":0", "\"family\":5"),
            json(TCP, "").replace("\"protocol\":3", "\"protocol\":4"),
            json(TCP, "").replace("\"callTimeout\":5000", "\"callTimeout\":0"),
            json(TCP, "").replace("\"redialDelay\":900", "\"redialDelay\":0"),
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
        let cluster = r#"{"cluster":{"nodes":[{"host":"h","port":1}],"natMap":{}}}"#;
        let sentinel = r#"{"sentinel":{"sentinels":[{"host":"h","port":1}],"name":"m","natMap":{},"updateSentinels":true}}"#;
        for endpoint in [cluster, sentinel] {
            let read = || Config::from_json(&json(endpoint, "")).unwrap();
            let mapped =
                |id| read().with_mapper(Arc::new(Mapper::new(id, Box::new(|_| ()), Box::new(|| ()))));
            assert_eq!(mapped(1), mapped(1));
            assert!(mapped(1) != mapped(2) && mapped(1) != read());
        }
    }
}
