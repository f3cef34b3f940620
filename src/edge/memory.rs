//! The memory limit of the process, and what is refused before it is reached.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tracing::{info, warn};

use crate::config::Config;
use crate::crypto::password::HASH_BYTES;
use crate::edge::connections::Connections;
use crate::proxy::in_flight::InFlight;
use crate::telemetry::metrics::Metrics;

/// Interval of measurements; in the worst case new connections take some 10 MiB in between.
const MEASURE_EVERY: Duration = Duration::from_millis(100);
/// Percentages of the limit above which connections, and then also requests, are refused. The rest is for requests in
/// flight. Refusal ends once usage is below the threshold by [`SLACK`].
const CONNECTIONS_SHARE: u64 = 80;
const REQUESTS_SHARE: u64 = 90;
const SLACK: u64 = 5;
/// The files of a control group with its limit and its usage, and the line of `memory.stat` with the file pages that
/// can be dropped.
const GROUP_FILES: [&str; 3] = ["memory.max", "memory.current", "inactive_file"];
/// The same in version 1 of cgroups.
const GROUP_FILES_V1: [&str; 3] = [
    "memory.limit_in_bytes",
    "memory.usage_in_bytes",
    "total_inactive_file",
];
/// In version 1 of cgroups, a limit above this means none.
const NO_LIMIT: u64 = 1 << 60;

const CALM: u8 = 0;
const TIGHT: u8 = 1;
const FULL: u8 = 2;

/// Interval of occasions for the allocator to return free memory.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);
/// Larger than the pieces the allocator serves from its free lists.
const LARGE_BYTES: usize = 1 << 20;

/// Makes the allocator return free memory to the system periodically. It does so when a large piece is freed, and an
/// idle gateway frees none.
pub(crate) async fn give_back() {
    loop {
        tokio::time::sleep(GIVE_BACK_EVERY).await;
        // Never written to, so it costs no page.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
    }
}

/// How short of memory the process is.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU8);

impl Pressure {
    /// Whether new connections are accepted.
    pub(crate) fn takes_connections(&self) -> bool {
        self.0.load(Ordering::Acquire) == CALM
    }
}

/// The measurement that is compared with the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MemoryMeter {
    /// The process's own pages, without those of files (its program text), which the system can drop and read again.
    Resident,
    /// The usage the system counts for the control group, without file pages it can drop at once. The kernel's OOM
    /// killer acts on this count.
    Group {
        used: PathBuf,
        stat: PathBuf,
        droppable: &'static str,
    },
}

/// A memory limit and the means to measure usage against it.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    bytes_max: u64,
    /// Maximum memory that password hashing may need at any moment.
    reserve: u64,
    meter: MemoryMeter,
}

impl MemoryLimit {
    /// Returns the limit from the configuration, or else that of the container; `None` if there is no limit or usage
    /// cannot be measured.
    pub(crate) fn of(config: &Config) -> Option<Self> {
        let (bytes_max, meter) = match config.limits.memory_bytes_max {
            0 => {
                let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
                group_limit(&groups, Path::new("/sys/fs/cgroup"))?
            }
            bytes => (bytes, MemoryMeter::Resident),
        };
        let hashes = (config.account.hash_threads.max(1) * HASH_BYTES) as u64;
        let memory = Self {
            bytes_max,
            reserve: hashes.min(bytes_max / 2),
            meter,
        };
        let used = memory.meter.read()?;
        info!(
            limit_mib = mib(bytes_max),
            used_mib = mib(used),
            counted = match memory.meter {
                MemoryMeter::Resident => "the process's own memory",
                MemoryMeter::Group { .. } => "the control group",
            },
            "memory is limited"
        );
        if memory.level(used, CALM) != CALM {
            warn!(
                limit_mib = mib(bytes_max),
                used_mib = mib(used),
                "the memory limit is too low to serve requests: raise limits.memory_max_mb or the container's limit"
            );
        }
        Some(memory)
    }

    /// Returns the level for `used` bytes, given the level of the previous measurement.
    fn level(&self, used: u64, before: u8) -> u8 {
        let limit = self.bytes_max - self.reserve;
        let is_above = |share: u64, is_on: bool| {
            let share = if is_on { share - SLACK } else { share };
            limit / 100 * share <= used
        };
        if is_above(REQUESTS_SHARE, before == FULL) {
            FULL
        } else if is_above(CONNECTIONS_SHARE, before != CALM) {
            TIGHT
        } else {
            CALM
        }
    }

    /// Measures periodically and has connections and requests refused while memory is short.
    pub(crate) async fn watch(
        self,
        pressure: Arc<Pressure>,
        open: Arc<Connections>,
        in_flight: Arc<InFlight>,
        metrics: Arc<Metrics>,
    ) {
        let gauges = &metrics.edge;
        gauges.memory_limit_bytes.set(signed(self.bytes_max));
        let mut level = CALM;
        loop {
            // A failed measurement changes nothing.
            if let Some(used) = self.meter.read() {
                let before = level;
                level = self.level(used, before);
                gauges.memory_used_bytes.set(signed(used));
                gauges.memory_level.set(level.into());
                pressure.0.store(level, Ordering::Release);
                in_flight.refuse_new(level == FULL);
                self.log_change(before, level, used);
            }
            if level != CALM {
                open.close_oldest_idle();
            }
            tokio::time::sleep(MEASURE_EVERY).await;
        }
    }

