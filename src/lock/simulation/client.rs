//! What a client does: the parts of `acquire` and `hold` around the machine.

use super::Mutation;
use super::server::{Answer, Request};
use super::task::Stage;
use super::world::{Call, Happening, MS, Purpose, Wish, World};
use crate::error::Result as Answered;
use crate::lock::machine::{Action, Event, Machine, Outcome};
use crate::lock::{Attempt, Ownership, STRAY_ATTEMPT};
use crate::time::Millis;

impl World {
    pub(super) fn begin(&mut self, number: usize) -> Result<(), String> {
        let local = self.local(number);
        let task = &mut self.tasks[number];
        let (machine, first) = Machine::start(task.terms, local);
        task.machine = Some(machine);
        task.stage = Stage::Acquiring;
        task.began = self.now;
        task.claim.id = format!("ff1:{number}-0:1:0:h:l");
        let aborts = self.faults.aborts;
        if self.dice.chance(aborts) {
            let wait = self.tasks[number].terms.wait.get();
            let delay = self.dice.between(0, wait * MS + 2 * MS);
            self.after(delay, Happening::Ask { task: number, wish: Wish::GiveUp });
        }
        self.carry_out(number, vec![first])
    }

    /// Tells the machine, and does what it says.
    pub(super) fn tell(&mut self, number: usize, event: Event) -> Result<(), String> {
        let local = self.local(number);
        let task = &mut self.tasks[number];
        if task.stage == Stage::Planned {
            return Ok(());
        }
        let Some(machine) = &mut task.machine else { return Ok(()) };
        let mut now = local.saturating_sub(task.skew);
        if self.mutation == Mutation::LateExtensionAccepted
            && matches!(event, Event::Extended(Ok(true)))
            && let Some(valid_until) = machine.valid_until()
        {
            now = now.min(valid_until - 1);
        }
        let had_ended = machine.has_ended();
        let alive_at = if self.mutation == Mutation::RenewedForTheHung { now } else { task.alive_at };
        let mut actions = match task.stage {
            Stage::Holding => machine.on(alive_at, Event::Alive),
            _ => Vec::new(),
        };
        actions.extend(machine.on(now, event));
        if had_ended && !actions.is_empty() {
            return Err(format!("(e) task {number} has ended and wants {actions:?}"));
        }
        self.carry_out(number, actions)
    }

    fn carry_out(&mut self, number: usize, actions: Vec<Action>) -> Result<(), String> {
        // Sent with each renewal, and not with an extension that the owner asked for, perhaps some time ago.
        let renewal = actions.contains(&Action::Probe);
        for action in actions {
            self.note(|_| format!("    task {number}: {action:?}"));
            match action {
                Action::Attempt { generation } => self.attempt(number, generation),
                Action::Extend { ttl, extent } => {
                    if renewal {
                        self.check_liveness(number)?;
                    }
                    let task = &self.tasks[number];
                    let (key, token) = (task.claim.key.clone(), task.token.clone());
                    let request = Request::Extend { key, token, ttl, extent };
                    let call = self.send(number, request, Purpose::Extension);
                    self.tasks[number].extension = Some(call);
                }
                Action::Probe => {
                    if self.clients[self.tasks[number].client].hung_since.is_none() {
                        let delay = self.dice.between(20, 500);
                        self.after(delay, Happening::Probed(number));
                    }
                }
                Action::Withdraw { .. } => {
                    let until = self.local(number) + self.tasks[number].terms.ttl.get() + STRAY_ATTEMPT.get();
                    let claim = self.tasks[number].claim.id.clone();
                    self.withdraw(number, claim, until);
                }
                Action::Settle(outcome) => self.settle(number, outcome)?,
                Action::Release => self.release(number),
                Action::Report(_) => {
                    self.tally.losses += 1;
                    if std::mem::replace(&mut self.tasks[number].lost, true) {
                        return Err(format!("(e) task {number} reports its loss twice"));
                    }
                }
            }
        }
        self.rest(number);
        Ok(())
    }

