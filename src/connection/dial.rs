//! From an endpoint to a connected stream: TCP, Unix domain socket, TLS over TCP.

use std::io::{self, Read};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::client::TlsStream;

use super::config::{Address, Config, Endpoint};
use super::inbox::READ_SIZE;
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
    /// A socket of the other kinds without TLS, which wakes nobody.
    Unattended {
        /// It.
        socket: Socket,
        /// Whether it is a Unix domain socket.
        is_unix: bool,
    },
    /// What is left when the system refuses to change between the two.
    Gone,
}

impl Stream {
    /// Another handle of the socket, which takes and gives bytes on any thread and never blocks it. An error where bytes
    /// are not sent as they are.
    pub fn socket(&self) -> io::Result<Socket> {
        let socket = match self {
            Stream::Tcp(stream) => SockRef::from(stream).try_clone()?,
            #[cfg(unix)]
            Stream::Unix(stream) => SockRef::from(stream).try_clone()?,
            Stream::Unattended { socket, .. } => socket.try_clone()?,
            Stream::Tls(_) | Stream::Gone => return Err(io::ErrorKind::Unsupported.into()),
        };
        // On Windows, a copy may not take this over.
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Leaves it to others to notice what the socket has or takes. Reading and writing is still possible, but wakes nobody
    /// when it becomes so, and a socket that takes nothing is an error.
    pub fn leave(&mut self) -> io::Result<()> {
        *self = match mem::replace(self, Stream::Gone) {
            Stream::Tcp(stream) => Stream::Unattended { socket: stream.into_std()?.into(), is_unix: false },
            #[cfg(unix)]
            Stream::Unix(stream) => Stream::Unattended { socket: stream.into_std()?.into(), is_unix: true },
            other => other,
        };
        Ok(())
    }

    /// Takes [`Stream::leave`] back.
    pub fn attend(&mut self) -> io::Result<()> {
        *self = match mem::replace(self, Stream::Gone) {
            #[cfg(unix)]
            Stream::Unattended { socket, is_unix: true } => {
                Stream::Unix(tokio::net::UnixStream::from_std(socket.into())?)
            }
            Stream::Unattended { socket, .. } => Stream::Tcp(TcpStream::from_std(socket.into())?),
            other => other,
        };
        Ok(())
    }

    /// Whether whoever reads or writes is woken when that becomes possible.
    pub fn is_attended(&self) -> bool {
        !matches!(self, Stream::Unattended { .. })
    }
}

/// Sends what the socket takes, as the standard library does: nobody is sent a signal when the other side is gone.
pub fn send(socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    let sent = rustix::net::send(socket, bytes, rustix::net::SendFlags::NOSIGNAL).map_err(io::Error::from);
    #[cfg(not(target_os = "linux"))]
    let sent = socket.send(bytes);
    sent
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
        SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
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
    ($self:expr, $stream:ident => $call:expr, $socket:ident => $unattended:expr) => {
        match $self.get_mut() {
            Stream::Tcp($stream) => $call,
            Stream::Tls($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
            Stream::Unattended { socket: $socket, .. } => $unattended,
            Stream::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each_stream!(
            self,
            stream => Pin::new(stream).poll_read(context, buffer),
            // Not all that there is room for, as it is written twice.
            socket => match socket.read(buffer.initialize_unfilled_to(READ_SIZE.min(buffer.remaining()))) {
                Ok(read) => {
                    buffer.advance(read);
                    Poll::Ready(Ok(()))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        )
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each_stream!(
            self,
            stream => Pin::new(stream).poll_write(context, bytes),
            socket => Poll::Ready(send(socket, bytes))
        )
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(self, stream => Pin::new(stream).poll_flush(context), _socket => Poll::Ready(Ok(())))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each_stream!(
            self,
            stream => Pin::new(stream).poll_shutdown(context),
            socket => Poll::Ready(socket.shutdown(Shutdown::Write))
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Wake, Waker};

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_notices_that_the_other_side_is_gone() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        configure(&stream, 30_000).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
        }
    }

    /// Whether somebody was woken since this was asked before.
    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// Something that was sent to the stream has arrived when this ends.
    async fn send(other: &mut TcpStream, stream: &Stream, bytes: &[u8]) {
        other.write_all(bytes).await.unwrap();
        let socket = stream.socket().unwrap();
        while socket.peek(&mut [std::mem::MaybeUninit::uninit(); 1]).is_err() {
            tokio::task::yield_now().await;
        }
        // Whoever is to be woken is woken.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    #[tokio::test]
    async fn a_stream_that_is_left_wakes_nobody_until_it_is_attended_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = Stream::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (mut other, _) = listener.accept().await.unwrap();
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let read = |stream: &mut Stream| {
            let mut bytes = [0; 8];
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(stream).poll_read(&mut Context::from_waker(&waker), &mut buffer) {
                Poll::Ready(outcome) => outcome.map(|()| Some(buffer.filled().to_vec())),
                Poll::Pending => Ok(None),
            }
        };
        assert_eq!(read(&mut stream).unwrap(), None);
        stream.leave().unwrap();
        stream.leave().unwrap();
        send(&mut other, &stream, b"one").await;
        assert!(!bell.0.load(Ordering::SeqCst));
        assert_eq!(read(&mut stream).unwrap().unwrap(), b"one");
        assert_eq!(read(&mut stream).unwrap(), None);
        stream.attend().unwrap();
        stream.attend().unwrap();
        assert_eq!(read(&mut stream).unwrap(), None);
        send(&mut other, &stream, b"two").await;
        assert!(bell.0.load(Ordering::SeqCst));
        assert_eq!(read(&mut stream).unwrap().unwrap(), b"two");
    }

    #[tokio::test]
    async fn a_stream_that_is_left_says_when_it_takes_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut stream = Stream::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let (other, _) = listener.accept().await.unwrap();
        stream.leave().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let error = loop {
            match Pin::new(&mut stream).poll_write(&mut context, &[0; 65_536]) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => break error,
                Poll::Pending => unreachable!("nobody would be woken"),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        stream.attend().unwrap();
        assert!(Pin::new(&mut stream).poll_write(&mut context, &[0]).is_pending());
        drop(other);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_unix_socket_stays_one() {
        let (one, mut other) = tokio::net::UnixStream::pair().unwrap();
        let mut stream = Stream::Unix(one);
        stream.leave().unwrap();
        stream.attend().unwrap();
        assert!(matches!(stream, Stream::Unix(_)));
        stream.write_all(b"one").await.unwrap();
        let mut bytes = [0; 3];
        tokio::io::AsyncReadExt::read_exact(&mut other, &mut bytes).await.unwrap();
        assert_eq!(&bytes, b"one");
    }
}
