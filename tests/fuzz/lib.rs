//! Runs fuzz targets.
//!
//! A target is a test of the library that calls [`check`] with its name and a property. `cargo test` checks the
//! property for every input in `corpus/<name>` and for some thousand mutations of them, the same in each run.
//! `scripts/fuzz` builds the same tests with coverage counters and `--cfg fuzzing`, and [`check`] passes the property
//! to libFuzzer.

use std::path::Path;

/// Checks a property for many inputs. A panic of the property is a finding, and so is an input that takes very long.
///
/// # Panics
/// If the property panics, or if the target has no corpus.
pub fn check(target: &str, property: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    engine::run(target, &corpus, property);
}

/// Checks a property of inputs that need another process and time, many inputs at once: first the corpus, then one batch
/// of mutations, the same in each run. `FUZZ_SECONDS` sets how long further batches follow, from another seed each time;
/// coverage does not guide them. The property returns a report for each input that breaks it, by its index in the batch.
/// `FUZZ_FINDINGS` names a directory for those inputs.
///
/// # Panics
/// If an input breaks the property, or if the target has no corpus.
#[cfg(not(fuzzing))]
pub fn check_in_batches(
    target: &str,
    count: usize,
    property: impl FnMut(&[Vec<u8>]) -> Vec<(usize, String)>,
) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    engine::run_batches(target, &corpus, count, property);
}

#[cfg(not(fuzzing))]
mod engine {
    use std::path::PathBuf;
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::Path;

    /// Limits for mutated inputs: time and number.
    const TIME_MAX: Duration = Duration::from_millis(700);
    const CHANGED_MAX: usize = 5000;
    /// Bytes that parsers treat as special more often than others.
    const SPECIAL: &[u8] = b"\0\t\n\r \"%&'()*,-./0129:;<=>?@AZ[\\]_az{|}~\x7f\x80\xc2\xff";

    pub(super) fn run(target: &str, corpus: &Path, property: fn(&[u8])) {
        let inputs = read(corpus);
        assert!(
            !inputs.is_empty(),
            "{target}: {} is empty",
            corpus.display()
        );
        for (path, input) in &inputs {
            let _shown = Shown(path.display().to_string(), input);
            property(input);
        }
        let mut random = Random(seed_of(target) | 1);
        let begin = Instant::now();
        for _ in 0..CHANGED_MAX {
            if TIME_MAX < begin.elapsed() {
                break;
            }
            let input = changed(&inputs, &mut random);
            let _shown = Shown(format!("{target}: a changed input"), &input);
            property(&input);
        }
    }

    /// Returns the seed of the mutations: the same in each run, so that findings are reproducible.
    fn seed_of(target: &str) -> u64 {
        target.bytes().fold(0xCBF2_9CE4_8422_2325, |seed: u64, byte| {
            (seed ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        })
    }

    pub(super) fn run_batches(
        target: &str,
        corpus: &Path,
        count: usize,
        mut property: impl FnMut(&[Vec<u8>]) -> Vec<(usize, String)>,
    ) {
        let inputs = read(corpus);
        assert!(
            !inputs.is_empty(),
            "{target}: {} is empty",
            corpus.display()
        );
        let seconds = std::env::var("FUZZ_SECONDS").ok();
        let seconds = seconds.and_then(|text| text.parse().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let seed = match (seconds, now) {
            (Some(_), Ok(now)) => now.as_secs(),
            _ => seed_of(target),
        };
        let begin = Instant::now();
        let mut check = |batch: &[Vec<u8>]| {
            let reports = property(batch);
            for (index, _) in &reports {
                keep(target, &batch[*index]);
            }
            let reports: String = reports.into_iter().map(|(_, report)| report).collect();
            assert!(reports.is_empty(), "{target}: {reports}");
        };
        let all: Vec<_> = inputs.iter().map(|(_, input)| input.clone()).collect();
        for batch in all.chunks(count) {
            check(batch);
        }
        let mut random = Random(seed | 1);
        let mut batches = 0;
        while batches == 0 || seconds.is_some_and(|seconds| begin.elapsed().as_secs() < seconds) {
            let batch: Vec<_> = (0..count).map(|_| changed(&inputs, &mut random)).collect();
            check(&batch);
            batches += 1;
        }
        if seconds.is_some() {
            eprintln!("{target}: {} changed inputs", batches * count);
        }
    }

    /// Writes an input that breaks a property to the directory of the findings.
    fn keep(target: &str, input: &[u8]) {
        let Ok(directory) = std::env::var("FUZZ_FINDINGS") else {
            return;
        };
        let sum = input.iter().fold(0_u64, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        });
        let path = Path::new(&directory).join(format!("{target}-{sum:016x}"));
        let written = std::fs::write(&path, input);
        eprintln!("{}: {written:?}", path.display());
    }

    /// Reads every input, in the order of their names.
    fn read(corpus: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = std::fs::read_dir(corpus).into_iter().flatten();
        let paths = entries.map(|entry| entry.expect("a readable corpus").path());
        let mut inputs: Vec<_> = paths
            .map(|path| {
                let input = std::fs::read(&path).expect("a readable input");
                (path, input)
            })
            .collect();
        inputs.sort();
        inputs
    }

    /// Returns one of the inputs with up to four mutations.
    fn changed(inputs: &[(PathBuf, Vec<u8>)], random: &mut Random) -> Vec<u8> {
        let mut input = inputs[random.below(inputs.len())].1.clone();
        for _ in 0..=random.below(4) {
            let place = random.below(input.len() + 1);
            let end = place + random.below((input.len() - place).min(16) + 1);
            match random.below(5) {
                0 => drop(input.drain(place..end)),
                1 => input.insert(place, SPECIAL[random.below(SPECIAL.len())]),
                2 => {
                    let copied = input[place..end].to_vec();
                    input.splice(place..place, copied);
                }
                3 => {
                    let other = &inputs[random.below(inputs.len())].1;
                    let start = random.below(other.len() + 1);
                    let stop = start + random.below((other.len() - start).min(64) + 1);
                    input.splice(place..end, other[start..stop].iter().copied());
                }
                _ => {
                    if let Some(byte) = input.get_mut(place) {
                        *byte ^= 1 << random.below(8);
                    }
                }
            }
        }
        input
    }

    /// Xorshift: any fast generator is good enough.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).map_or(0, |number| number % bound)
        }
    }

    /// Prints the input for which the property fails.
    struct Shown<'a>(String, &'a [u8]);

    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }
}

