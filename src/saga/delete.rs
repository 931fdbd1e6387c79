//! Deletions on a Redis server.

use super::Envelope;
use super::index::IndexChange;
use super::redis::RedisSagas;
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::script::{OnLostReply, REQUEST_KEPT, Script, request_id};

static DELETE: Script = Script::new(include_str!("lua/delete_saga.lua"));

/// How often a deletion reads again because the state changed under it.
const DELETE_ATTEMPTS: usize = 16;

impl RedisSagas {
    /// Deletes the saga stored under a correlation id, if it is the one that is meant.
    pub(super) async fn delete_stored(
        &self,
        call: Call<'_>,
        saga_name: &str,
        correlation_id: &str,
        wanted_id: Option<&str>,
    ) -> Result<bool> {
        let state = self.keys.state(saga_name, correlation_id)?;
        for _ in 0..DELETE_ATTEMPTS {
            let Some(stored) = self.get(call, &state).await? else {
                if let Some(wanted) = wanted_id {
                    self.drop_dangling(call, &state, &self.keys.index(saga_name, wanted)?, correlation_id)
                        .await?;
                }
                return Ok(false);
            };
            let envelope = Envelope::read(&stored, &state)?;
            let saga_id = match (wanted_id, envelope.saga_id()) {
                (Some(wanted), _) if !envelope.is_of(wanted) => return Ok(false),
                (Some(wanted), _) => wanted,
                (None, Some(stored)) => stored,
                // Without an id there is no index either; any name will do.
                (None, None) => correlation_id,
            };
            let index = self.keys.index(saga_name, saga_id)?;
            self.correlation_ids.forget(&index);
            if self.client.reaches_at_once([state.as_str(), &index]) {
                if self.delete_state(call, &state, Some(&index), &stored, correlation_id).await? {
                    return Ok(true);
                }
                continue;
            }
            let change = IndexChange::new(call, &self.keys, &index, correlation_id);
            change.announce().await?;
            let deleted = self.delete_state(call, &state, None, &stored, correlation_id).await;
            if deleted == Ok(true) {
                if !change.drop_index().await {
                    // It is deleted, whatever becomes of the index.
                    let _ = self.drop_dangling(call, &state, &index, correlation_id).await;
                }
                return Ok(true);
            }
            change.keep_index().await;
            deleted?;
        }
        Err(Error::new(
            ErrorKind::ServerNotReady,
            format!(
                "the saga changed {DELETE_ATTEMPTS} times while it was to be deleted; it was not deleted"
            ),
        )
        .about(&state))
    }

    pub(super) async fn delete_indexed(
        &self,
        call: Call<'_>,
        saga_name: &str,
        saga_id: &str,
    ) -> Result<bool> {
        let index = self.keys.index(saga_name, saga_id)?;
        let Some(correlation_id) = self.look_up(call, saga_name, &index).await? else { return Ok(false) };
        self.delete_stored(call, saga_name, &correlation_id, Some(saga_id)).await
    }

    /// `false` if the state is another by now.
    async fn delete_state(
        &self,
        call: Call<'_>,
        state: &str,
        index: Option<&str>,
        stored: &[u8],
        correlation_id: &str,
    ) -> Result<bool> {
        let digest = sha1_smol::Sha1::from(stored).digest().to_string();
        let guard = self.guard(state, None);
        let request = self.keys.request(state, &request_id());
        let kept = REQUEST_KEPT.get().to_string();
        let arguments = [digest.as_bytes(), correlation_id.as_bytes(), kept.as_bytes()];
        let keys: Vec<_> = [state, &request].into_iter().chain(index).collect();
        // A second copy knows the first, whoever deletes the saga or makes it anew in between.
        DELETE
            .run_under(guard.as_ref(), call, OnLostReply::Repeat, &keys, &arguments)
            .await
            .and_then(Reply::into_int)
            .map(|deleted| deleted == 1)
            .map_err(|error| error.about(state))
    }
}
