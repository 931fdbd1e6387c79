//! The scripts of the journal, and how they are run.

use super::redis::RedisJournal;
use crate::connection::client::Call;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::fence::Guard;
use crate::script::{OnLostReply, Script};

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("lua/shared.lua"), include_str!(concat!("lua/", $name, ".lua"))))
    };
}

pub(super) static CREATE_RUN: Script = script!("create_run");
pub(super) static UPDATE_RUN_STATUS: Script = script!("update_run_status");
pub(super) static INSERT_STEP: Script = script!("insert_step");
pub(super) static MOVE_STEP: Script = script!("move_step");
pub(super) static SET_STEP_FIELD: Script = script!("set_step_field");
pub(super) static RETRY_STEP: Script = script!("retry_step");
pub(super) static CLAIM_STEP: Script = script!("claim_step");
pub(super) static READ_STEPS: Script = script!("read_steps");
pub(super) static SET_RUN_STATE: Script = script!("set_run_state");
pub(super) static ADD_VERSION: Script = script!("add_version");
pub(super) static SET_VERSION_STATUS: Script = script!("set_version_status");
pub(super) static LIST_RUNS: Script = script!("list_runs");
pub(super) static INDEX_RUN: Script = script!("index_run");
pub(super) static DELETE_RUN: Script = script!("delete_run");
pub(super) static FIND_STALLED: Script = script!("find_stalled");
pub(super) static FIND_UNDISPATCHED: Script = script!("find_undispatched");

/// What a script answers that was told of an earlier attempt, if nobody can tell whether that happened.
const UNCLEAR: Reply = Reply::Int(3);

impl RedisJournal {
    /// Runs a script about the first key. All scripts get the prefix first.
    pub(super) async fn script(
        &self,
        guard: Option<Guard>,
        script: &'static Script,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        self.run_script(guard.as_ref(), self.client.call(), script, on_lost_reply, keys, arguments).await
    }

    /// The same with a script that finds out whether it has run before: its next argument says whether it may have.
    pub(super) async fn script_told(
        &self,
        guard: Option<Guard>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        self.told(self.client.call(), guard, script, keys, arguments).await
    }

    /// The same as a part of a call.
    pub(super) async fn told(
        &self,
        call: Call<'_>,
        guard: Option<Guard>,
        script: &'static Script,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let guard = guard.as_ref();
        let told = |repeated: &'static [u8]| [&[repeated], arguments].concat();
        match self.run_script(guard, call, script, OnLostReply::Report, keys, &told(b"0")).await {
            Err(unknown) if unknown.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                match self.run_script(guard, call, script, OnLostReply::Repeat, keys, &told(b"1")).await {
                    Ok(UNCLEAR) | Err(_) => Err(unknown),
                    reply => reply,
                }
            }
            outcome => outcome,
        }
    }

    pub(super) async fn run_script(
        &self,
        guard: Option<&Guard>,
        call: Call<'_>,
        script: &'static Script,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let arguments = [&[self.keys.prefix().as_bytes()], arguments].concat();
        let reply = script.run_under(guard, call, on_lost_reply, keys, &arguments).await;
        reply.map_err(|error| error.about(keys[0]))
    }
}
