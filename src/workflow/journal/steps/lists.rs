//! What is found in the indexes over all runs. Each entry is compared with its record; one that does not fit is left
//! out, and put right afterwards, unless it may belong to a call that is about to write the record.

use super::SteppedJournal;
use super::places::{GRACE, Listed, add, now, read, remove};
use super::scripts::DROP_INDEX;
use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::script::OnLostReply::Repeat;
use crate::workflow::journal::redis::{texts, texts_or_none};
use crate::workflow::journal::{Fields, RunFilter};

/// An entry of an index that leads elsewhere than it says.
enum Amiss {
    /// There is no such run.
    Gone(String),
    /// It has another status.
    Elsewhere(String, Listed),
}

/// Members and scores: alternating in RESP2, as pairs in RESP3.
pub(super) fn scored(reply: Reply) -> Result<Vec<(String, f64)>> {
    let mut words = Vec::new();
    for word in reply.into_list()? {
        match word {
            Reply::List(pair) => words.extend(texts(Reply::List(pair))?),
            word => words.push(word.into_bytes()?.unwrap_or_default()),
        }
    }
    let pairs = words.chunks_exact(2).map(|pair| {
        let score = String::from_utf8_lossy(&pair[1]).parse().unwrap_or_default();
        (String::from_utf8_lossy(&pair[0]).into_owned(), score)
    });
    Ok(pairs.collect())
}

/// Whether an entry of this age may not be followed by its record any more.
pub(super) fn is_settled(score: f64) -> bool {
    now() as f64 - score > GRACE
}

fn fields_of(values: &[Vec<u8>], names: &[&str]) -> Reply {
    let value = |name: &&str| values.chunks_exact(2).find(|pair| pair[0] == name.as_bytes());
    Reply::List(
        names
            .iter()
            .map(|name| value(name).map_or(Reply::Nil, |pair| Reply::Bytes(pair[1].clone())))
            .collect(),
    )
}

impl SteppedJournal {
    fn whether_indexed(&self) -> [Command; 2] {
        [&[][..], &["indexed"]].map(|part| Command::new("EXISTS").arg(self.keys().runs(part)).reads())
    }

    pub(super) async fn page_of_runs(&self, filter: RunFilter) -> Result<Option<Vec<Fields>>> {
        let (call, index) = (self.call(), self.keys().runs(&filter.index()));
        let (mut runs, mut amiss, mut offset, mut first) = (Vec::new(), Vec::new(), filter.offset, true);
        loop {
            let wanted = filter.limit - runs.len() as u64;
            let mut commands: Vec<_> = if first { self.whether_indexed().into() } else { Vec::new() };
            if wanted > 0 {
                let last = offset.saturating_add(wanted - 1).min(i64::MAX as u64);
                let page = Command::new("ZREVRANGE").arg(&index).number(offset.min(last)).number(last);
                commands.push(page.arg("WITHSCORES").reads());
            }
            let mut replies = call.commands(commands).await;
            let page = if wanted > 0 { replies.pop() } else { None };
            let indexed = replies.into_iter().collect::<Result<Vec<_>>>()?;
            if first && !indexed.contains(&Reply::Int(1)) {
                return Ok(None);
            }
            first = false;
            let page = page.map_or(Ok(Vec::new()), |page| page.and_then(scored));
            let page = page.map_err(|error| error.about(&index))?;
            offset = offset.saturating_add(page.len() as u64);
            if page.is_empty() {
                break;
            }
            let read =
                |(id, _): &(String, f64)| Command::new("HGETALL").arg(self.keys().of("run", id)).reads();
            let replies = call.commands(page.iter().map(read)).await;
            for ((id, score), reply) in page.into_iter().zip(replies) {
                let fields = match reply.and_then(texts) {
                    Err(error) if error.kind() == ErrorKind::WrongType => {
                        runs.push(vec![id.into_bytes()]);
                        continue;
                    }
                    fields => fields?,
                };
                match Listed::of(fields_of(&fields, &Listed::FIELDS))? {
                    None if is_settled(score) => amiss.push(Amiss::Gone(id)),
                    None => {}
                    Some(listed) if filter.status.as_ref().is_some_and(|status| *status != listed.status) => {
                        amiss.push(Amiss::Elsewhere(id, listed));
                    }
                    Some(_) => runs.push(fields),
                }
            }
        }
        self.put_right(call, &index, filter.status.as_deref(), amiss).await;
        Ok(Some(runs))
    }

