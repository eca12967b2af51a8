//! Where the controller's words go: standard error, as text or as JSON, one event a line.

use tracing_subscriber::EnvFilter;

/// Starts logging.
///
/// # Errors
///
/// A text for the operator if the filter cannot be read.
pub fn start(filter: &str, json: bool) -> Result<(), String> {
    let filter = parse(filter)?;
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    let started = match json {
        true => lines.json().try_init(),
        false => lines.with_target(false).try_init(),
    };
    started.map_err(|error| format!("error: logging: {error}"))
}

fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| {
        format!(
            "error: invalid value '{filter}' for '--log': {error}; write `error`, `warn`, `info`, `debug` or `trace`, \
             or a filter such as `bulkhead_controller=debug`"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_to_write() {
        assert!(parse("info,bulkhead_controller=debug").is_ok());
        let problem = parse("bulkhead_controller=loud").expect_err("taken");
        assert!(problem.contains("--log") && problem.contains("bulkhead_controller=debug"), "{problem}");
    }
}
