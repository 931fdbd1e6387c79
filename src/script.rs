//! A Lua script: its source and how it is called.

use std::sync::OnceLock;

use crate::connection::client::Call;
use crate::connection::command::Command;
use crate::connection::reply::Reply;
use crate::error::{ErrorKind, Result};

/// A script. The first call on a connection sends its source, which costs no extra round trip; later ones send the
/// digest.
pub struct Script {
    source: &'static str,
    digest: OnceLock<String>,
}

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

impl Script {
    /// A script from its source.
    pub const fn new(source: &'static str) -> Self {
        Self { source, digest: OnceLock::new() }
    }

    fn digest(&'static self) -> &'static str {
        self.digest.get_or_init(|| sha1_smol::Sha1::from(self.source).digest().to_string())
    }

    /// Runs the script.
    pub async fn run(
        &'static self,
        call: Call<'_>,
        on_lost_reply: OnLostReply,
        keys: &[&str],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let digest = self.digest();
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
        call.command(request("EVAL", self.source)).await
    }
}
