//! The clients, the network between them and the server, and the order in which everything happens.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use super::checks::Checks;
use super::dice::Dice;
use super::plan::{self, Faults};
use super::server::{Answer, Request, Server};
use super::task::{Client, Task};
use super::{Mutation, lock_name};
use crate::error::Result as Answered;
use crate::lock::machine::{Event, Moment};
use crate::time::Millis;

pub const MS: u64 = 1000;
/// A copy of a request may be on its way for so long at most; much less than a tombstone lasts.
pub const MAX_STRAY: u64 = 20_000 * MS;
/// More would be a machine that never rests.
const MAX_EVENTS: u64 = 200_000;
const TRACE: usize = 80;

/// What happens next. The first group happens to a client, and waits while that is paused.
#[derive(Debug)]
pub enum Happening {
    Begin(usize),
    Timer { task: usize, epoch: u64 },
    Answer { call: u64, answer: Answered<Answer> },
    Announce { client: usize, lock: usize },
    Ask { task: usize, wish: Wish },
    Probed(usize),
    Write(usize),
    WithdrawAgain { task: usize, claim: String, until: Moment },

    Arrive { call: u64, request: Request, heard: bool },
    WriteArrives { lock: usize, fence: u64, grant: u64 },
    Pause { client: usize, length: u64 },
    Resume(usize),
    Hang { client: usize, length: u64 },
    Unhang(usize),
    Down { length: u64, lose: bool },
    Up,
    StepClock(i64),
    Force(usize),
    Heal,
}

/// What the holder or the waiting program wants.
#[derive(Debug, Clone, Copy)]
pub enum Wish {
    Extend(Millis),
    Release,
    GiveUp,
    Crash,
}

/// A call that is not answered yet.
pub struct Call {
    pub task: usize,
    pub purpose: Purpose,
}

#[derive(Debug, Clone)]
pub enum Purpose {
    Attempt,
    Extension,
    Release { claim: String },
    Withdrawal { claim: String, until: Moment },
}

/// Ordered by time and then by number, which is all that is compared.
struct Scheduled(u64, u64, Happening);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// How much a run did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub events: u64,
    pub grants: u64,
    pub losses: u64,
    pub writes: u64,
    pub rejected: u64,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.grants += other.grants;
        self.losses += other.losses;
        self.writes += other.writes;
        self.rejected += other.rejected;
    }
}

pub struct World {
    pub dice: Dice,
    pub faults: Faults,
    pub mutation: Mutation,
    /// Microseconds of true time.
    pub now: u64,
    pub clients: Vec<Client>,
    pub tasks: Vec<Task>,
    pub calls: HashMap<u64, Call>,
    pub checks: Checks,
    pub server: Server,
    /// Who waits, by client and lock, in the order of arrival: the first has the turn.
    pub rooms: HashMap<(usize, usize), Vec<usize>>,
    pub healed_at: Option<u64>,
    pub tally: Tally,
    /// The TTL that most locks of this run have, and how long a call may take, in microseconds.
    pub scale: u64,
    pub deadline: u64,
    pub down: bool,
    /// How far the server's clock was set back in all, in milliseconds.
    pub set_back: u64,
    /// Since when a lock may be free, by true time: its last change and the time left then.
    pub free_since: Vec<u64>,
    backlog: Vec<VecDeque<Happening>>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    next_number: u64,
    pub next_call: u64,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub fn new(seed: u64, mutation: Mutation, tracing: bool) -> Self {
        let mut dice = Dice::new(seed);
        let faults = Faults::throw(&mut dice);
        let locks = dice.between(1, 2) as usize;
        let clients: Vec<Client> = (0..dice.between(2, 6))
            .map(|_| Client {
                rate: dice.between(990_000, 1_010_000),
                started: dice.between(0, 1 << 40),
                paused: false,
                hung_since: None,
                floor: 0,
            })
            .collect();
        let scale = dice.spread(10, 30_000) * MS;
        let deadline = dice.pick(&[scale / 2 + 10 * MS, 1_000 * MS, 5_000 * MS]);
        let mut world = Self {
            backlog: clients.iter().map(|_| VecDeque::new()).collect(),
            dice,
            faults,
            mutation,
            now: MS,
            clients,
            tasks: Vec::new(),
            calls: HashMap::new(),
            checks: Checks::new(locks),
            server: Server::new(locks, mutation),
            rooms: HashMap::new(),
            healed_at: None,
            tally: Tally::default(),
            scale,
            deadline,
            down: false,
            set_back: 0,
            free_since: vec![0; locks],
            queue: BinaryHeap::new(),
            next_number: 0,
            next_call: 0,
            trace: tracing.then(VecDeque::new),
        };
        world.server.set_time(world.now);
        world.plan(locks);
        world
    }