#[cfg(fuzzing)]
mod engine {
    use std::ffi::{CString, c_char, c_int};
    use std::sync::OnceLock;

    use libfuzzer_sys as _;

    use super::Path;

    static PROPERTY: OnceLock<fn(&[u8])> = OnceLock::new();

    unsafe extern "C" {
        fn LLVMFuzzerRunDriver(
            argc: *mut c_int,
            argv: *mut *mut *mut c_char,
            one: extern "C" fn(*const u8, usize) -> c_int,
        ) -> c_int;
    }

    /// Runs libFuzzer and never returns, if `FUZZ_TARGET` names this target. `FUZZ_ARGS` contains its arguments, one
    /// per line; `FUZZ_PROGRAM` is the program that libFuzzer runs with other arguments to get here again.
    pub(super) fn run(target: &str, _: &Path, property: fn(&[u8])) {
        if std::env::var("FUZZ_TARGET").as_deref() != Ok(target) {
            return;
        }
        let _ = PROPERTY.set(property);
        // A panic ends the process before unwinding, so that libFuzzer sees its stack and keeps the input.
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            told(panic);
            std::process::abort();
        }));
        let program = std::env::var("FUZZ_PROGRAM").unwrap_or_default();
        let told = std::env::var("FUZZ_ARGS").unwrap_or_default();
        let args = std::iter::once(program).chain(told.lines().map(str::to_owned));
        // libFuzzer keeps pointers into them.
        let args: Vec<_> = args
            .map(|arg| {
                CString::new(arg)
                    .expect("an argument without a zero byte")
                    .into_raw()
            })
            .chain([std::ptr::null_mut()])
            .collect();
        let mut argc = c_int::try_from(args.len() - 1).expect("a few arguments");
        let mut argv = args.leak().as_mut_ptr();
        // SAFETY: `argv` holds `argc` strings and a null pointer behind them, all of which live as long as the process.
        let status = unsafe { LLVMFuzzerRunDriver(&raw mut argc, &raw mut argv, one) };
        std::process::exit(status);
    }

    extern "C" fn one(data: *const u8, size: usize) -> c_int {
        // SAFETY: libFuzzer passes `size` bytes that do not change during this call; without bytes the pointer may be
        // null.
        let input = match size {
            0 => &[],
            _ => unsafe { std::slice::from_raw_parts(data, size) },
        };
        rust_fuzzer_test_input(input)
    }

    /// The name under which libfuzzer-sys calls it.
    #[expect(
        improper_ctypes_definitions,
        reason = "libfuzzer-sys calls it from Rust"
    )]
    #[unsafe(no_mangle)]
    extern "C" fn rust_fuzzer_test_input(input: &[u8]) -> c_int {
        if let Some(property) = PROPERTY.get() {
            property(input);
        }
        0
    }
}
