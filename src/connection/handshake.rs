//! The first words on a new connection: protocol, credentials, name, database, and whether the server is ready.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::command::Command;
use super::config::{Config, Endpoint};
use super::dial::{Stream, errno_name};
use super::limits::ReplyCodec;
use super::reply::{self, Reply};
use crate::error::{Error, ErrorKind, Result};

/// A connected stream with its parser state.
pub struct Session {
    /// The stream.
    pub stream: Stream,
    /// The reply parser.
    pub codec: ReplyCodec,
    /// Bytes received and not yet parsed.
    pub input: BytesMut,
    /// Whether the server speaks RESP3, so that messages can arrive beside replies.
    pub resp3: bool,
}

impl Session {
    /// Introduces us to the server on the other end of `stream`.
    pub async fn open(stream: Stream, config: &Config, endpoint: &Endpoint) -> Result<Self> {
        let mut session = Self {
            stream,
            codec: ReplyCodec::default(),
            input: BytesMut::with_capacity(16 * 1024),
            resp3: false,
        };
        if config.protocol == 3 {
            session.resp3 = session.hello(config, endpoint).await?;
        }
        if !session.resp3 {
            session.auth(config, endpoint).await?;
        }
        session.settle_in(config, endpoint).await?;
        Ok(session)
    }

    /// `false` if the server knows no RESP3.
    async fn hello(&mut self, config: &Config, endpoint: &Endpoint) -> Result<bool> {
        let mut hello = Command::new("HELLO").arg("3");
        if let Some(password) = &config.password {
            let user = config.username.as_deref().unwrap_or("default");
            hello = hello.arg("AUTH").arg(user).arg(password.reveal());
        }
        match self.ask([hello]).await?.remove(0) {
            Ok(_) => Ok(true),
            // Redis before 6, or a proxy: `ERR unknown command`, `NOPROTO`.
            Err(error) if error.kind() == ErrorKind::Server => Ok(false),
            Err(error) => Err(refused(error, config, endpoint)),
        }
    }

    async fn auth(&mut self, config: &Config, endpoint: &Endpoint) -> Result<()> {
        let Some(password) = &config.password else { return Ok(()) };
        let mut auth = Command::new("AUTH");
        if let Some(user) = &config.username {
            auth = auth.arg(user);
        }
        match self.ask([auth.arg(password.reveal())]).await?.remove(0) {
            Ok(_) => Ok(()),
            // Servers before 6 have no code of their own for a refused password.
            Err(error) if error.kind() == ErrorKind::Server => {
                Err(refused(Error::new(ErrorKind::AuthFailed, error.message().to_owned()), config, endpoint))
            }
            Err(error) => Err(refused(error, config, endpoint)),
        }
    }

    async fn settle_in(&mut self, config: &Config, endpoint: &Endpoint) -> Result<()> {
        let mut commands = vec![Command::new("PING")];
        if config.db != 0 {
            commands.push(Command::new("SELECT").number(config.db));
        }
        if let Some(name) = &config.connection_name {
            commands.push(Command::new("CLIENT").arg("SETNAME").arg(name));
        }
        let mut answers = self.ask(commands).await?.into_iter();
        if let Some(Err(error)) = answers.next()
            // A user without the right to PING may have every right that matters.
            && error.kind() != ErrorKind::NoPermission
        {
            return Err(refused(error, config, endpoint));
        }
        if config.db != 0
            && let Some(Err(error)) = answers.next()
        {
            let text = format!("cannot select database {}: {}", config.db, error.message());
            return Err(Error::new(ErrorKind::Config, text));
        }
        // The name is a courtesy to whoever reads CLIENT LIST.
        Ok(())
    }

    /// Sends commands together and waits for their replies.
    pub async fn ask(&mut self, commands: impl IntoIterator<Item = Command>) -> Result<Vec<Result<Reply>>> {
        let mut wire = Vec::new();
        let mut answers = Vec::new();
        let mut expected = 0;
        for command in commands {
            wire.extend_from_slice(&command.into_wire());
            expected += 1;
        }
        self.write(&wire).await?;
        while answers.len() < expected {
            match self.next_value().await? {
                redis::Value::Push { .. } => {}
                value => answers.push(reply::from_value(value)),
            }
        }
        Ok(answers)
    }

    /// Sends a command and does not wait for what the server says to it.
    pub async fn tell(&mut self, command: Command) -> Result<()> {
        self.write(&command.into_wire()).await
    }

    async fn write(&mut self, wire: &[u8]) -> Result<()> {
        self.stream.write_all(wire).await.map_err(|error| lost(&error))?;
        self.stream.flush().await.map_err(|error| lost(&error))
    }

    /// The next thing that the server says, be it a reply or a message.
    pub async fn next_value(&mut self) -> Result<redis::Value> {
        loop {
            match self.codec.decode(&mut self.input) {
                Ok(Some(value)) => return Ok(value),
                Ok(None) => {
                    if self.stream.read_buf(&mut self.input).await.map_err(|error| lost(&error))? == 0 {
                        return Err(Error::new(
                            ErrorKind::Unavailable,
                            "ECONNRESET the server closed the connection during the handshake",
                        ));
                    }
                }
                Err(violation) => {
                    let text =
                        format!("the endpoint does not speak the Redis protocol: {}", violation.text());
                    return Err(Error::new(ErrorKind::Unavailable, text));
                }
            }
        }
    }
}

fn lost(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{} during the handshake: {error}", errno_name(error)))
}

/// Says what to do about it. The server's text never holds the password.
fn refused(error: Error, config: &Config, endpoint: &Endpoint) -> Error {
    if error.kind() != ErrorKind::AuthFailed {
        return error;
    }
    let advice = match (&config.password, &config.username) {
        (None, _) => {
            "it requires a password: set password in the connection options or in the URL".to_owned()
        }
        (Some(_), None) => "check the password".to_owned(),
        (Some(_), Some(user)) => format!("check the password of the user {user:?} and that the user is on"),
    };
    let text = format!("Redis at {endpoint} refused us: {advice} ({})", error.message());
    Error::new(ErrorKind::AuthFailed, text)
}