    async fn put_right(&self, call: Call<'_>, index: &str, status: Option<&str>, amiss: Vec<Amiss>) {
        for entry in amiss {
            match (entry, status) {
                (Amiss::Elsewhere(id, listed), Some(status)) => {
                    // Whoever may only read, reads.
                    let _ = self.settle_run(call, &id, listed, status).await;
                }
                (Amiss::Gone(id) | Amiss::Elsewhere(id, _), _) => {
                    call.commands([remove(index, &id)]).await;
                    let steps = self.keys().of("steps", &id);
                    // What is left of it takes little room.
                    let _ = self.plain.run_script(None, call, &DROP_INDEX, Repeat, &[&steps], &[]).await;
                }
            }
        }
    }

    pub(super) async fn names_of_workflows(&self) -> Result<Option<Vec<Vec<u8>>>> {
        let (call, key) = (self.call(), self.keys().workflow_names());
        let [all, indexed] = self.whether_indexed();
        let names = Command::new("ZRANGE").arg(&key).arg("0").arg("-1").reads();
        let mut replies = call.commands([all, indexed, names]).await.into_iter();
        let mut next = || replies.next().unwrap_or(Ok(Reply::Nil));
        let (all, indexed) = (next()?, next()?);
        let mut names = next().and_then(texts).map_err(|error| error.about(&key))?;
        if all != Reply::Int(1) && indexed != Reply::Int(1) {
            return Ok(None);
        }
        let runs = names.iter().map(|name| self.runs_of(&String::from_utf8_lossy(name)));
        let exist = call.commands(runs).await.into_iter().collect::<Result<Vec<_>>>()?;
        let mut exist = exist.into_iter();
        names.retain(|_| exist.next() == Some(Reply::Int(1)));
        Ok(Some(names))
    }

    /// Lists all runs, also those that are: whatever broke off, they are where they belong afterwards.
    pub(super) async fn list_all_runs(&self) -> Result<u64> {
        let (index, mut found) = (self.keys().runs(&[]), 0);
        for ids in self.plain.scan("run").await?.chunks(100) {
            let ids: Vec<_> = ids.iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect();
            let call = self.call();
            let commands = ids.iter().flat_map(|id| {
                let listed = Command::new("ZSCORE").arg(&index).arg(id).reads();
                [read(&self.keys().of("run", id), &Listed::FIELDS), listed]
            });
            let replies = call.commands(commands).await;
            let mut additions = Vec::new();
            for (id, replies) in ids.iter().zip(replies.chunks_exact(2)) {
                let stored = match &replies[0] {
                    // What is no hash is no run.
                    Err(error) if error.kind() == ErrorKind::WrongType => continue,
                    reply => reply.clone()?,
                };
                let own_id = texts_or_none(stored.clone())?.into_iter().next().flatten();
                if let Some(listed) = Listed::of(stored)?
                    && own_id.as_deref() == Some(id.as_bytes())
                {
                    found += u64::from(replies[1].clone()? == Reply::Nil);
                    additions.extend(self.list_run(id, &listed));
                }
            }
            self.prepare(call, None, additions).await?;
        }
        let indexed = Command::new("SET").arg(self.keys().runs(&["indexed"])).arg("1").repeatable();
        self.call().command(indexed).await?;
        Ok(found)
    }

    /// A page of an index, from the lowest score.
    pub(super) async fn lowest(
        &self,
        call: Call<'_>,
        index: &str,
        before: u64,
        offset: usize,
        limit: u64,
    ) -> Result<Vec<(String, f64)>> {
        let page = Command::new("ZRANGEBYSCORE").arg(index).arg("-inf").arg(format!("({before}"));
        let page = page.arg("WITHSCORES").arg("LIMIT").number(offset as u64).number(limit).reads();
        call.command(page).await.and_then(scored).map_err(|error| error.about(index))
    }

    /// After entries of the index of idle runs were found not to be of running runs.
    pub(super) async fn drop_idle(&self, call: Call<'_>, ids: &[String]) {
        let idle = self.keys().runs(&["idle"]);
        call.commands(ids.iter().map(|id| remove(&idle, id))).await;
        let replies =
            call.commands(ids.iter().map(|id| read(&self.keys().of("run", id), &Listed::FIELDS))).await;
        let running = ids.iter().zip(replies).filter(|(_, reply)| {
            let stored = reply.clone().and_then(Listed::of);
            matches!(stored, Ok(Some(stored)) if stored.status == "running")
        });
        call.commands(running.map(|(id, _)| add(&idle, now().to_string(), id))).await;
    }
}
