//! Argon2id hashes per second at the configured cost, by number of threads in the pool.

use std::time::Duration;

use divan::counter::ItemsCount;
use doorward::crypto::password::PasswordPool;
use doorward::model::secret::Secret;

/// Hashes in flight at once, so that every thread is busy.
const IN_FLIGHT: usize = 8;

fn main() {
    divan::main();
}

#[divan::bench(args = [1, 2, 4], sample_count = 10, sample_size = 1)]
fn hash(bencher: divan::Bencher<'_, '_>, threads: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let (Ok(runtime), Ok(pool)) = (
        runtime,
        PasswordPool::start(threads, Duration::from_secs(2)),
    ) else {
        return;
    };
    bencher.counter(ItemsCount::new(IN_FLIGHT)).bench(|| {
        runtime.block_on(async {
            let password = || Secret::new("correct horse battery staple".to_owned());
            let all = (0..IN_FLIGHT).map(|_| pool.hash(password()));
            let mut running: Vec<_> = all.map(Box::pin).collect();
            // The first poll of each future queues its job.
            std::future::poll_fn(|context| {
                running.retain_mut(|job| job.as_mut().poll(context).is_pending());
                if running.is_empty() {
                    std::task::Poll::Ready(())
                } else {
                    std::task::Poll::Pending
                }
            })
            .await;
        });
    });
}
