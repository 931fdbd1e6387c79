//! From an endpoint to a connected stream: TCP, Unix domain socket, TLS over TCP.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::config::{Address, Config, Endpoint};
use super::tls;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that the other side's system has not acknowledged for so long end the connection. Together with the time until
/// a probe is sent (`drive.rs`), a half-open connection is noticed within 10 s.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// A connected stream of any kind.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// Unix domain socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Stream {
    /// Another handle of the socket, which takes bytes from any thread and never blocks it. An error where bytes are not
    /// sent as they are.
    pub fn writer(&self) -> io::Result<Box<dyn io::Write + Send>> {
        match self {
            Stream::Tcp(stream) => {
                let socket = socket2::SockRef::from(stream).try_clone()?;
                // On Windows, a copy may not take this over.
                socket.set_nonblocking(true)?;
                Ok(Box::new(std::net::TcpStream::from(socket)))
            }
            #[cfg(unix)]
            Stream::Unix(stream) => {
                let socket = socket2::SockRef::from(stream).try_clone()?;
                Ok(Box::new(std::os::unix::net::UnixStream::from(socket)))
            }
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// Connects to one server, without any deadline of its own.
pub async fn dial(config: &Config, endpoint: &Endpoint) -> Result<Stream> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = dial_tcp(config, address).await?;
            match &config.tls {
                None => Ok(Stream::Tcp(stream)),
                Some(options) => {
                    Ok(Stream::Tls(Box::new(tls::connect(options, &address.host, stream, endpoint).await?)))
                }
            }
        }
        #[cfg(unix)]
        Endpoint::Unix { path } => tokio::net::UnixStream::connect(path)
            .await
            .map(Stream::Unix)
            .map_err(|error| unreachable_endpoint(endpoint, &error)),
        #[cfg(not(unix))]
        Endpoint::Unix { .. } => {
            Err(Error::new(ErrorKind::Config, "no Unix domain sockets on this platform"))
        }
        Endpoint::Memory { .. } | Endpoint::Sentinel(_) | Endpoint::Cluster(_) => {
            Err(Error::new(ErrorKind::Config, format!("{endpoint} is not a server")))
        }
    }
}

async fn dial_tcp(config: &Config, address: &Address) -> Result<TcpStream> {
    let host = &address.host;
    let wanted = |address: &SocketAddr| match config.family {
        4 => address.is_ipv4(),
        6 => address.is_ipv6(),
        _ => true,
    };
    let unreachable = |error: &io::Error| unreachable_endpoint(&Endpoint::Tcp(address.clone()), error);
    let resolved = lookup_host((host.as_str(), address.port)).await.map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("ENOTFOUND cannot resolve the host {host}: {error}"))
    })?;
    let mut last = None;
    for candidate in resolved.filter(wanted) {
        match TcpStream::connect(candidate).await {
            Ok(stream) => {
                configure(&stream, config.keep_alive).map_err(|error| unreachable(&error))?;
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(
        || {
            let family = config.family;
            Error::new(
                ErrorKind::Unavailable,
                format!("ENOTFOUND the host {host} has no IPv{family} address"),
            )
        },
        |error| unreachable(&error),
    ))
}

fn configure(stream: &TcpStream, keep_alive: u64) -> io::Result<()> {
    // Pipelines are written whole; waiting for more bytes would only add latency.
    stream.set_nodelay(true)?;
    if keep_alive > 0 {
        let interval = Duration::from_millis(keep_alive);
        let keepalive = socket2::TcpKeepalive::new().with_time(interval).with_interval(interval);
        socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

/// The errno names are what Node users look for, and what retry rules of the replaced packages match.
fn unreachable_endpoint(endpoint: &Endpoint, error: &io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} {endpoint}: {error}", errno_name(error)))
}

/// The name that Node gives to an I/O error.
pub fn errno_name(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "ECONNREFUSED",
        io::ErrorKind::ConnectionReset => "ECONNRESET",
        io::ErrorKind::ConnectionAborted => "ECONNABORTED",
        io::ErrorKind::BrokenPipe => "EPIPE",
        io::ErrorKind::TimedOut => "ETIMEDOUT",
        io::ErrorKind::HostUnreachable => "EHOSTUNREACH",
        io::ErrorKind::NetworkUnreachable => "ENETUNREACH",
        io::ErrorKind::NotFound => "ENOENT",
        io::ErrorKind::PermissionDenied => "EACCES",
        io::ErrorKind::UnexpectedEof => "ECONNRESET",
        _ => "network error",
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! each_stream {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each_stream!(self, stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_shutdown(context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_notices_that_the_other_side_is_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        configure(&stream, 30_000).unwrap();
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        }
    }
}
