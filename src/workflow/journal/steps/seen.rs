//! A step as a script or a reader saw it, from which its history and indexes are brought up to date.

use crate::connection::reply::Reply;
use crate::error::Result;
use crate::workflow::journal::history;
use crate::workflow::journal::indexes::today;
use crate::workflow::journal::redis::texts_or_none;

/// The fields that are read, in their order.
pub(super) const FIELDS: [&str; 10] = [
    "stepId",
    "status",
    "attemptCount",
    "retries",
    "retryDelay",
    "runId",
    "updatedAt",
    "createdAt",
    "result",
    "error",
];

/// A step at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) id: Vec<u8>,
    /// In today's words.
    pub(super) status: String,
    pub(super) attempt: u64,
    /// Milliseconds since 1970, as text; never decreases.
    pub(super) updated: Vec<u8>,
    pub(super) run: String,
    pub(super) name: Vec<u8>,
    created: Vec<u8>,
    retries: Option<Vec<u8>>,
    retry_delay: Option<Vec<u8>>,
    result: Option<Vec<u8>>,
    error: Option<Vec<u8>>,
}

impl Seen {
    /// From the values of [`FIELDS`]; `None` if that is no step with an id. `run_length` is that of the run id, which
    /// the stored `runId` corrects.
    pub(super) fn of(reply: Reply, run_length: usize) -> Result<Option<Self>> {
        let mut values = texts_or_none(reply)?.into_iter();
        let mut next = || values.next().flatten();
        let Some(id) = next() else { return Ok(None) };
        let status = next().map_or_else(|| "pending".to_owned(), |status| today(&status));
        let attempt = next().and_then(|text| String::from_utf8_lossy(&text).parse().ok()).unwrap_or(1);
        let (retries, retry_delay) = (next(), next());
        let end = id.iter().rposition(|byte| *byte == b':').unwrap_or(id.len());
        let length = next().map_or(run_length, |run| run.len()).min(end);
        Ok(Some(Self {
            status,
            attempt,
            updated: next().unwrap_or_else(|| b"0".to_vec()),
            run: String::from_utf8_lossy(&id[..length]).into_owned(),
            name: id[(length + 1).min(end)..end].to_vec(),
            created: next().unwrap_or_else(|| b"0".to_vec()),
            retries,
            retry_delay,
            result: next(),
            error: next(),
            id,
        }))
    }

    /// The result or error that goes with the status.
    fn payload(&self) -> Option<(&'static str, &[u8])> {
        match self.status.as_str() {
            "succeeded" => Some(("result", self.result.as_deref()?)),
            "failed" => Some(("error", self.error.as_deref()?)),
            _ => None,
        }
    }

    /// Whether the history says the same.
    pub(super) fn is_noted(&self, entries: &[Vec<u8>]) -> bool {
        entries.iter().any(|entry| history::says(entry, self.attempt, &self.status, self.payload()))
    }

    /// What `note.lua` takes for the step; the changes follow.
    pub(super) fn subject(&self) -> Vec<Vec<u8>> {
        let text = |value: &Option<Vec<u8>>| value.clone().unwrap_or_default();
        vec![self.id.clone(), self.name.clone(), text(&self.retries), text(&self.retry_delay)]
    }

    /// What `note.lua` takes for a change that led here.
    pub(super) fn change(&self, new: bool) -> [Vec<u8>; 7] {
        let (field, json) = self.payload().unwrap_or_default();
        let begun = if self.attempt == 1 { &self.created } else { &self.updated };
        let word = if new { "new" } else { "seen" };
        [
            word.into(),
            self.attempt.to_string().into_bytes(),
            self.status.clone().into_bytes(),
            self.updated.clone(),
            begun.clone(),
            field.into(),
            json.to_vec(),
        ]
    }
}
