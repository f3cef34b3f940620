//! `doorward`: see `doorward --help`.

/// Faster than the system allocator for many small allocations on several threads; see docs/benchmarks.md for figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator requests huge pages, and each occupies 2 MiB as soon as one byte of it is used: 45 MiB when idle.
    // Where the system cannot disable them, the process is only larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    doorward::cli::run()
}
