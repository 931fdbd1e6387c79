//! Keys of the journal.

use super::slot::has_tag;
use super::{check_name, fence, pattern_of_start};
use crate::error::{Error, ErrorKind, Result};

/// Keys of the journal (contract of @pikku/redis, on the same runs and steps as [`WorkflowKeys`]).
#[derive(Debug, Clone)]
pub struct JournalKeys {
    prefix: String,
    outer: usize,
}

/// The length of a UUID in text, which is what run ids are.
pub const UUID_LENGTH: usize = 36;

impl JournalKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`; `prefix` is the service's own, `workflows` by default.
    pub fn new(connection_prefix: &str, prefix: &str) -> Result<Self> {
        check_name("keyPrefix", prefix)?;
        Ok(Self { prefix: format!("{connection_prefix}{prefix}"), outer: connection_prefix.len() })
    }

    /// The string that holds the highest fence seen for the record at this key.
    pub fn fence(&self, record: &str) -> String {
        fence(record, self.outer)
    }

    /// Whether all keys lie in one slot of a cluster, so that scripts may find keys in the data.
    pub fn lie_together(&self) -> bool {
        has_tag(&self.prefix)
    }

    /// What all keys start with, for scripts that build further ones.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// `{prefix}:{kind}:{name}` for a name that was checked, or comes from the store.
    pub fn of(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.prefix)
    }

    /// The hash of a run.
    pub fn run(&self, run_id: &str) -> Result<String> {
        check_name("the run id", run_id)?;
        Ok(self.of("run", run_id))
    }

    /// The hash of a step.
    pub fn step(&self, run_id: &str, step_name: &str) -> Result<String> {
        check_name("the run id", run_id)?;
        check_name("the step name", step_name)?;
        Ok(format!("{}:step:{run_id}:{step_name}", self.prefix))
    }

    /// The hash of the step of an id `{runId}:{stepName}:{milliseconds}`, and how long the run id in it is. With a
    /// colon in a run id that is no UUID, the length is a guess that the stored step corrects.
    pub fn step_of_id(&self, step_id: &str) -> Result<(String, usize)> {
        let base = match step_id.rsplit_once(':') {
            Some((base, time)) if !time.is_empty() && time.bytes().all(|byte| byte.is_ascii_digit()) => base,
            _ => {
                let text = "the step id must be one that inserting a step returned";
                return Err(Error::new(ErrorKind::InvalidArgument, text));
            }
        };
        let is_uuid = base.len() > UUID_LENGTH
            && base.bytes().take(UUID_LENGTH + 1).enumerate().all(|(index, byte)| match index {
                8 | 13 | 18 | 23 => byte == b'-',
                UUID_LENGTH => byte == b':',
                _ => byte.is_ascii_hexdigit(),
            });
        let length = if is_uuid { UUID_LENGTH } else { base.find(':').unwrap_or(base.len()) };
        Ok((self.of("step", base), length))
    }

    /// The hash of a version of a workflow.
    pub fn version(&self, workflow: &str, graph_hash: &str) -> Result<String> {
        check_name("the workflow name", workflow)?;
        check_name("the graph hash", graph_hash)?;
        Ok(format!("{}:version:{workflow}:{graph_hash}", self.prefix))
    }

    /// The same for a request about a record, in the slot of it unless its key, or the prefix, has braces.
    pub fn request_about(&self, record: &str, id: &str) -> String {
        self.request(&format!("{{{record}}}:{id}"))
    }

    /// The string that says that this request was carried out.
    pub fn request(&self, id: &str) -> String {
        self.of("ferroflow:request", id)
    }

    /// An index of our own over all runs: `{prefix}:runs`, or one of its parts.
    pub fn runs(&self, part: &[&str]) -> String {
        let mut key = format!("{}:runs", self.prefix);
        for word in part {
            key.push(':');
            key.push_str(word);
        }
        key
    }

    /// The names of workflows that have runs. An index of our own.
    pub fn workflow_names(&self) -> String {
        format!("{}:workflow-names", self.prefix)
    }

    /// Where the names that a key of this start holds begin: `{prefix}:{kind}:`, and a pattern for exactly these keys.
    pub fn start_and_pattern(&self, kind: &str) -> (String, String) {
        let start = format!("{}:{kind}:", self.prefix);
        let pattern = pattern_of_start(&start);
        (start, pattern)
    }
}
