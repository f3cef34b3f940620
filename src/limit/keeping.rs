//! What is counted is kept before it is answered: whoever has failed waits until that is written down, many for one write.

use std::time::Duration;

use tokio::sync::{Notify, watch};

/// A disk that takes longer keeps nobody's answer back any further.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Between those who have counted and the one task that keeps it.
#[derive(Debug, Default)]
pub struct Keeping {
    rounds: watch::Sender<Rounds>,
    wish: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rounds {
    begun: u64,
    ended: u64,
    /// Whether waiting is of use: there is a task, and its last round went well.
    is_able: bool,
}

impl Keeping {
    /// Waits until all that has been counted so far is kept, half a second at most. Where nothing is kept, or nothing can be
    /// at present, it does not wait: a store in trouble stops no answer.
    pub async fn kept(&self) {
        let mut rounds = self.rounds.subscribe();
        let now = *rounds.borrow_and_update();
        if !now.is_able {
            return;
        }
        // The one under way may have begun before.
        let wanted = now.begun + 1;
        self.wish.notify_one();
        let kept = rounds.wait_for(|now| !now.is_able || wanted <= now.ended);
        // Whoever is kept waiting too long is answered all the same.
        let _ = tokio::time::timeout(WAIT_MAX, kept).await;
    }

    /// Waits until somebody waits. For the one task that keeps what is counted.
    pub async fn wished(&self) {
        self.wish.notified().await;
    }

    /// A round begins: what is handed out from now on is kept by it.
    pub fn begin(&self) {
        self.rounds.send_modify(|rounds| rounds.begun += 1);
    }

    /// The round has ended, and whether all was kept.
    pub fn end(&self, is_kept: bool) {
        self.rounds.send_modify(|rounds| {
            rounds.ended = rounds.begun;
            rounds.is_able = is_kept;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_wait_for_one_round_that_began_after_them() {
        let keeping = Arc::new(Keeping::default());
        keeping.begin();
        keeping.end(true);
        keeping.begin();
        let waiting = |keeping: &Arc<Keeping>| {
            let keeping = Arc::clone(keeping);
            tokio::spawn(async move { keeping.kept().await })
        };
        let many: Vec<_> = (0..100).map(|_| waiting(&keeping)).collect();
        let wished = tokio::time::timeout(WAIT_MAX / 2, keeping.wished());
        wished.await.expect("a wish");
        tokio::task::yield_now().await;
        keeping.end(true);
        tokio::task::yield_now().await;
        assert!(many.iter().all(|one| !one.is_finished()));
        keeping.begin();
        keeping.end(true);
        for one in many {
            one.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_where_nothing_is_kept_or_for_long() {
        let keeping = Keeping::default();
        let start = tokio::time::Instant::now();
        keeping.kept().await;
        keeping.begin();
        keeping.end(false);
        keeping.kept().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        keeping.begin();
        keeping.end(true);
        keeping.kept().await;
        assert_eq!(start.elapsed(), WAIT_MAX);
    }
}
