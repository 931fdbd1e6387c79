//! A JavaScript object's hold on a connection.

use std::sync::{Arc, Mutex, PoisonError};

use napi::Env;

use tokio::sync::watch;

use super::arguments::thrown;
use super::connection::NativeConnection;
use crate::connection::config::Config;
use crate::connection::nat_map::Mapper;
use crate::connection::status::Status;
use crate::connection::{Backend, Connection};
use crate::error::{Error, ErrorKind, Result};
use crate::fence::Fence;

/// A store together with the handle that it was opened on.
pub(crate) struct Held<S: ?Sized> {
    handle: Arc<Handle>,
    store: Arc<S>,
}

impl<S: ?Sized> Clone for Held<S> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), store: Arc::clone(&self.store) }
    }
}

impl<S: ?Sized> Held<S> {
    /// Opens a store; its error is thrown.
    pub(crate) fn open(
        env: Env,
        connection: &NativeConnection,
        open: impl FnOnce(&Backend, &str) -> Result<Arc<S>>,
    ) -> napi::Result<Self> {
        let handle = connection.handle();
        let store = handle.backend().and_then(|backend| open(backend, handle.key_prefix()));
        Ok(Self { handle: Arc::clone(handle), store: store.map_err(|error| thrown(&env, &error))? })
    }

    /// The store, or `CLOSED`.
    pub(crate) fn get(&self) -> Result<Arc<S>> {
        self.handle.backend()?;
        Ok(Arc::clone(&self.store))
    }

    /// The store under a fence, if there is one.
    pub(crate) fn under(
        &self,
        fence: Option<f64>,
        under: impl FnOnce(&S, Fence) -> Arc<S>,
    ) -> Result<Arc<S>> {
        let store = self.get()?;
        let Some(fence) = fence else { return Ok(store) };
        Ok(under(&store, Fence::from_number(fence)?))
    }

    pub(crate) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// The store, even if the handle is closed.
    pub(crate) fn store(&self) -> Arc<S> {
        Arc::clone(&self.store)
    }
}

/// What calls on a closed handle get.
pub(crate) fn closed_error() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

/// Shared by a connection object and the stores opened on it: when one closes, all are closed.
pub(crate) struct Handle {
    backend: Backend,
    key_prefix: String,
    lease: Mutex<Option<Connection>>,
    closed: watch::Sender<bool>,
}

impl Handle {
    pub(crate) fn open(json: &str, mapper: Option<Arc<Mapper>>) -> Result<Arc<Self>> {
        let config = Config::from_json(json)?;
        let connection = Connection::open(match mapper {
            Some(mapper) => config.with_mapper(mapper),
            None => config,
        })?;
        Ok(Arc::new(Self {
            backend: connection.backend().clone(),
            key_prefix: connection.key_prefix().to_owned(),
            lease: Mutex::new(Some(connection)),
            closed: watch::Sender::new(false),
        }))
    }

    fn lease(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backend, or `CLOSED`.
    pub(crate) fn backend(&self) -> Result<&Backend> {
        if self.lease().is_some() { Ok(&self.backend) } else { Err(closed_error()) }
    }

    /// The backend even if the handle is closed.
    pub(crate) fn any_backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn key_prefix(&self) -> &str {
        &self.key_prefix
    }

    pub(crate) fn status(&self) -> Status {
        match (&self.backend, self.lease().is_some()) {
            (_, false) => Status::Closed,
            (Backend::Server(client), true) => client.status().get(),
            (Backend::Memory(_), true) => Status::Ready,
        }
    }

    /// Gives the lease back. Idempotent. `true` if that was the connection's last, so that it closes.
    pub(crate) fn close(&self) -> bool {
        self.closed.send_replace(true);
        self.lease().take().is_some_and(Connection::end)
    }

    /// Resolves when the handle is closed.
    pub(crate) async fn until_closed(&self) {
        // An error would mean that the handle itself is gone.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}
