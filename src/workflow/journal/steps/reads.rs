//! Reading the steps of a run: the index first, then all steps at once, then all histories at once.

use super::SteppedJournal;
use super::places::read;
use super::seen::{FIELDS, Seen};
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::Result;
use crate::key::check_name;
use crate::workflow::Fields;
use crate::workflow::journal::redis::{texts, texts_or_none};
use crate::workflow::journal::{Step, StepHistory};

/// What tells whether a hash is a step of the run, before the fields that are asked for.
const PROOF: [&str; 4] = ["stepId", "runId", "fromStepName", "status"];

/// Whether the values of [`PROOF`] are those of a step of the run. With a colon in its name, it may be another run's;
/// one of the documented service counts once it has ended.
fn is_step_of(run_id: &str, proof: &[Option<Vec<u8>>]) -> bool {
    let ended = matches!(proof[3].as_deref(), Some(b"done" | b"error"));
    (proof[0].is_some() || ended) && proof[1].as_deref().is_none_or(|run| run == run_id.as_bytes())
}

fn history(key: &str) -> Command {
    Command::new("ZRANGE").arg(key).arg("0").arg("-1").reads()
}

impl SteppedJournal {
    fn key_of_step(&self, run_id: &str, name: &[u8]) -> String {
        self.keys().of(&format!("step:{run_id}"), &String::from_utf8_lossy(name))
    }

    /// The names of the steps of a run, in the order of their insertion.
    pub(super) async fn names_of(&self, call: Call<'_>, run_id: &str) -> Result<Vec<Vec<u8>>> {
        check_name("the run id", run_id)?;
        let (index, run) = (self.keys().of("steps", run_id), self.keys().of("run", run_id));
        let commands = [
            Command::new("ZRANGE").arg(&index).arg("0").arg("-1").reads(),
            Command::new("EXISTS").arg(&run).reads(),
        ];
        let mut replies = call.commands(commands).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
        let mut names = next().and_then(texts).map_err(|error| error.about(&index))?;
        if names.is_empty() && next()? == Reply::Int(1) {
            // A run that the original made.
            names = self.plain.scan(&format!("step:{run_id}")).await?;
        }
        names.retain(|name| !name.is_empty());
        Ok(names)
    }

    /// These steps, each if it is there and has an id.
    pub(super) async fn seen(
        &self,
        call: Call<'_>,
        run_id: &str,
        names: &[Vec<u8>],
    ) -> Result<Vec<Option<Seen>>> {
        let keys: Vec<_> = names.iter().map(|name| self.key_of_step(run_id, name)).collect();
        let replies = call.commands(keys.iter().map(|key| read(key, &FIELDS))).await;
        let steps = replies.into_iter().zip(keys).map(|(reply, key)| {
            let step = reply.and_then(|reply| Seen::of(reply, run_id.len()));
            let step = step.map_err(|error| error.about(&key))?;
            Ok(step.filter(|step| step.run == run_id))
        });
        steps.collect()
    }

    pub(super) async fn read_steps(&self, run_id: &str, fields: &[&str]) -> Result<Vec<Step>> {
        let names = self.names_of(self.call(), run_id).await?;
        let keys: Vec<_> = names.iter().map(|name| self.key_of_step(run_id, name)).collect();
        let wanted = [&PROOF, fields].concat();
        let command = |key: &String| match fields {
            [] => Command::new("HGETALL").arg(key).reads(),
            _ => read(key, &wanted),
        };
        let replies = self.call().commands(keys.iter().map(command)).await;
        let mut steps = Vec::with_capacity(names.len());
        for ((reply, key), name) in replies.into_iter().zip(keys).zip(names) {
            let about = |error: crate::error::Error| error.about(&key);
            if fields.is_empty() {
                let fields = reply.and_then(texts).map_err(about)?;
                let value = |name: &str| {
                    fields.chunks_exact(2).find(|pair| pair[0] == name.as_bytes()).map(|pair| pair[1].clone())
                };
                if is_step_of(run_id, &PROOF.map(value)) {
                    steps.push(Step { name, fields });
                }
                continue;
            }
            let values = reply.and_then(texts_or_none).map_err(about)?;
            if is_step_of(run_id, &values) {
                let pairs = fields.iter().zip(values.into_iter().skip(PROOF.len()));
                let fields: Fields = pairs
                    .filter_map(|(field, value)| Some([field.as_bytes().to_vec(), value?]))
                    .flatten()
                    .collect();
                steps.push(Step { name, fields });
            }
        }
        Ok(steps)
    }

    /// The histories, each completed if it says something else than its step.
    pub(super) async fn read_history(&self, run_id: &str) -> Result<Vec<StepHistory>> {
        let call = self.call();
        let names = self.names_of(call, run_id).await?;
        let keys: Vec<_> = names.iter().map(|name| self.key_of_step(run_id, name)).collect();
        let wanted = [&FIELDS[..], &PROOF].concat();
        // After a scan, the call has no time left.
        let call = self.call();
        let replies = call.commands(keys.iter().map(|key| read(key, &wanted))).await;
        let mut found = Vec::with_capacity(names.len());
        for ((reply, key), name) in replies.into_iter().zip(keys).zip(names) {
            let mut values = reply.and_then(texts_or_none).map_err(|error| error.about(&key))?;
            let proof = values.split_off(FIELDS.len());
            if is_step_of(run_id, &proof) {
                let values = values.into_iter().map(|value| value.map_or(Reply::Nil, Reply::Bytes)).collect();
                let seen = Seen::of(Reply::List(values), run_id.len())?;
                found.push((name, proof[2].clone().unwrap_or_default(), seen));
            }
        }
        let keys: Vec<_> = found
            .iter()
            .map(|(_, _, seen)| self.history_key(seen.as_ref().map_or(b"", |seen| seen.id.as_slice())))
            .collect();
        let replies = call.commands(keys.iter().map(|key| history(key))).await;
        let mut histories = Vec::with_capacity(found.len());
        for ((reply, key), (name, from, seen)) in replies.into_iter().zip(keys).zip(found) {
            let mut entries = reply.and_then(texts).map_err(|error| error.about(&key))?;
            if let Some(seen) = seen.filter(|seen| !seen.is_noted(&entries))
                && self.note(call, None, &seen, false).await.is_ok()
                && let Ok(noted) = call.command(history(&key)).await.and_then(texts)
            {
                entries = noted;
            }
            histories.push(StepHistory { name, from, entries });
        }
        Ok(histories)
    }
}
