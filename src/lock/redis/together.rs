//! What is asked at the same time and may be asked together. The first of a round of the I/O thread waits until the
//! others of that round have come, which costs nobody anything.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Result};
use crate::runtime::io_thread;

/// As many as one script may be given: it holds up everybody else.
const MOST: usize = 64;

/// Questions that wait for the end of the round.
pub struct Together<Q, A> {
    waiting: Mutex<Vec<(Q, oneshot::Sender<Result<A>>)>>,
}

impl<Q, A> Default for Together<Q, A> {
    fn default() -> Self {
        Self { waiting: Mutex::default() }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Together<Q, A> {
    /// Asks, together with whoever else asks in this round. `ask_all` answers as many questions as it is given, in
    /// their order; its error is everybody's.
    pub async fn ask<F>(
        self: &Arc<Self>,
        question: Q,
        ask_all: impl Fn(Vec<Q>) -> F + Send + 'static,
    ) -> Result<A>
    where
        F: Future<Output = Result<Vec<A>>> + Send,
    {
        let (sender, answer) = oneshot::channel();
        let first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((question, sender));
            waiting.len() == 1
        };
        if first {
            let this = Arc::clone(self);
            io_thread::spawn(async move { this.ask_waiting(ask_all).await })?;
        }
        answer.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a question was dropped")))
    }

    async fn ask_waiting<F>(&self, ask_all: impl Fn(Vec<Q>) -> F)
    where
        F: Future<Output = Result<Vec<A>>>,
    {
        let mut waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut rounds = Vec::new();
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MOST));
            let (questions, senders): (Vec<_>, Vec<_>) =
                std::mem::replace(&mut waiting, rest).into_iter().unzip();
            let asked = ask_all(questions);
            rounds.push(async move {
                match asked.await {
                    Ok(answers) => senders.into_iter().zip(answers).for_each(|(sender, answer)| {
                        drop(sender.send(Ok(answer)));
                    }),
                    Err(error) => {
                        senders.into_iter().for_each(|sender| drop(sender.send(Err(error.clone()))))
                    }
                }
            });
        }
        futures_util::future::join_all(rounds).await;
    }
}
