//! Weir's log: one readable line per event, on stderr.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::UtcTime;

/// Starts logging at a level (`debug`, `info`, `warn`, `error`), or by a filter such as `info,hyper=debug`.
///
/// # Errors
/// If the filter cannot be read.
pub(crate) fn start(filter: &str) -> anyhow::Result<()> {
    // What libraries below have to say at `info` is of no use to the person who runs Weir.
    let quiet = "deltalake=warn,deltalake_core=warn,delta_kernel=warn,buoyant_kernel=warn,datafusion=warn,object_store=warn,hyper=warn,h2=warn,rustls=warn";
    let filter = EnvFilter::try_new(format!("{quiet},{filter}"))
        .map_err(|e| anyhow::anyhow!("--log-level {filter}: {e}; use debug, info, warn or error"))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_timer(UtcTime::new(time::macros::format_description!("[hour]:[minute]:[second].[subsecond digits:3]")))
        .with_target(false)
        .compact()
        .init();
    Ok(())
}

/// Tells an error that ends the process. Not through the log, which may not have started.
pub(crate) fn complain(message: &str) {
    // Nothing can be done about a closed stderr.
    let _ = writeln!(std::io::stderr(), "weir: {message}");
}
