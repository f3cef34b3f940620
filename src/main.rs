//! `doorward`: see `doorward --help`.

/// Faster than the system's under many small allocations on several threads; docs/benchmarks.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // The allocator asks for huge pages, of which each takes 2 MiB for the first byte that is used of it: 45 MiB at rest.
    // Where the system cannot do without, the process is only larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    doorward::cli::run()
}
