//! `bulkhead policy fmt`: documents in their one layout.

use super::{BAD_INPUT, DOES_NOT_HOLD, HOLDS, read, report};
use bulkhead_policies::yaml;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Write documents in their one layout
///
/// Comments and blank lines stay. Standard input (`-`) is written to standard output.
#[derive(clap::Args, Debug)]
pub(super) struct FormatArguments {
    /// Files or folders; `-` is standard input
    #[arg(required = true, value_name = "POLICY")]
    paths: Vec<PathBuf>,
    /// Change nothing; name the files that would change, and exit with 1 if there are any
    #[arg(long)]
    check: bool,
}

pub(super) fn run(arguments: &FormatArguments) -> u8 {
    let sources = match read::sources(&arguments.paths) {
        Ok(sources) => sources,
        Err(error) => return report::refuse(&error),
    };
    let from_input = arguments.paths.iter().any(|path| path.as_os_str() == "-");
    let mut code = HOLDS;
    for source in sources.iter().filter(|source| !source.name.ends_with(".json")) {
        let text = match yaml::format(source) {
            Ok(text) => text,
            Err(found) => {
                report::print(super::Format::Text, &found, &sources);
                code = BAD_INPUT;
                continue;
            }
        };
        if arguments.check && text != source.text {
            say!("{}", source.name);
            code = code.max(DOES_NOT_HOLD);
        } else if !arguments.check && from_input && source.name == read::STANDARD_INPUT {
            say_raw!("{text}");
        } else if !arguments.check && text != source.text {
            if let Err(error) = replace(Path::new(&source.name), &text) {
                return report::refuse(&format!("cannot write `{}`: {error}", source.name));
            }
            say!("{}", source.name);
        }
    }
    code
}

/// The whole file at once: who reads it meanwhile sees the old text or the new one.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".fmt~");
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::metadata(&path)?.permissions())?;
    file.sync_all()?;
    std::fs::rename(&beside, &path)
}
