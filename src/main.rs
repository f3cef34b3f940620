//! `doorward`: see `doorward --help`.

/// Faster than the system's under many small allocations on several threads; docs/benchmarks.md has the figures.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    doorward::cli::run()
}
