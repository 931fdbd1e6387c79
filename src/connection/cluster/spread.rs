//! Commands that concern every master: asked of all at once, or of one after the other.

use std::sync::{Arc, Mutex};

use super::Cluster;
use super::route::{Merge, words};
use crate::connection::command::{Command, Repeat};
use crate::connection::node::{deliver, lock};
use crate::connection::reply::Reply;
use crate::connection::request::{Request, Settled, Sink};
use crate::error::{Error, ErrorKind, Result};

/// A cursor of `SCAN` says which master is asked: its number is the remainder.
const CURSORS: u128 = 1024;

/// Answers that are still to come.
struct Gathering {
    sink: Option<Sink>,
    missing: usize,
    answers: Vec<Option<Reply>>,
    writes: bool,
}

impl Cluster {
    /// Asks all masters; the first error is the outcome.
    pub(super) fn spread(&self, mut request: Request, merge: Merge) {
        let masters = self.state().masters.clone();
        if masters.is_empty() {
            return self.park(request);
        }
        let gathering = Arc::new(Mutex::new(Gathering {
            sink: request.sink.take(),
            missing: masters.len(),
            answers: masters.iter().map(|_| None).collect(),
            writes: request.repeat != Repeat::Read,
        }));
        for (index, node) in masters.iter().enumerate() {
            let gathering = Arc::clone(&gathering);
            let sink: Sink = Box::new(move |outcome| {
                let gathered = lock(&gathering).take(index, outcome, merge);
                // Past `deliver`, which counted the failures of the parts already.
                if let Some((sink, outcome)) = gathered {
                    sink(outcome);
                }
            });
            node.push(request.part(request.wire().to_vec(), sink));
        }
    }

    /// Asks the master that the cursor names, and makes a cursor of its answer.
    pub(super) fn scan(&self, mut request: Request) {
        let masters = self.state().masters.clone();
        if masters.is_empty() {
            return self.park(request);
        }
        let Some((number, wire)) = asked_of(request.wire()) else {
            return deliver(request.fail(Error::new(ErrorKind::Server, "ERR invalid cursor")));
        };
        let is_last = number + 1 >= masters.len();
        let Some(sink) = request.sink.take() else { return };
        match masters.get(number) {
            Some(node) => {
                let sink: Sink = Box::new(move |outcome: Result<Reply>| {
                    sink(outcome.and_then(|reply| with_cursor(reply, number, is_last)));
                });
                node.push(request.part(wire, sink));
            }
            // There are fewer masters than when the cursor was made.
            None => {
                deliver([Settled(sink, Ok(Reply::List(vec![Reply::text("0"), Reply::List(Vec::new())])))])
            }
        }
    }
}

impl Gathering {
    fn take(&mut self, index: usize, outcome: Result<Reply>, merge: Merge) -> Option<(Sink, Result<Reply>)> {
        match outcome {
            Ok(reply) => {
                self.answers[index] = Some(reply);
                self.missing -= 1;
                if self.missing > 0 {
                    return None;
                }
                let answers = std::mem::take(&mut self.answers).into_iter().flatten();
                self.sink.take().map(|sink| (sink, together(answers, merge)))
            }
            // What one master refused, the others may have done.
            Err(error) if self.writes && self.answers.len() > 1 => {
                self.sink.take().map(|sink| (sink, Err(error.after_a_write())))
            }
            Err(error) => self.sink.take().map(|sink| (sink, Err(error))),
        }
    }
}

