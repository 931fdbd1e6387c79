//! What must hold of the clients, at every moment and in the end.

use super::lock_name;
use super::task::Stage;
use super::world::{MAX_STRAY, MS, World};
use crate::lock::{QUEUE_LEASE, STRAY_ATTEMPT};

impl World {
    /// (b) and (e): no two at once, and nobody twice.
    pub(super) fn check_holders(&mut self) -> Result<(), String> {
        let mut holder = [None; 2];
        for (number, task) in self.tasks.iter_mut().enumerate() {
            if task.stage != Stage::Holding {
                continue;
            }
            if !task.is_valid(self.clients[task.client].clock(self.now)) {
                task.was_invalid = true;
                continue;
            }
            if task.was_invalid {
                return Err(format!("(e) task {number} holds again what was not its own any more"));
            }
            if let Some(other) = holder[task.lock].replace(number)
                && !self.faults.server_may_forget()
            {
                return Err(format!("(b) tasks {other} and {number} both hold lock {}", task.lock));
            }
        }
        Ok(())
    }

    /// (d): whoever waited knows how it went, and nothing is left behind.
    pub(super) fn check_the_end(&mut self) -> Result<(), String> {
        if let Some(task) = self.tasks.iter().position(|task| task.stage != Stage::Done) {
            return Err(format!("(d) task {task} never ends: {:?}", self.tasks[task].stage));
        }
        // Extensions are for at most eight times the TTL.
        let longest = self.tasks.iter().map(|task| task.terms.ttl.get()).max().unwrap_or(0);
        self.now += (longest * 10 + self.set_back + 2) * MS;
        self.server.set_time(self.now);
        for lock in 0..self.free_since.len() {
            if self.server.is_locked(&lock_name(lock)) {
                return Err(format!("(d) lock {lock} is never free again"));
            }
        }
        self.now += STRAY_ATTEMPT.get().max(20 * QUEUE_LEASE.get()) * MS + 2 * MS;
        self.server.set_time(self.now);
        let left = self.server.leftovers();
        if left.is_empty() { Ok(()) } else { Err(format!("(d) {left:?} stay behind")) }
    }

    /// (d): a lock that was free for long is not refused to one who waits.
    pub(super) fn check_refusal(&self, task: usize, began: u64) -> Result<(), String> {
        let Some(healed_at) = self.healed_at else { return Ok(()) };
        let (lock, terms) = (self.tasks[task].lock, self.tasks[task].terms);
        let lease = if terms.fair { 2 * QUEUE_LEASE.get() } else { 0 };
        let patience = (terms.poll.get() + lease + self.set_back + 100) * MS
            + 2 * self.deadline
            + MAX_STRAY.min(3 * self.scale);
        let since = self.free_since[lock].max(healed_at).max(began);
        if self.now > since + patience && !self.server.is_locked(&lock_name(lock)) {
            return Err(format!("(d) task {task} is refused a lock that has long been free"));
        }
        Ok(())
    }
}
