//! From nothing to a session with the server that is meant, in time.

use tokio::time::timeout;

use super::Node;
use crate::connection::config::Endpoint;
use crate::connection::dial;
use crate::connection::handshake::Session;
use crate::error::{Error, ErrorKind, Result};

impl Node {
    pub(super) async fn establish(&self) -> Result<Session> {
        let Some(overseer) = &self.overseer else {
            return self.in_time(self.dial(&self.config.endpoint)).await;
        };
        let attempt = self.in_time(async {
            let endpoint = overseer.locate().await?;
            let mut session = self.dial(&endpoint).await?;
            overseer.verify(&mut session, &endpoint).await?;
            Ok(session)
        });
        tokio::select! {
            biased;
            // A server that says nothing any more would be waited for as long as for any other.
            () = self.wishes.for_another() => Err(Error::new(
                ErrorKind::Unavailable,
                "the connection was given up for another server while it was being established",
            )),
            established = attempt => established,
        }
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Session> {
        Session::open(dial::dial(&self.config, endpoint).await?, &self.config, endpoint).await
    }

    async fn in_time(&self, attempt: impl Future<Output = Result<Session>>) -> Result<Session> {
        match timeout(self.config.connect_timeout(), attempt).await {
            Ok(established) => established,
            Err(_) => Err(Error::new(
                ErrorKind::Unavailable,
                format!(
                    "ETIMEDOUT connection timeout: no connection to {} within {} ms",
                    self.config.endpoint, self.config.connect_timeout
                ),
            )),
        }
    }
}
