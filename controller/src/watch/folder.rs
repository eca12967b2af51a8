//! Reading a folder of documents, whole or not at all.
//!
//! Files end in `.yaml`, `.yml` or `.json`; names that begin with a dot are left alone (unfinished files, the
//! inner folders of a mounted ConfigMap, whose documents are reached through its links).

use crate::limits::{FILE_BYTES_MAX, FILES_MAX, FOLDER_BYTES_MAX, FOLDER_DEPTH_MAX};
use bulkhead_policies::diagnostics::Source;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a folder was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FolderError {
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`: {problem}")]
    Unreadable {
        /// Which.
        path: String,
        /// What the system said.
        problem: String,
    },
    /// A file is not UTF-8.
    #[error("`{path}` is not UTF-8 text")]
    NotText {
        /// Which.
        path: String,
    },
    /// A limit is reached.
    #[error("`{path}` has more than {limit}: split it")]
    TooLarge {
        /// Which file or folder.
        path: String,
        /// The limit.
        limit: String,
    },
    /// A folder that was read before is not there any more.
    #[error(
        "`{path}` was read before and is gone: mount or restore it, or restart the controller if that was meant"
    )]
    Gone {
        /// Which.
        path: String,
    },
    /// The reading was interrupted.
    #[error("reading was interrupted: {problem}")]
    Interrupted {
        /// By what.
        problem: String,
    },
}

impl FolderError {
    /// The file or folder that is to blame; empty if none is.
    pub fn path(&self) -> &str {
        match self {
            Self::Unreadable { path, .. }
            | Self::NotText { path }
            | Self::TooLarge { path, .. }
            | Self::Gone { path } => path,
            Self::Interrupted { .. } => "",
        }
    }
}

/// Folders that are read together, and which of them were there before.
#[derive(Clone, Debug)]
pub struct Folders {
    roots: Vec<PathBuf>,
    /// Those that, once read, must stay: a lost mount must not look like a wish to delete what it held.
    lasting: Vec<PathBuf>,
    seen: BTreeSet<PathBuf>,
}

impl Folders {
    /// Reads `roots`; each of `lasting` may come later, but not go.
    pub fn new(roots: Vec<PathBuf>, lasting: Vec<PathBuf>) -> Self {
        Self { roots, lasting, seen: BTreeSet::new() }
    }

    /// What is watched and read.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// As [`read`], and refused if a folder of before is gone, also if it goes while it is read.
    pub fn read(&mut self) -> Result<Vec<Source>, FolderError> {
        let there: BTreeSet<PathBuf> = self.lasting.iter().filter(|path| path.is_dir()).cloned().collect();
        if let Some(gone) = self.seen.difference(&there).next() {
            return Err(FolderError::Gone { path: gone.display().to_string() });
        }
        let sources = read(&self.roots)?;
        if let Some(gone) = there.iter().find(|path| !path.is_dir()) {
            return Err(FolderError::Gone { path: gone.display().to_string() });
        }
        self.seen = there;
        Ok(sources)
    }
}

/// Every document file below the roots, sorted by name. A root inside of another is read once. A root that is not
/// there holds nothing.
pub fn read(roots: &[PathBuf]) -> Result<Vec<Source>, FolderError> {
    let mut paths = BTreeSet::new();
    for root in roots {
        collect(root, 0, &mut paths)?;
    }
    let mut bytes_left = FOLDER_BYTES_MAX;
    paths.iter().map(|path| read_file(path, &mut bytes_left)).collect()
}

fn collect(folder: &Path, depth: usize, paths: &mut BTreeSet<PathBuf>) -> Result<(), FolderError> {
    if depth > FOLDER_DEPTH_MAX {
        return Err(too_large(folder, format!("{FOLDER_DEPTH_MAX} folders inside folders")));
    }
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unreadable(folder, &error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        // Follows links, as a mounted ConfigMap needs; a link to a parent ends at the limit of depth.
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => collect(&path, depth + 1, paths)?,
            Ok(_) if is_document(&path) => drop(paths.insert(path)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_document(&path) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
        if paths.len() > FILES_MAX {
            return Err(too_large(folder, format!("{FILES_MAX} files")));
        }
    }
    Ok(())
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

fn read_file(path: &Path, bytes_left: &mut u64) -> Result<Source, FolderError> {
    let mut bytes = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    let length = bytes.len() as u64;
    if length > FILE_BYTES_MAX {
        return Err(too_large(path, format!("{FILE_BYTES_MAX} bytes")));
    }
    *bytes_left = bytes_left.checked_sub(length).ok_or_else(|| {
        too_large(path, format!("its share of {FOLDER_BYTES_MAX} bytes for the whole folder"))
    })?;
    let name = path.display().to_string();
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source { name, text }),
        Err(_) => Err(FolderError::NotText { path: name }),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> FolderError {
    FolderError::Unreadable { path: path.display().to_string(), problem: error.to_string() }
}

fn too_large(path: &Path, limit: String) -> FolderError {
    FolderError::TooLarge { path: path.display().to_string(), limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn documents_are_found_in_every_folder_and_sorted_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "z.yaml");
        write(folder.path(), "a/b/c.yml");
        write(folder.path(), "m.json");
        write(folder.path(), "README.md");
        write(folder.path(), ".hidden.yaml");
        assert_eq!(names(folder.path()), ["a/b/c.yml", "m.json", "z.yaml"]);
    }

    #[test]
    fn a_mounted_config_map_is_read_once_through_its_links() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "..2026_01_01/shop.yaml");
        symlink("..2026_01_01", folder.path().join("..data")).expect("linked");
        symlink("..data/shop.yaml", folder.path().join("shop.yaml")).expect("linked");
        assert_eq!(names(folder.path()), ["shop.yaml"]);
    }

    #[test]
    fn a_document_that_cannot_be_read_refuses_the_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "good.yaml");
        symlink("nowhere", folder.path().join("broken.yaml")).expect("linked");
        let refused = read(&[folder.path().to_owned()]).expect_err("refused");
        assert!(refused.path().ends_with("broken.yaml"), "{refused}");
        fs::remove_file(folder.path().join("broken.yaml")).expect("removed");
        fs::write(folder.path().join("bytes.yaml"), [0xff, 0xfe]).expect("written");
        assert!(matches!(read(&[folder.path().to_owned()]), Err(FolderError::NotText { .. })));
    }

    #[test]
    fn a_link_to_its_own_parent_is_refused_not_followed_for_ever() {
        let folder = tempfile::tempdir().expect("a folder");
        symlink(".", folder.path().join("again")).expect("linked");
        assert!(matches!(read(&[folder.path().to_owned()]), Err(FolderError::TooLarge { .. })));
    }

    #[test]
    fn a_root_inside_of_another_is_read_once_and_a_missing_one_holds_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "approved/shop.yaml");
        let roots = [folder.path().to_owned(), folder.path().join("approved"), folder.path().join("missing")];
        assert_eq!(read(&roots).expect("readable").len(), 1);
    }

    #[test]
    fn a_folder_that_was_read_and_is_gone_is_an_error_until_it_is_back() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "shop.yaml");
        let approved = folder.path().join("approved");
        let mut folders =
            Folders::new(vec![folder.path().to_owned()], vec![folder.path().to_owned(), approved.clone()]);
        assert_eq!(folders.read().expect("not there yet").len(), 1);
        write(&approved, "bank.yaml");
        assert_eq!(folders.read().expect("there").len(), 2);
        fs::remove_dir_all(&approved).expect("removed");
        for _ in 0..2 {
            assert_eq!(folders.read(), Err(FolderError::Gone { path: approved.display().to_string() }));
        }
        fs::create_dir(&approved).expect("made");
        assert_eq!(folders.read().expect("back, with less in it").len(), 1);
    }

    fn write(folder: &Path, name: &str) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        fs::write(path, "kind: A\n").expect("written");
    }

    fn names(folder: &Path) -> Vec<String> {
        let sources = read(&[folder.to_owned()]).expect("readable");
        let prefix = format!("{}/", folder.display());
        sources.iter().map(|s| s.name.strip_prefix(&prefix).expect("below the root").to_owned()).collect()
    }
}