    fn log_change(&self, before: u8, level: u8, used: u64) {
        let (used_mib, limit_mib) = (mib(used), mib(self.bytes_max));
        match (before, level) {
            (CALM | TIGHT, FULL) => {
                warn!(
                    used_mib,
                    limit_mib, "memory is short: connections and requests are refused"
                );
            }
            (CALM, TIGHT) => {
                warn!(
                    used_mib,
                    limit_mib, "memory is short: new connections are refused"
                );
            }
            (TIGHT | FULL, CALM) => info!(used_mib, limit_mib, "memory is no longer short"),
            _ => {}
        }
    }
}

impl MemoryMeter {
    fn read(&self) -> Option<u64> {
        match self {
            Self::Resident => {
                let status = fs::read_to_string("/proc/self/status").ok()?;
                let kib = |name: &str| {
                    let value = status.lines().find_map(|it| it.strip_prefix(name))?;
                    value.split_whitespace().next()?.parse::<u64>().ok()
                };
                let own = kib("VmRSS:")?.saturating_sub(kib("RssFile:").unwrap_or(0));
                Some(own << 10)
            }
            Self::Group {
                used,
                stat,
                droppable,
            } => {
                let used = number(used)?;
                let stat = fs::read_to_string(stat).unwrap_or_default();
                let dropped = stat.lines().find_map(|line| {
                    let (name, count) = line.split_once(' ')?;
                    (name == *droppable).then(|| count.parse::<u64>().ok())?
                });
                Some(used.saturating_sub(dropped.unwrap_or(0)))
            }
        }
    }
}

/// Returns the smallest limit of the control groups the process is in, as `/proc/self/cgroup` names them, and the meter
/// to compare with it. `root`: the mount point of cgroups.
fn group_limit(groups: &str, root: &Path) -> Option<(u64, MemoryMeter)> {
    let mut found: Option<(u64, MemoryMeter)> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, [limit, used, droppable]) = match controllers {
            "" => (root.to_owned(), GROUP_FILES),
            it if it.split(',').any(|it| it == "memory") => (root.join("memory"), GROUP_FILES_V1),
            _ => continue,
        };
        // A container sees its own group as the root, whatever path it has outside.
        let inner = root.join(path.trim_start_matches('/'));
        for group in inner.ancestors().take_while(|it| it.starts_with(&root)) {
            let Some(bytes) = number(&group.join(limit)).filter(|it| *it < NO_LIMIT) else {
                continue;
            };
            if found.as_ref().is_none_or(|(least, _)| bytes < *least) {
                let meter = MemoryMeter::Group {
                    used: group.join(used),
                    stat: group.join("memory.stat"),
                    droppable,
                };
                found = Some((bytes, meter));
            }
        }
    }
    found
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

const fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(dir: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_smallest_limit_above_counts_and_what_it_counts() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        group(
            &dir.join("a"),
            &[("memory.max", "300\n"), ("memory.current", "200\n")],
        );
        group(
            &dir.join("a/b"),
            &[("memory.max", "max\n"), ("memory.current", "150\n")],
        );
        group(
            &dir.join("memory/old"),
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "1\n"),
            ],
        );
        assert_eq!(group_limit("2:cpu:/a\n", dir), None);
        assert_eq!(group_limit("3:cpu,memory:/old\n", dir), None);
        let (bytes, meter) = group_limit("0::/a/b\n", dir).unwrap();
        assert_eq!((bytes, meter.read()), (300, Some(200)));
        fs::write(dir.join("a/memory.stat"), "anon 5\ninactive_file 60\n").unwrap();
        assert_eq!(meter.read(), Some(140));
        group(
            &dir.join("memory"),
            &[
                ("memory.limit_in_bytes", "100\n"),
                ("memory.usage_in_bytes", "70\n"),
                ("memory.stat", "inactive_file 1\ntotal_inactive_file 20\n"),
            ],
        );
        // A path that exists only outside the container.
        let (bytes, meter) = group_limit("4:memory:/docker/x\n0::/a\n", dir).unwrap();
        assert_eq!((bytes, meter.read()), (100, Some(50)));
        assert!(MemoryMeter::Resident.read().is_some_and(|it| 1 << 20 < it));
    }

    #[test]
    fn each_share_has_its_level_and_ends_below_where_it_began() {
        let memory = MemoryLimit {
            bytes_max: 2000,
            reserve: 1000,
            meter: MemoryMeter::Resident,
        };
        for (used, before, level) in [
            (799, CALM, CALM),
            (800, CALM, TIGHT),
            (899, CALM, TIGHT),
            (900, CALM, FULL),
            (900, TIGHT, FULL),
            (850, FULL, FULL),
            (849, FULL, TIGHT),
            (750, TIGHT, TIGHT),
            (749, TIGHT, CALM),
            (749, FULL, CALM),
        ] {
            assert_eq!(memory.level(used, before), level, "{used} {before}");
        }
    }
}
