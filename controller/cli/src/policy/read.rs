//! Files, folders and standard input to sources.

use bulkhead_policies::diagnostics::Source;
use bulkhead_policies::limits::INVENTORY_SOURCE_BYTES_MAX;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Folders below each other that are read. Deeper: an error, there is probably a loop of links.
const FOLDER_DEPTH_MAX: usize = 32;

/// How diagnostics call standard input.
pub(super) const STANDARD_INPUT: &str = "(standard input)";

/// Why something cannot be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The system refuses it.
    Unreadable(PathBuf, std::io::Error),
    /// Not UTF-8.
    NotText(PathBuf),
    /// Larger than anything that is read.
    TooLarge(PathBuf),
    /// Too many folders below each other.
    TooDeep(PathBuf),
    /// A folder without documents.
    Nothing(PathBuf),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "cannot read `{}`: {error}", path.display()),
            Self::NotText(path) => write!(f, "`{}` is not UTF-8 text: save it as UTF-8", path.display()),
            Self::TooLarge(path) => {
                write!(f, "`{}` is larger than {INVENTORY_SOURCE_BYTES_MAX} bytes: split it", path.display())
            }
            Self::TooDeep(path) => {
                write!(f, "folders below `{}` are nested deeper than {FOLDER_DEPTH_MAX}", path.display())
            }
            Self::Nothing(path) => {
                write!(
                    f,
                    "no `.yaml`, `.yml` or `.json` file in `{}`: name a file or another folder",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for ReadError {}

/// The sources of paths, folders with all that is below them; `-` is standard input. Sorted by name within each folder.
pub(super) fn sources(paths: &[PathBuf]) -> Result<Vec<Source>, ReadError> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = files.len();
            folder(path, 0, &mut files)?;
            if files.len() == before {
                return Err(ReadError::Nothing(path.clone()));
            }
        } else {
            files.push(path.clone());
        }
    }
    files.iter().map(|file| source(file)).collect()
}

/// Document files directly in a folder, and its folders, both sorted.
pub(super) fn entries(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), ReadError> {
    let unreadable = |error| ReadError::Unreadable(path.to_owned(), error);
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json") {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

fn folder(path: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    if depth > FOLDER_DEPTH_MAX {
        return Err(ReadError::TooDeep(path.to_owned()));
    }
    let (files, folders) = entries(path)?;
    found.extend(files);
    folders.iter().try_for_each(|below| folder(below, depth + 1, found))
}

/// One file, or standard input for `-`.
pub(super) fn source(path: &Path) -> Result<Source, ReadError> {
    let unreadable = |error| ReadError::Unreadable(path.to_owned(), error);
    let limit = INVENTORY_SOURCE_BYTES_MAX as u64 + 1;
    let mut bytes = Vec::new();
    let name = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        STANDARD_INPUT.to_owned()
    } else {
        let file = std::fs::File::open(path).map_err(unreadable)?;
        file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
        path.display().to_string()
    };
    if bytes.len() > INVENTORY_SOURCE_BYTES_MAX {
        return Err(ReadError::TooLarge(path.to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| ReadError::NotText(path.to_owned()))?;
    Ok(Source { name, text })
}
