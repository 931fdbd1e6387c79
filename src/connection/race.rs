//! Asking several for the same: each has a head start over the next, and the first answer wins.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::error::{Error, Result};

/// Asks the candidates in their order, the next as soon as one has failed or `next_after` is over. The errors of all
/// if nobody answers.
pub async fn first_answer<C, T, F>(
    candidates: Vec<C>,
    next_after: Duration,
    ask: impl Fn(C) -> F,
) -> std::result::Result<T, Vec<Error>>
where
    F: Future<Output = Result<T>> + Send,
{
    let mut candidates = candidates.into_iter();
    let mut asked: Vec<Pin<Box<F>>> = Vec::new();
    let mut errors = Vec::new();
    loop {
        match candidates.next() {
            Some(candidate) => asked.push(Box::pin(ask(candidate))),
            None if asked.is_empty() => return Err(errors),
            None => {}
        }
        let is_last = candidates.len() == 0;
        let pause = sleep_until(Instant::now() + next_after);
        tokio::select! {
            answer = any(&mut asked) => match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => errors.push(error),
            },
            () = pause, if !is_last => {}
        }
    }
}

/// The first of them that ends, taken out.
async fn any<T>(asked: &mut Vec<Pin<Box<impl Future<Output = T>>>>) -> T {
    std::future::poll_fn(|context| {
        for index in 0..asked.len() {
            if let std::task::Poll::Ready(answer) = asked[index].as_mut().poll(context) {
                drop(asked.swap_remove(index));
                return std::task::Poll::Ready(answer);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::sleep;

    use super::*;
    use crate::error::ErrorKind;

    async fn after(millis: u64, answer: Result<u32>) -> Result<u32> {
        sleep(Duration::from_millis(millis)).await;
        answer
    }

    fn failed() -> Error {
        Error::new(ErrorKind::Unavailable, "no")
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_is_asked_when_one_fails_or_takes_long() {
        let asked = RefCell::new(Vec::new());
        let begin = Instant::now();
        let outcome = first_answer(vec![0, 1, 2, 3], Duration::from_millis(100), |candidate: u32| {
            asked.borrow_mut().push((candidate, begin.elapsed().as_millis()));
            match candidate {
                0 => after(10, Err(failed())),
                1 => after(10_000, Ok(1)),
                _ => after(20, Ok(candidate)),
            }
        });
        assert_eq!(outcome.await.unwrap(), 2);
        assert_eq!(*asked.borrow(), [(0, 0), (1, 10), (2, 110)]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_given_up_before_the_end() {
        let slow = first_answer(vec![1], Duration::from_millis(1), |_| after(500, Ok(7)));
        assert_eq!(slow.await.unwrap(), 7);
        let none = first_answer(vec![1, 2], Duration::from_millis(1), |_| after(5, Err(failed())));
        assert_eq!(none.await.unwrap_err().len(), 2);
        assert!(first_answer(Vec::new(), Duration::ZERO, |_: u32| after(0, Ok(1))).await.is_err());
    }
}
