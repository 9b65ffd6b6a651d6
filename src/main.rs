//! `weir`: arguments → configuration → graph → run.

mod cli;
mod components;
mod descriptors;
mod logging;
mod missing;
mod pages;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

// The system allocator of glibc keeps what was freed on another thread and costs more per request (measured in
// `benches/load`: see README, "Numbers").
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything has touched much memory.
    pages::forgo_huge();
    descriptors::raise_limit();
    let arguments = cli::Arguments::parse();
    match arguments.execute() {
        Ok(code) => code,
        Err(error) => {
            logging::complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
