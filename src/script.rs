//! A Lua script: its source and how it is called.

use std::borrow::Cow;
use std::sync::OnceLock;

use futures_util::FutureExt;

use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
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
    pub fn run<'run>(
        &'static self,
        call: Call<'run>,
        on_lost_reply: OnLostReply,
        keys: &'run [&'run str],
        arguments: &'run [&'run [u8]],
    ) -> impl Future<Output = Result<Reply>> + Send + 'run {
        self.plain.run(call, on_lost_reply, keys, arguments)
    }

    /// Runs the script under a guard, if there is one: a fence that is too old is an error, and nothing is written.
    ///
    /// In a cluster, fences that do not lie in the slot of the script's keys are checked and raised before it runs:
    /// from then on earlier holders are refused, whether or not the script comes to write.
    pub fn run_under<'run>(
        &'static self,
        guard: Option<&'run Guard>,
        call: Call<'run>,
        on_lost_reply: OnLostReply,
        keys: &'run [&'run str],
        arguments: &'run [&'run [u8]],
    ) -> impl Future<Output = Result<Reply>> + Send + 'run {
        match guard {
            None => self.run(call, on_lost_reply, keys, arguments).left_future(),
            // In a box, so that those without a guard, which are most of what waits for a connection, are no larger.
            Some(guard) => {
                Box::pin(self.run_guarded(guard, call, on_lost_reply, keys, arguments)).right_future()
            }
        }
    }

    async fn run_guarded(
        &'static self,
        guard: &Guard,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        if !call.client().is_cluster() {
            return self.run_fenced(guard, call, on_lost_reply, keys, arguments).await;
        }
        let (near, others) = guard.by_slot(keys.first().copied());
        for other in others {
            other.raise(call).await?;
        }
        match near {
            Some(near) => self.run_fenced(&near, call, on_lost_reply, keys, arguments).await,
            None => self.run(call, on_lost_reply, keys, arguments).await,
        }
    }

    async fn run_fenced(
        &'static self,
        guard: &Guard,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
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

impl Guard {
    /// Checks fences in any slots, and raises none.
    pub async fn check(&self, call: Call<'_>) -> Result<()> {
        let reads = self.records().iter().map(|(_, key)| Command::new("GET").arg(key).reads());
        let replies = call.commands(reads).await;
        for ((record, key), reply) in self.records().iter().zip(replies) {
            let stored = reply.and_then(Reply::into_bytes).map_err(|error| error.about(key))?;
            self.compare(record, key, stored.as_deref())?;
        }
        Ok(())
    }

    /// Raises fences of one slot without a write.
    pub async fn raise(&self, call: Call<'_>) -> Result<()> {
        static NOTHING: Script = Script::new("return 1");
        NOTHING.run_fenced(self, call, OnLostReply::Repeat, &[], &[]).await.map(drop)
    }
}

impl Source {
    const fn new(text: Cow<'static, str>) -> Self {
        Self { text, digest: OnceLock::new() }
    }

    /// Thousands of these may wait for a connection, and an `async` function would hold its arguments twice.
    fn run<'run>(
        &'static self,
        call: Call<'run>,
        on_lost_reply: OnLostReply,
        keys: &'run [&'run str],
        arguments: &'run [&'run [u8]],
    ) -> impl Future<Output = Result<Reply>> + Send + 'run {
        let digest = self
            .digest
            .get_or_init(|| sha1_smol::Sha1::from(self.text.as_bytes()).digest().to_string())
            .as_str();
        async move {
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
            let mut another_copy = false;
            if !call.client().first_use_of_script(digest, keys.first().unwrap_or(&"")) {
                match call.command(request("EVALSHA", digest)).await {
                    // The server was flushed, restarted or replaced behind our back.
                    Err(error) if error.kind() == ErrorKind::NoScript => {
                        another_copy = error.is_after_another_copy();
                    }
                    outcome => return outcome.map_err(|error| name_missing_right(error, &self.text)),
                }
            }
            let outcome = call.command(request("EVAL", &self.text)).await;
            outcome.map_err(|error| {
                let error = name_missing_right(error, &self.text);
                // The server that forgot the script may have run it before.
                if another_copy { error.after_another_copy() } else { error }
            })
        }
    }
}

/// What a server says when the user may not run a command of a script: up to 7.0, since 7.2. It has no code of its own.
const DENIED: [&str; 2] = ["The user executing the script", "ACL failure in script"];
/// Precedes the number of the line that failed.
const LINE: &str = "@user_script:";

/// The server does not name the command that a script was denied, up to 7.0, but mostly its line.
fn name_missing_right(error: Error, script: &str) -> Error {
    let message = error.message();
    if error.kind() != ErrorKind::Server || !DENIED.iter().any(|text| message.contains(text)) {
        return error;
    }
    let line = message.split(LINE).find_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        script.lines().nth(digits.parse::<usize>().ok()?.checked_sub(1)?)
    });
    let denied = line.map(commands_of).filter(|commands| !commands.is_empty());
    let said = match denied {
        Some(commands) => format!("may not run {} as it does", commands.join(" or ")),
        None => format!("needs all of {}", commands_of(script).join(", ")),
    };
    Error::new(ErrorKind::NoPermission, format!("NOPERM the user of this script {said}: {message}"))
}

/// The commands that a piece of Lua calls, each once, in the order of their first call.
fn commands_of(lua: &str) -> Vec<&str> {
    let mut commands = Vec::new();
    for rest in lua.split("call('").skip(1) {
        let name = rest.split('\'').next().unwrap_or_default();
        if !commands.contains(&name) {
            commands.push(name);
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str =
        "local a = redis.pcall('GET', KEYS[1])\nif a then\n  redis.call('SET', KEYS[1], a)\nend";

    fn named(text: &'static str) -> Error {
        name_missing_right(Error::new(ErrorKind::Server, text), SCRIPT)
    }

    #[test]
    fn the_line_of_a_denial_names_its_command() {
        let error = named(
            "ERR The user executing the script can't run this command or subcommand script: f6cc, on @user_script:3.",
        );
        assert_eq!(error.kind(), ErrorKind::NoPermission);
        assert!(
            error.message().starts_with("NOPERM the user of this script may not run SET as it does: ERR The")
        );
        let error = named(
            "ERR Error running script (call to f_6cc): @user_script:1: @user_script: 1: The user executing the script \
             can't run this command or subcommand",
        );
        assert!(error.message().contains("may not run GET as"), "{error}");
    }

    #[test]
    fn without_a_line_all_commands_are_named() {
        for text in [
            "ERR The user executing the script can't run this command or subcommand",
            "ERR ACL failure in script: x, on @user_script:2.",
            "ERR ACL failure in script: x, on @user_script:99999999999999999999999.",
            "ERR ACL failure in script: x, on @user_script:0.",
        ] {
            assert!(named(text).message().contains("needs all of GET, SET: ERR"), "{text}");
        }
    }

    #[test]
    fn other_errors_stay_as_they_are() {
        assert_eq!(named("ERR value is not an integer").kind(), ErrorKind::Server);
        let wrong_type = Error::new(ErrorKind::WrongType, "WRONGTYPE ACL failure in script");
        assert_eq!(name_missing_right(wrong_type.clone(), SCRIPT), wrong_type);
    }
}
