//! Notices that the machine slept. Timers do not: they count on a clock that stands still meanwhile, while a TTL on
//! the server goes on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::io_thread;
use crate::time::since_boot;

/// How often the clocks are compared, while anybody wants to know.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A difference of less than this is rounding.
const TOLERANCE_MILLIS: u64 = 5;

static SUSPENSIONS: OnceLock<watch::Sender<u64>> = OnceLock::new();
/// The clocks are being compared.
static COMPARING: AtomicBool = AtomicBool::new(false);

/// Hears of every suspension of the machine.
pub struct Suspensions(watch::Receiver<u64>);

impl Suspensions {
    /// Begins to listen.
    pub fn watch() -> Self {
        let sender = SUSPENSIONS.get_or_init(|| watch::Sender::new(0));
        let receiver = sender.subscribe();
        if !COMPARING.swap(true, Ordering::AcqRel) {
            // Without an I/O thread there is nobody to tell.
            let _ = io_thread::spawn(compare_clocks(sender));
        }
        Self(receiver)
    }

    /// Resolves when the machine has slept.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Ends when nobody listens any more.
async fn compare_clocks(sender: &'static watch::Sender<u64>) {
    let (boot, running) = (since_boot(), Instant::now());
    let mut slept = 0;
    loop {
        if sender.receiver_count() == 0 {
            COMPARING.store(false, Ordering::Release);
            // Somebody may have come before the flag was down.
            if sender.receiver_count() == 0 || COMPARING.swap(true, Ordering::AcqRel) {
                return;
            }
        }
        sleep(LOOK_EVERY).await;
        let difference =
            (since_boot().get() - boot.get()).saturating_sub(running.elapsed().as_millis() as u64);
        if difference > slept + TOLERANCE_MILLIS {
            slept = difference;
            sender.send_replace(slept);
        }
    }
}