fn together(mut answers: impl Iterator<Item = Reply>, merge: Merge) -> Result<Reply> {
    match merge {
        Merge::First => Ok(answers.next().unwrap_or(Reply::Nil)),
        Merge::Add => {
            answers.try_fold(0i64, |sum, answer| Ok(sum.saturating_add(answer.into_int()?))).map(Reply::Int)
        }
        Merge::AddByName => {
            let mut sum = answers.next().unwrap_or(Reply::Nil).into_list()?;
            for answer in answers {
                for (total, reply) in sum.iter_mut().zip(answer.into_list()?).skip(1).step_by(2) {
                    if let (Reply::Int(total), Reply::Int(count)) = (total, reply) {
                        *total = total.saturating_add(count);
                    }
                }
            }
            Ok(Reply::List(sum))
        }
        Merge::Unite => {
            let mut all = Vec::new();
            for answer in answers {
                let mut new = answer.into_list()?;
                new.retain(|item| !all.contains(item));
                all.append(&mut new);
            }
            Ok(Reply::List(all))
        }
        Merge::Concatenate => {
            let mut all = Vec::new();
            for answer in answers {
                all.append(&mut answer.into_list()?);
            }
            Ok(Reply::List(all))
        }
    }
}

/// Whom a `SCAN` asks, and in which words.
fn asked_of(wire: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut words = words(wire);
    let name = words.next()?;
    let cursor: u128 = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mut command = Command::of_words();
    command.push_word(name);
    command.push_word((cursor / CURSORS).to_string().as_bytes());
    words.for_each(|word| command.push_word(word));
    Some(((cursor % CURSORS) as usize, command.into_wire()))
}

fn with_cursor(reply: Reply, number: usize, is_last: bool) -> Result<Reply> {
    let mut parts = reply.into_list()?;
    let [first, ..] = parts.as_mut_slice() else { return Ok(Reply::List(parts)) };
    let cursor = std::mem::replace(first, Reply::Nil).into_bytes()?.unwrap_or_default();
    let cursor: u128 =
        std::str::from_utf8(&cursor).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let next = match cursor {
        0 if is_last => 0,
        0 => number as u128 + 1,
        cursor => cursor.saturating_mul(CURSORS).saturating_add(number as u128),
    };
    *first = Reply::text(&next.to_string());
    Ok(Reply::List(parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_put_together() {
        let ints = [Reply::Int(1), Reply::Int(2)];
        assert_eq!(together(ints.clone().into_iter(), Merge::Add).unwrap(), Reply::Int(3));
        assert_eq!(together(ints.clone().into_iter(), Merge::First).unwrap(), Reply::Int(1));
        let lists = ints.map(|int| Reply::List(vec![int]));
        let all = Reply::List(vec![Reply::Int(1), Reply::Int(2)]);
        assert_eq!(together(lists.into_iter(), Merge::Concatenate).unwrap(), all);
        assert!(together([Reply::ok()].into_iter(), Merge::Add).is_err());
        let counts =
            |a, b| Reply::List(vec![Reply::text("a"), Reply::Int(a), Reply::text("b"), Reply::Int(b)]);
        let answers = [counts(1, 0), counts(0, 2), counts(3, 0)];
        assert_eq!(together(answers.into_iter(), Merge::AddByName).unwrap(), counts(4, 2));
        let names = |names: &[&str]| Reply::List(names.iter().map(|name| Reply::text(name)).collect());
        let answers = [names(&["a"]), names(&["a", "b"])];
        assert_eq!(together(answers.into_iter(), Merge::Unite).unwrap(), names(&["a", "b"]));
    }

    #[test]
    fn a_cursor_leads_through_all_masters() {
        let cursor = |text: &str, number, is_last| {
            let reply = Reply::List(vec![Reply::text(text), Reply::List(Vec::new())]);
            let mut parts = with_cursor(reply, number, is_last).unwrap().into_list().unwrap();
            String::from_utf8(parts.remove(0).into_bytes().unwrap().unwrap()).unwrap()
        };
        assert_eq!(cursor("0", 0, false), "1");
        assert_eq!(cursor("7", 1, false), (7 * CURSORS + 1).to_string());
        assert_eq!(cursor("18446744073709551615", 2, true), (u128::from(u64::MAX) * CURSORS + 2).to_string());
        assert_eq!(cursor("0", 2, true), "0");
    }
}