    fn plan(&mut self, locks: usize) {
        let span = self.scale * self.dice.between(3, 20);
        for client in 0..self.clients.len() {
            for _ in 0..self.dice.between(1, 6) {
                let lock = self.dice.between(0, locks as u64 - 1) as usize;
                let terms = plan::terms(&mut self.dice, self.scale / MS);
                self.tasks.push(Task::new(client, lock, terms));
                let at = self.dice.between(0, span / 2);
                self.after(at, Happening::Begin(self.tasks.len() - 1));
            }
            if self.faults.pauses {
                let (at, length) = (self.dice.between(0, span), self.dice.spread(MS, 4 * self.scale));
                self.after(at, Happening::Pause { client, length });
            }
            if self.faults.hangs {
                let (at, length) =
                    (self.dice.between(0, span), self.dice.spread(self.scale, 20 * self.scale));
                self.after(at, Happening::Hang { client, length });
            }
        }
        for _ in 0..2 {
            let at = self.dice.between(0, span);
            if self.faults.outages || self.faults.data_loss {
                let lose = self.faults.data_loss && self.dice.chance(700);
                let length = self.dice.spread(MS, 2 * self.scale);
                self.after(at, Happening::Down { length, lose });
            }
            let at = self.dice.between(0, span);
            if self.faults.clock_steps {
                let step = self.dice.spread(1, 3 * self.scale / MS) as i64;
                let step = if self.dice.chance(500) { -step } else { step };
                self.after(at, Happening::StepClock(step));
            }
            let at = self.dice.between(0, span);
            if self.faults.forced {
                let lock = self.dice.between(0, locks as u64 - 1) as usize;
                self.after(at, Happening::Force(lock));
            }
        }
        self.after(span, Happening::Heal);
    }

