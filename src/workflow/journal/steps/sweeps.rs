//! What sweepers look for. The index of idle runs holds all that are running, whether idle or not: what is in flight is
//! told by the steps alone, as an index of it may lag behind them.

use std::collections::HashSet;

use super::SteppedJournal;
use super::lists::is_settled;
use super::places::{add, read, remove};
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::workflow::FINAL_RUN_STATUSES;
use crate::workflow::journal::IN_FLIGHT;
use crate::workflow::journal::redis::{texts, texts_or_none};

impl SteppedJournal {
    fn status_of(&self, run_id: &str) -> Command {
        read(&self.keys().of("run", run_id), &["status", "updatedAt"])
    }

    pub(super) async fn find_stalled(&self, before: u64, limit: u64) -> Result<Vec<Vec<u8>>> {
        let (call, index) = (self.call(), self.keys().runs(&["idle"]));
        let (mut found, mut gone, mut later, mut offset) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while (found.len() as u64) < limit {
            let page = self.lowest(call, &index, before, offset, limit - found.len() as u64).await?;
            if page.is_empty() {
                break;
            }
            offset += page.len();
            let replies = call.commands(page.iter().map(|(id, _)| self.status_of(id))).await;
            let mut candidates = Vec::new();
            for ((id, score), reply) in page.into_iter().zip(replies) {
                let mut values = reply.and_then(texts_or_none)?.into_iter();
                let (status, updated) = (values.next().flatten(), values.next().flatten());
                let moment = updated.as_deref().map(String::from_utf8_lossy);
                let moment = moment.and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
                if status.as_deref() != Some(b"running") {
                    if is_settled(score) {
                        gone.push(id);
                    }
                } else if moment >= before as f64 {
                    later.push(add(&index, updated.unwrap_or_default(), id));
                } else {
                    candidates.push(id);
                }
            }
            let busy = self.busy(call, &candidates).await?;
            found.extend(candidates.into_iter().filter(|id| !busy.contains(id)).map(String::into_bytes));
        }
        call.commands(later).await;
        if !gone.is_empty() {
            self.drop_idle(call, &gone).await;
        }
        Ok(found)
    }

    /// Those of these runs that have a step in flight. Where the index of a run names one that is, no other is read.
    async fn busy(&self, call: Call<'_>, runs: &[String]) -> Result<HashSet<String>> {
        let mut busy = HashSet::new();
        for kind in ["steps-in-flight", "steps"] {
            let rest: Vec<_> = runs.iter().filter(|run| !busy.contains(*run)).cloned().collect();
            let names = rest
                .iter()
                .map(|run| Command::new("ZRANGE").arg(self.keys().of(kind, run)).arg("0").arg("-1").reads());
            let mut steps = Vec::new();
            for (run, reply) in rest.iter().zip(call.commands(names).await) {
                let names = reply.and_then(texts)?.into_iter().filter(|name| !name.is_empty());
                steps.extend(names.map(|name| (run, name)));
            }
            let statuses = steps.iter().map(|(run, name)| {
                let key = self.keys().of(&format!("step:{run}"), &String::from_utf8_lossy(name));
                read(&key, &["status", "runId"])
            });
            for ((run, _), reply) in steps.iter().zip(call.commands(statuses).await) {
                let values = reply.and_then(texts_or_none)?;
                let [status, owner] = [0, 1].map(|place| values.get(place).cloned().flatten());
                let is_own = owner.is_none_or(|owner| owner == run.as_bytes());
                if is_own
                    && status.is_some_and(|status| IN_FLIGHT.iter().any(|name| name.as_bytes() == status))
                {
                    busy.insert((*run).clone());
                }
            }
        }
        Ok(busy)
    }

    pub(super) async fn find_undispatched(&self, before: u64, limit: u64) -> Result<Vec<[Vec<u8>; 2]>> {
        let (call, index) = (self.call(), self.keys().runs(&["pending-steps"]));
        let (mut found, mut gone, mut offset) = (Vec::new(), Vec::new(), 0);
        while (found.len() as u64) < limit {
            let page = self.lowest(call, &index, before, offset, limit - found.len() as u64).await?;
            if page.is_empty() {
                break;
            }
            offset += page.len();
            for ((member, score), state) in page.iter().zip(self.pending(call, &page).await?) {
                match state {
                    Pending::Waits([run, id]) => found.push([run.into_bytes(), id.into_bytes()]),
                    Pending::Over if is_settled(*score) => gone.push(member.clone()),
                    Pending::Over => {}
                    // Its run may go on.
                    Pending::Paused => {}
                }
            }
        }
        if !gone.is_empty() {
            call.commands(gone.iter().map(|member| remove(&index, member))).await;
            let gone: Vec<_> = gone.into_iter().map(|member| (member, 0.0)).collect();
            // One that has become pending again in between.
            if let Ok(states) = self.pending(call, &gone).await {
                let back = gone.iter().zip(states).filter(|(_, state)| !matches!(state, Pending::Over));
                call.commands(back.map(|((member, _), _)| add(&index, before.to_string(), member))).await;
            }
        }
        Ok(found)
    }

    /// What has become of the steps of these entries.
    async fn pending(&self, call: Call<'_>, entries: &[(String, f64)]) -> Result<Vec<Pending>> {
        let parts: Vec<_> = entries
            .iter()
            .map(|(member, _)| {
                let (length, id) = member.split_once(':').unwrap_or_default();
                let run = id.get(..length.parse().unwrap_or_default()).unwrap_or_default();
                let base = id.rsplit_once(':').map_or(id, |(base, _)| base);
                (run, id, self.keys().of("step", base))
            })
            .collect();
        let commands =
            parts.iter().flat_map(|(run, _, key)| [read(key, &["stepId", "status"]), self.status_of(run)]);
        let mut replies = call.commands(commands).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil)).and_then(texts_or_none);
        let mut states = Vec::with_capacity(parts.len());
        for (run, id, _) in parts {
            let (step, of_run) = (next()?, next()?);
            let is_current = matches!(&step[..], [Some(stored), Some(status)]
                if stored == id.as_bytes() && status == b"pending");
            let status = of_run.into_iter().next().flatten().unwrap_or_default();
            let status = String::from_utf8_lossy(&status).into_owned();
            states.push(match status.as_str() {
                _ if !is_current => Pending::Over,
                "running" => Pending::Waits([run.to_owned(), id.to_owned()]),
                ended if ended.is_empty() || FINAL_RUN_STATUSES.contains(&ended) => Pending::Over,
                _ => Pending::Paused,
            });
        }
        Ok(states)
    }
}

/// A step that an index calls pending.
enum Pending {
    /// It is, and its run is running.
    Waits([String; 2]),
    /// It is, and its run has stopped for now.
    Paused,
    /// It is not, or its run has ended for good.
    Over,
}