    /// Sets the timer, or finds that nothing is left to do.
    fn rest(&mut self, number: usize) {
        let task = &mut self.tasks[number];
        let Some(machine) = &task.machine else { return };
        if machine.has_ended() {
            task.stage = Stage::Done;
            return;
        }
        task.epoch += 1;
        let epoch = task.epoch;
        let place = (task.client, task.lock);
        let Some(mut timer) = machine.next_timer() else { return };
        if task.stage == Stage::Acquiring {
            let room = self.rooms.entry(place).or_default();
            if !room.contains(&number) {
                room.push(number);
                if room.len() == 1 {
                    // The subscription is made now.
                    let delay = self.latency();
                    self.after(delay, Happening::Announce { client: place.0, lock: place.1 });
                }
            }
            let task = &self.tasks[number];
            let first = self.rooms[&place][0] == number;
            if self.mutation == Mutation::NobodyWakes || !task.terms.fair && !first {
                timer = task.machine.as_ref().map_or(timer, Machine::gives_up_at);
            }
        }
        let task = &self.tasks[number];
        let due = self.clients[task.client].when(timer + task.skew).saturating_sub(self.now);
        let late = self.dice.between(0, 1500);
        self.after(due + late, Happening::Timer { task: number, epoch });
    }

    fn attempt(&mut self, number: usize, generation: u32) {
        let local = self.local(number);
        let task = &mut self.tasks[number];
        if generation != task.generation {
            task.generation = generation;
            task.claim.id = format!("ff1:{number}-{generation}:1:0:h:l");
        }
        task.sent_at = local;
        task.claim.floor = self.clients[task.client].floor;
        task.claim.attempt = task.machine.as_ref().map_or(0, Machine::attempts);
        let request = Request::Acquire(task.claim.clone());
        let call = self.send(number, request, Purpose::Attempt);
        self.tasks[number].attempt = Some(call);
    }

    fn release(&mut self, number: usize) {
        let task = &self.tasks[number];
        let claim = task.claim.id.clone();
        let request = Request::Release { key: task.claim.key.clone(), token: task.token.clone() };
        self.send(number, request, Purpose::Release { claim });
    }

    pub(super) fn answered(
        &mut self,
        call: u64,
        found: Call,
        answer: Answered<Answer>,
    ) -> Result<(), String> {
        let Call { task: number, purpose } = found;
        match purpose {
            Purpose::Attempt if self.tasks[number].attempt == Some(call) => {
                self.tasks[number].attempt = None;
                let answer = answer.map(|answer| match answer {
                    Answer::Attempt(attempt) => attempt,
                    other => panic!("an attempt was answered with {other:?}"),
                });
                self.skew(number, &answer);
                self.tell(number, Event::Answered(answer))
            }
            Purpose::Extension if self.tasks[number].extension == Some(call) => {
                self.tasks[number].extension = None;
                let ours = answer.map(|answer| matches!(answer, Answer::Ownership(Ownership::Ours)));
                self.tell(number, Event::Extended(ours))
            }
            Purpose::Attempt | Purpose::Extension => Ok(()),
            Purpose::Release { claim } => {
                if matches!(answer, Ok(Answer::Ownership(Ownership::Ours))) {
                    self.checks.buried(self.tasks[number].lock, &claim);
                }
                Ok(())
            }
            Purpose::Withdrawal { claim, until } => {
                self.withdrawal_answered(number, claim, until, &answer);
                Ok(())
            }
        }
    }

    /// Has the machine of a mutation believe that it is earlier.
    fn skew(&mut self, number: usize, answer: &Answered<Attempt>) {
        let local = self.local(number);
        let task = &mut self.tasks[number];
        if matches!(answer, Ok(Attempt::Granted { .. })) {
            task.skew = match self.mutation {
                Mutation::CountedFromTheAnswer => local - task.sent_at,
                Mutation::NoDrift => (task.terms.ttl.get() / 100 + 2).min(task.sent_at),
                _ => 0,
            };
        }
    }

