//! Durability of counters: a failed attempt is answered after its count is stored. Many attempts share one write.

use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Longest delay of an answer by a slow disk.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// Coordinates the tasks that have counted with the one task that stores the counters.
#[derive(Debug, Default)]
pub struct Keeping {
    rounds: watch::Sender<KeepingRounds>,
    wish: Notify,
}

#[derive(Clone, Copy, Debug, Default)]
struct KeepingRounds {
    begun: u64,
    ended: u64,
    /// Whether waiting is useful: the storing task runs, and its last round succeeded.
    is_able: bool,
}

impl Keeping {
    /// Waits until everything counted so far is stored, at most half a second. Returns at once if counters are not
    /// stored, or cannot be at present: a failing store delays no answer.
    pub async fn kept(&self) {
        let mut rounds = self.rounds.subscribe();
        let now = *rounds.borrow_and_update();
        if !now.is_able {
            return;
        }
        // The current round may have begun before the caller's count.
        let wanted = now.begun + 1;
        self.wish.notify_one();
        let kept = rounds.wait_for(|now| !now.is_able || wanted <= now.ended);
        // After a timeout the caller is answered all the same.
        let _ = tokio::time::timeout(WAIT_MAX, kept).await;
    }

    /// Waits until a caller waits in [`Keeping::kept`]. For the task that stores the counters.
    pub async fn wished(&self) {
        self.wish.notified().await;
    }

    /// Begins a round: changes handed out from now on belong to it.
    pub fn begin(&self) {
        self.rounds.send_modify(|rounds| rounds.begun += 1);
    }

    /// Ends the round. `is_kept`: whether all of it was stored.
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
