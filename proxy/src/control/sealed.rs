//! Files that are either whole or not there: the sidecar's memory across kill -9 and power loss.
//!
//! A file has a header (magic, kind, version, time, length, SHA-256 of the rest) and a payload. It is written beside
//! its place, synced, renamed, and the directory synced. A file that does not add up is reported and never used.
//! The checksum finds damage, not malice: who can write the state directory already is the sidecar.

use crate::limits::STATE_FILE_BYTES_MAX;
use ring::digest::{SHA256, digest};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a sealed file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// When it was written, milliseconds since the epoch.
    pub written_ms: u64,
    /// The content.
    pub payload: Vec<u8>,
}

/// What kind of content a file has, so that one is never read as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The last program that was enforced.
    Program = 1,
    /// The sidecar's certificate.
    Certificate = 2,
}

/// Why a file of the state directory is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("`{}` is damaged ({damage}) and is not used", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not add up.
        damage: Damage,
    },
}

/// What does not add up in a sealed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Shorter than its header.
    #[error("shorter than its header")]
    Short,
    /// Longer than any file of ours.
    #[error("larger than {STATE_FILE_BYTES_MAX} bytes")]
    Large,
    /// Not a sealed file.
    #[error("not a file of ours")]
    Magic,
    /// A sealed file of another kind.
    #[error("of another kind")]
    Kind,
    /// Written by another version.
    #[error("of another version")]
    Version,
    /// The length differs from the header's.
    #[error("not of the length its header says")]
    Length,
    /// The checksum differs.
    #[error("checksum differs")]
    Checksum,
    /// Whole, but its content makes no sense.
    #[error("content unreadable")]
    Content,
}

const MAGIC: &[u8; 8] = b"BULKHEAD";
const VERSION: u8 = 1;
/// Magic, kind, version, time, length, checksum.
const HEADER_BYTES: usize = 8 + 1 + 1 + 8 + 8 + 32;

/// Reads a sealed file; `None` if there is none.
///
/// # Errors
///
/// [`StateError::Damaged`] if it is not exactly what [`write`](fn@write) wrote.
pub fn read(path: &Path, kind: Kind) -> Result<Option<Sealed>, StateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("open", path, source)),
    };
    let mut bytes = Vec::new();
    file.take(STATE_FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| failed("read", path, source))?;
    open(bytes, kind).map(Some).map_err(|damage| StateError::Damaged { path: path.to_owned(), damage })
}

/// Writes a sealed file so that a reader finds either the old or the new content, whatever happens.
///
/// # Errors
///
/// If the system refuses; the old content stays.
pub fn write(path: &Path, kind: Kind, payload: &[u8], now_ms: u64) -> Result<(), StateError> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[kind as u8, VERSION]);
    bytes.extend_from_slice(&now_ms.to_be_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_be_bytes());
    bytes.extend_from_slice(checksum(&bytes, payload).as_ref());
    bytes.extend_from_slice(payload);
    replace(path, &bytes)
}

/// Replaces a file's content atomically and durably; readable by the owner only.
///
/// # Errors
///
/// If the system refuses; the old content stays.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let beside = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(|source| failed("create", &beside, source))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|source| failed("write", &beside, source))?;
    fs::rename(&beside, path).map_err(|source| failed("replace", path, source))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| failed("sync", directory, source))
}

/// Makes the state directory if it is not there, for the owner only.
///
/// # Errors
///
/// If it cannot be made or is something else than a directory.
pub fn prepare_directory(path: &Path) -> Result<(), StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| failed("create directory", path, source))
}

fn open(mut bytes: Vec<u8>, kind: Kind) -> Result<Sealed, Damage> {
    if bytes.len() as u64 > STATE_FILE_BYTES_MAX {
        return Err(Damage::Large);
    }
    let (header, payload) = bytes.split_at_checked(HEADER_BYTES).ok_or(Damage::Short)?;
    let (described, sum) = header.split_at(HEADER_BYTES - 32);
    if !described.starts_with(MAGIC) {
        return Err(Damage::Magic);
    }
    if described[8] != kind as u8 {
        return Err(Damage::Kind);
    }
    if described[9] != VERSION {
        return Err(Damage::Version);
    }
    let number = |at: usize| described[at..at + 8].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    let (written_ms, length) = (number(10), number(18));
    if length != payload.len() as u64 {
        return Err(Damage::Length);
    }
    if checksum(described, payload).as_ref() != sum {
        return Err(Damage::Checksum);
    }
    Ok(Sealed { written_ms, payload: bytes.split_off(HEADER_BYTES) })
}

fn checksum(described: &[u8], payload: &[u8]) -> ring::digest::Digest {
    let mut context = ring::digest::Context::new(&SHA256);
    context.update(described);
    context.update(digest(&SHA256, payload).as_ref());
    context.finish()
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> StateError {
    StateError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::test_directory::TestDirectory;

    fn written(payload: &[u8]) -> (TestDirectory, PathBuf) {
        let directory = TestDirectory::new();
        let path = directory.path().join("program");
        write(&path, Kind::Program, payload, 1).expect("write");
        (directory, path)
    }

    #[test]
    fn what_was_written_is_read() {
        let (_directory, path) = written(b"one");
        write(&path, Kind::Program, b"two", 2).expect("write again");
        let sealed = read(&path, Kind::Program).expect("read").expect("there");
        assert_eq!(sealed.payload, b"two");
        assert_eq!(sealed.written_ms, 2);
    }

    #[test]
    fn a_missing_file_is_no_error() {
        let directory = TestDirectory::new();
        assert_eq!(read(&directory.path().join("none"), Kind::Program).expect("read"), None);
    }

    #[test]
    fn a_file_cut_anywhere_is_damaged() {
        let (_directory, path) = written(b"some program");
        let whole = fs::read(&path).expect("read");
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("cut");
            let error = read(&path, Kind::Program).expect_err("a torn file was read");
            assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_with_any_byte_changed_is_damaged() {
        let (_directory, path) = written(b"some program");
        let whole = fs::read(&path).expect("read");
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x40;
            fs::write(&path, &changed).expect("change");
            assert!(read(&path, Kind::Program).is_err(), "byte {at} changed and not noticed");
        }
    }

    #[test]
    fn a_file_of_another_kind_is_not_read() {
        let (_directory, path) = written(b"x");
        let error = read(&path, Kind::Certificate).expect_err("wrong kind was read");
        assert!(matches!(error, StateError::Damaged { damage: Damage::Kind, .. }), "{error}");
    }

    #[test]
    fn a_torn_write_leaves_the_old_content() {
        let (directory, path) = written(b"old");
        fs::write(directory.path().join("program.new"), b"BULKHEAD half").expect("torn");
        assert_eq!(read(&path, Kind::Program).expect("read").expect("there").payload, b"old");
        write(&path, Kind::Program, b"new", 3).expect("write over the torn one");
        assert_eq!(read(&path, Kind::Program).expect("read").expect("there").payload, b"new");
    }

    #[test]
    fn only_the_owner_reads_what_is_written() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = written(b"x");
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