    fn settle(&mut self, number: usize, outcome: Outcome) -> Result<(), String> {
        let (client, lock) = (self.tasks[number].client, self.tasks[number].lock);
        if let Outcome::Refused { .. } = &outcome {
            self.check_refusal(number, self.tasks[number].began)?;
        }
        if let Outcome::Granted { token, fence } = outcome {
            self.tally.grants += 1;
            let local = self.local(number);
            let floor = &mut self.clients[client].floor;
            *floor = (*floor).max(fence);
            let task = &mut self.tasks[number];
            task.stage = Stage::Holding;
            task.grant = self.checks.grant_of(lock, &token);
            (task.token, task.fence, task.alive_at) = (token, fence, local);
            self.hold(number);
        }
        // The turn goes to the next.
        if let Some(room) = self.rooms.get_mut(&(client, lock)) {
            let had_turn = room.first() == Some(&number);
            room.retain(|waiting| *waiting != number);
            match room.first() {
                None => drop(self.rooms.remove(&(client, lock))),
                Some(_) if had_turn => self.after(0, Happening::Announce { client, lock }),
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Plans what the holder does: it writes, perhaps extends, and releases.
    fn hold(&mut self, number: usize) {
        let ttl = self.tasks[number].terms.ttl.get();
        let hold = self.dice.spread(50, 4 * ttl * MS);
        for _ in 0..self.dice.between(1, 3) {
            let at = self.dice.between(0, hold);
            self.after(at, Happening::Write(number));
        }
        if self.dice.chance(400) {
            for _ in 0..self.dice.between(1, 4) {
                let at = self.dice.between(0, hold);
                let longer = self.dice.chance(500);
                let range = if longer { (ttl, 8 * ttl) } else { (10, ttl) };
                let ttl = Millis::new(self.dice.spread(range.0, range.1));
                self.after(at, Happening::Ask { task: number, wish: Wish::Extend(ttl) });
            }
        }
        let wish = if self.dice.chance(self.faults.crashes) { Wish::Crash } else { Wish::Release };
        self.after(hold, Happening::Ask { task: number, wish });
    }

    pub(super) fn asked(&mut self, number: usize, wish: Wish) -> Result<(), String> {
        let stage = self.tasks[number].stage;
        let local = self.local(number);
        match (stage, wish) {
            (Stage::Acquiring, Wish::GiveUp) | (Stage::Holding, Wish::Crash) => {
                self.tell(number, Event::AskedToAbandon)
            }
            (Stage::Holding, Wish::Release) => self.tell(number, Event::AskedToRelease),
            (Stage::Holding, Wish::Extend(ttl)) => {
                self.tasks[number].alive_at = local;
                self.tasks[number].asked_at = local;
                self.tell(number, Event::AskedToExtend(ttl))
            }
            _ => Ok(()),
        }
    }

    /// Who has the turn hears of a release; its successor does when it gets the turn.
    pub(super) fn announced(&mut self, client: usize, lock: usize) -> Result<(), String> {
        let first = self.rooms.get(&(client, lock)).and_then(|room| room.first()).copied();
        let first = first.filter(|_| self.mutation != Mutation::NobodyWakes);
        first.map_or(Ok(()), |task| self.tell(task, Event::Announced))
    }

    /// A write that the holder believes is allowed leaves now, and arrives whenever it does.
    pub(super) fn write(&mut self, number: usize) -> Result<(), String> {
        let local = self.local(number);
        let task = &self.tasks[number];
        if task.is_valid(local) {
            let (lock, fence, grant) = (task.lock, task.fence, task.grant);
            let mut delay = self.latency();
            if self.dice.chance(100) && self.faults.pauses {
                delay += self.dice.spread(MS, 3 * self.scale);
            }
            self.after(delay, Happening::WriteArrives { lock, fence, grant });
        }
        Ok(())
    }

    /// (e): who hangs is not renewed for longer than it may hang.
    fn check_liveness(&self, number: usize) -> Result<(), String> {
        let task = &self.tasks[number];
        let (Some(liveness), Some(hung_since)) =
            (task.terms.caps.liveness, self.clients[task.client].hung_since)
        else {
            return Ok(());
        };
        let alive = hung_since.max(task.asked_at).max(task.alive_at);
        if self.local(number) > alive + liveness.get() {
            return Err(format!("(e) task {number} is renewed though its owner hangs"));
        }
        Ok(())
    }
}
