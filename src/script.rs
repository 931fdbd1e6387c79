//! A Lua script: its source and how it is called.

use std::borrow::Cow;
use std::sync::OnceLock;

use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};
use crate::fence::Guard;
use crate::time::Millis;

/// A script. The first call on a connection sends its source, which costs no extra round trip; later ones send the
/// digest.
pub struct Script {
    plain: Source,
    fenced: OnceLock<Source>,
}

struct Source {
    text: Cow<'static, str>,
    digest: OnceLock<String>,
}

/// Follows a script that runs under a fence.
const FENCE: &str = include_str!("lua/fence.lua");

/// Whether a script whose reply was lost may run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLostReply {
    /// It asks, and whatever it changes says the same as before.
    Read,
    /// Running it twice has the effect of running it once.
    Repeat,
    /// The caller gets `OUTCOME_UNKNOWN`, and may know better.
    Report,
}

/// How long the answer to a request is kept: longer than any copy of it may be on its way.
pub const REQUEST_KEPT: Millis = Millis::new(60_000);

/// A name for one request, by which its script recognises a second copy. Only where nothing else tells the copies of a
/// request from other requests: it costs an entry on the server for each.
pub fn request_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

impl Script {
    /// A script from its source.
    pub const fn new(source: &'static str) -> Self {
        Self { plain: Source::new(Cow::Borrowed(source)), fenced: OnceLock::new() }
    }

    /// Runs the script.
    pub async fn run(
        &'static self,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        self.plain.run(call, on_lost_reply, keys, arguments).await
    }

    /// Runs the script under a guard, if there is one: a fence that is too old is an error, and nothing is written.
    pub async fn run_under(
        &'static self,
        guard: Option<&Guard>,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let Some(guard) = guard else { return self.run(call, on_lost_reply, keys, arguments).await };
        let (fences, [fence, ttl, count]) = guard.words();
        let keys: Vec<_> = keys.iter().copied().chain(fences).collect();
        let arguments = [arguments, &[fence.as_bytes(), ttl.as_bytes(), count.as_bytes()]].concat();
        let fenced = self.fenced.get_or_init(|| {
            Source::new(Cow::Owned(format!("local function write()\n{}\nend\n{FENCE}", self.plain.text)))
        });
        let first = match on_lost_reply {
            OnLostReply::Repeat => OnLostReply::Report,
            other => other,
        };
        match fenced.run(call, first, &keys, &arguments).await.and_then(|reply| guard.judge(reply)) {
            // Somebody may have written under a higher fence since. That refuses the repetition, but does not tell
            // that the first attempt did not happen.
            Err(error)
                if error.kind() == ErrorKind::OutcomeUnknown
                    && first != on_lost_reply
                    && call.has_time_left() =>
            {
                let again = fenced.run(call, on_lost_reply, &keys, &arguments).await;
                again.and_then(|reply| guard.judge(reply)).map_err(|_| error)
            }
            outcome => outcome,
        }
    }
}

impl Source {
    const fn new(text: Cow<'static, str>) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    async fn run(
        &'static self,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let digest = self
            .digest
            .get_or_init(|| sha1_smol::Sha1::from(self.text.as_bytes()).digest().to_string())
            .as_str();
        let request = |name: &str, script: &str| {
            let mut command = Command::new(name).arg(script).number(keys.len() as u64);
            for key in keys {
                command.push(key.as_bytes());
            }
            for argument in arguments {
                command.push(argument);
            }
            match on_lost_reply {
                OnLostReply::Read => command.reads(),
                OnLostReply::Repeat => command.repeatable(),
                OnLostReply::Report => command,
            }
        };
        if !call.client().first_use_of_script(digest, keys.first().unwrap_or(&"")) {
            match call.command(request("EVALSHA", digest)).await {
                // The server was flushed, restarted or replaced behind our back.
                Err(error) if error.kind() == ErrorKind::NoScript => {}
                outcome => return outcome,
            }
        }
        call.command(request("EVAL", &self.text)).await
    }
}
