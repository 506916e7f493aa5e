//! The program: arguments in, exit code out.

use std::process::ExitCode;

use dlmalloc::GlobalDlmalloc;

/// Joins what is freed beside each other, so a burst of probes uses again what the last one has
/// used. The C library that the static program is linked with (Zig's, std/heap/SmpAllocator.zig)
/// keeps each power of two apart for good: the idle daemon held 270 kB more with it.
#[global_allocator]
static HEAP: GlobalDlmalloc = GlobalDlmalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    ExitCode::from(tailover::cli::main(&args))
}
