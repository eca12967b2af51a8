//! The sidecar's entry point: read the configuration, do what it says, say how it ended.
//!
//! Exit codes: 0 after `init` or a drain, 1 if something failed, 2 if the configuration is wrong.

use bulkhead_proxy::app;
use bulkhead_proxy::config::{Command, Config, ConfigError};
use bulkhead_proxy::logging;
use std::process::ExitCode;

const CONFIGURATION_IS_WRONG: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::read(std::env::args_os()) {
        Ok(config) => config,
        Err(ConfigError::Flags(error)) => error.exit(),
        Err(error) => return refuse(&error.to_string()),
    };
    if let Err(problem) = logging::start(&config.log, config.log_json) {
        return refuse(&problem);
    }
    let ended = match config.command {
        Command::Init(place) => app::init(&place),
        Command::Run(run) => app::run(*run),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(CONFIGURATION_IS_WRONG)
}
