//! The controller as a process: read the flags, start, wait for a signal, end.

use bulkhead_controller::app::App;
use bulkhead_controller::config::Config;
use bulkhead_controller::logging;
use clap::Parser;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// What a wrong flag, environment or folder ends with; clap uses the same.
const WRONG_CONFIGURATION: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = Config::parse();
    if let Err(problem) = logging::start(&config.log, config.log_json) {
        eprintln!("{problem}");
        return ExitCode::from(WRONG_CONFIGURATION);
    }
    if let Err(error) = config.check() {
        eprintln!("error: {error}");
        return ExitCode::from(WRONG_CONFIGURATION);
    }
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(WRONG_CONFIGURATION)
        }
    }
}

/// Everything that fails here fails at the start: what runs ends by a signal.
async fn run(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let app = App::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    app.shutdown().await;
    Ok(())
}
