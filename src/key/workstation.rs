//! Keys of the workstation services.

use super::{OwnChannel, beside, check_name, check_prefix};
use crate::error::Result;

/// Keys of sessions: `wks:session:{userId}`, and a record of our own beside each.
#[derive(Debug, Clone)]
pub struct SessionKeys {
    prefix: String,
    outer: usize,
}

impl SessionKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`.
    pub fn new(connection_prefix: &str) -> Self {
        Self { prefix: format!("{connection_prefix}wks:session:"), outer: connection_prefix.len() }
    }

    /// The string that holds the session as JSON.
    pub fn session(&self, user_id: &str) -> Result<String> {
        check_name("the user id", user_id)?;
        Ok(format!("{}{user_id}", self.prefix))
    }

    /// The string that says when the session at this key was written or deleted last.
    pub fn record(&self, session: &str) -> String {
        beside("session", session, self.outer)
    }
}

/// Keys of tracked executions: `wks:workflow:{executionId}`, and the set `wks:executions:active`.
#[derive(Debug, Clone)]
pub struct TrackingKeys {
    outer: String,
}

impl TrackingKeys {
    /// `connection_prefix` is ioredis' `keyPrefix`.
    pub fn new(connection_prefix: &str) -> Result<Self> {
        check_prefix("keyPrefix", connection_prefix)?;
        Ok(Self { outer: connection_prefix.to_owned() })
    }

    /// The string that holds the state as JSON.
    pub fn state(&self, execution_id: &str) -> Result<String> {
        check_name("the execution id", execution_id)?;
        Ok(self.state_of_member(execution_id))
    }

    /// The same for an id that is in the set, where others may have put anything.
    pub fn state_of_member(&self, execution_id: &str) -> String {
        format!("{}wks:workflow:{execution_id}", self.outer)
    }

    /// The set of the ids of active executions.
    pub fn active(&self) -> String {
        format!("{}wks:executions:active", self.outer)
    }

    /// The channel on which changes are announced. A channel knows no databases, so it names its own.
    pub fn channel(&self, db: u32) -> OwnChannel {
        let name = format!("ferroflow:progress:{db}:{}wks:executions", self.outer);
        OwnChannel { sharded: name.clone(), name }
    }

    /// The string that lets the bearer of a ticket open a stream, by the hash of both.
    pub fn ticket(&self, ticket: &str) -> Result<String> {
        check_name("the ticket", ticket)?;
        Ok(format!("{}wks:stream-ticket:{ticket}", self.outer))
    }

    /// A hash of the instances that grant locks by themselves while they cannot reach the server.
    pub fn instances(&self) -> String {
        format!("{}wks:ferroflow:local-locks", self.outer)
    }

    /// A string that one process writes and reads to see whether it can.
    pub fn proof(&self, instance: &str) -> Result<String> {
        check_name("the instance", instance)?;
        Ok(format!("{}wks:ferroflow:ready:{instance}", self.outer))
    }
}

#[cfg(test)]
mod tests {
    use super::super::same_slot;
    use super::*;

    #[test]
    fn formats_are_those_of_the_documented_package() {
        let sessions = SessionKeys::new("app:");
        assert_eq!(sessions.session("u1").unwrap(), "app:wks:session:u1");
        assert_eq!(SessionKeys::new("").session("u1").unwrap(), "wks:session:u1");
        let tracking = TrackingKeys::new("").unwrap();
        assert_eq!(tracking.state("e1").unwrap(), "wks:workflow:e1");
        assert_eq!(tracking.active(), "wks:executions:active");
        assert_eq!(tracking.instances(), "wks:ferroflow:local-locks");
        assert_eq!(tracking.ticket("5e1f").unwrap(), "wks:stream-ticket:5e1f");
        assert!(sessions.session("").is_err() && tracking.state("a\nb").is_err());
    }

    #[test]
    fn the_record_of_a_session_is_in_its_slot() {
        for outer in ["", "app:", "{app}:"] {
            let keys = SessionKeys::new(outer);
            for user in ["u1", "a{b}c", "ü"] {
                let session = keys.session(user).unwrap();
                let record = keys.record(&session);
                assert!(record.starts_with(&format!("{outer}ferroflow:session:")), "{record}");
                assert!(same_slot([session.as_str(), record.as_str()]), "{session} {record}");
            }
        }
    }
}