    pub fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.trace.is_none() {
            return;
        }
        let line = format!("{:>12.3} ms  {}", self.now as f64 / 1000.0, text(self));
        let Some(trace) = &mut self.trace else { return };
        trace.push_back(line);
        if trace.len() > TRACE {
            trace.pop_front();
        }
    }

    pub fn take_trace(&mut self) -> String {
        Vec::from(self.trace.take().unwrap_or_default()).join("\n")
    }

    pub fn after(&mut self, delay: u64, happening: Happening) {
        self.next_number += 1;
        self.queue.push(Reverse(Scheduled(self.now + delay, self.next_number, happening)));
    }

    /// Everything, to its end.
    pub fn run(&mut self) -> Result<(), String> {
        while let Some(Reverse(Scheduled(at, _, happening))) = self.queue.pop() {
            self.now = at;
            self.server.set_time(at);
            self.tally.events += 1;
            if self.tally.events > MAX_EVENTS {
                return Err("(d) this never ends".into());
            }
            match self.client_of(&happening) {
                Some(client) if self.clients[client].paused => self.backlog[client].push_back(happening),
                _ => self.happen(happening)?,
            }
            self.check_holders()?;
        }
        self.check_the_end()
    }

    /// Whom it happens to, if it waits while that client is paused.
    fn client_of(&self, happening: &Happening) -> Option<usize> {
        let task = match happening {
            Happening::Begin(task)
            | Happening::Timer { task, .. }
            | Happening::Ask { task, .. }
            | Happening::Probed(task)
            | Happening::Write(task)
            | Happening::WithdrawAgain { task, .. } => *task,
            Happening::Answer { call, .. } => self.calls.get(call)?.task,
            Happening::Announce { client, .. } => return Some(*client),
            _ => return None,
        };
        Some(self.tasks[task].client)
    }

    fn happen(&mut self, happening: Happening) -> Result<(), String> {
        if !matches!(happening, Happening::Timer { .. }) {
            self.note(|_| format!("{happening:?}"));
        }
        match happening {
            Happening::Begin(task) => self.begin(task),
            Happening::Timer { task, epoch } if self.tasks[task].epoch == epoch => {
                self.tell(task, Event::Elapsed)
            }
            Happening::Timer { .. } => Ok(()),
            Happening::Answer { call, answer } => match self.calls.remove(&call) {
                Some(found) => self.answered(call, found, answer),
                None => Ok(()),
            },
            Happening::Announce { client, lock } => self.announced(client, lock),
            Happening::Ask { task, wish } => self.asked(task, wish),
            Happening::Probed(task) => {
                self.tasks[task].alive_at = self.local(task);
                Ok(())
            }
            Happening::Write(task) => self.write(task),
            Happening::WithdrawAgain { task, claim, until } => {
                self.withdraw(task, claim, until);
                Ok(())
            }
            Happening::Arrive { call, request, heard } => self.arrive(call, &request, heard),
            Happening::WriteArrives { lock, fence, grant } => {
                let accepted = self.checks.write(lock, fence, grant)?;
                self.tally.writes += u64::from(accepted);
                self.tally.rejected += u64::from(!accepted);
                Ok(())
            }
            Happening::Pause { client, length } => {
                self.clients[client].paused = true;
                self.after(length, Happening::Resume(client));
                Ok(())
            }
            Happening::Resume(client) => self.resume(client),
            Happening::Hang { client, length } => {
                let local = self.clients[client].clock(self.now);
                self.clients[client].hung_since.get_or_insert(local);
                self.after(length, Happening::Unhang(client));
                Ok(())
            }
            Happening::Unhang(client) => {
                self.clients[client].hung_since = None;
                Ok(())
            }
            Happening::Down { length, lose } => {
                self.down = true;
                // Fences only grow if the clock is past the last one when the counter is lost.
                let time = self.server.set_time(self.now);
                if lose && time * MS > self.checks.highest_fence {
                    self.checks.tombstones_last = false;
                    self.checks.queues_last = false;
                    self.server.lose_data();
                }
                self.after(length, Happening::Up);
                Ok(())
            }
            Happening::Up => {
                self.down = false;
                self.announce_everywhere();
                Ok(())
            }
            Happening::StepClock(by) => {
                // Not back before the last fence while the counter is lost.
                let then = self.server.set_time(self.now).saturating_add_signed(by);
                if self.server.counter().max(then * MS) <= self.checks.highest_fence {
                    return Ok(());
                }
                self.checks.tombstones_last &= by < 0;
                self.checks.queues_last = false;
                self.set_back += by.min(0).unsigned_abs();
                self.server.step_clock(by);
                Ok(())
            }
            Happening::Force(lock) => {
                let request = Request::Force { key: lock_name(lock) };
                self.arrive(0, &request, false)
            }
            Happening::Heal => {
                self.faults.heal();
                self.healed_at = Some(self.now);
                self.down = false;
                for client in 0..self.clients.len() {
                    self.clients[client].hung_since = None;
                    self.resume(client)?;
                }
                Ok(())
            }
        }
    }

    fn resume(&mut self, client: usize) -> Result<(), String> {
        self.clients[client].paused = false;
        while let Some(happening) = self.backlog[client].pop_front() {
            self.happen(happening)?;
        }
        Ok(())
    }

    pub fn local(&self, task: usize) -> Moment {
        self.clients[self.tasks[task].client].clock(self.now)
    }
}
