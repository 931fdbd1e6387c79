//! The named values of a run's state: the run says that it changes, then the value is stored, which decides.

use super::SteppedJournal;
use super::places::allowed;
use super::scripts::{PUT, TOUCH_RUN};
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::script::OnLostReply::{Repeat, Report};

impl SteppedJournal {
    pub(super) async fn put_state(&self, run_id: &str, name: &str, json: &[u8], now: u64) -> Result<bool> {
        let (run, call) = (self.keys().run(run_id)?, self.call());
        let (state, now) = (self.keys().of("run-state", run_id), now.to_string());
        let guard = self.plain.guard(run_id);
        let now = [now.as_bytes()];
        let touched = self.plain.run_script(guard.as_ref(), call, &TOUCH_RUN, Repeat, &[&run], &now).await?;
        let Some(moment) = touched.into_bytes()? else { return Ok(false) };
        let guard = self.guard(run_id, &state);
        let fields = [name.as_bytes(), json];
        loop {
            let put = self.plain.run_script(guard.as_ref(), call, &PUT, Report, &[&state], &fields).await;
            let unknown = match put {
                Err(unknown) if unknown.kind() == ErrorKind::OutcomeUnknown && call.has_time_left() => {
                    unknown
                }
                outcome => {
                    outcome?;
                    break;
                }
            };
            let value = Command::new("HGET").arg(&state).arg(name).reads();
            let touched = Command::new("HGET").arg(&run).arg("updatedAt").reads();
            let mut replies = call.commands([value, touched]).await.into_iter();
            let mut next = || replies.next().and_then(Result::ok).and_then(|reply| reply.into_bytes().ok());
            match (next(), next()) {
                (Some(Some(stored)), _) if stored == json => break,
                // Nobody else has begun since, so nobody's value is overwritten.
                (Some(_), Some(Some(last))) if last == moment => {}
                _ => return Err(unknown),
            }
        }
        // A run that was deleted in between took its state with it, but for this.
        let exists = call.command(Command::new("HEXISTS").arg(&run).arg("id").reads()).await;
        allowed([&exists])?;
        if exists != Ok(Reply::Int(0)) {
            return Ok(true);
        }
        call.commands([Command::new("DEL").arg(&state).repeatable()]).await;
        Ok(false)
    }
}
