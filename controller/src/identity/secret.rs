//! Secrets: random tokens, their digests, their comparison, and files that only we may read.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The operating system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random numbers")]
pub struct NoRandomness;

/// 32 random bytes as hexadecimal text.
pub fn token() -> Result<String, NoRandomness> {
    random::<32>().map(|bytes| hexadecimal(&bytes))
}

/// Random bytes of the operating system.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// SHA-256 of a secret as hexadecimal text: what is stored in its place.
pub fn fingerprint(secret: &str) -> String {
    fingerprint_of(secret.as_bytes())
}

/// SHA-256 of these bytes as hexadecimal text.
pub fn fingerprint_of(bytes: &[u8]) -> String {
    hexadecimal(digest(&SHA256, bytes).as_ref())
}

/// True if both are the same, in time that does not depend on where they differ.
pub fn same(presented: &str, expected: &str) -> bool {
    let presented = digest(&SHA256, presented.as_bytes());
    let expected = digest(&SHA256, expected.as_bytes());
    let difference = presented.as_ref().iter().zip(expected.as_ref()).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}

/// Writes a file that only its owner may read (0600), whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o600)
}

/// Writes a file that everybody may read (0644), whole or not at all.
pub fn write_public(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, 0o644)
}

fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    // A leading dot: readers of a watched folder do not take the unfinished file for a document.
    let unfinished = folder.join(format!(".{name}.{}.unfinished", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        // Nothing more can be done about a file that cannot be removed; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::File::open(folder)?.sync_all()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tokens_differ_and_are_long_enough_to_be_guessed_by_nobody() {
        let (one, other) = (token().expect("random"), token().expect("random"));
        assert_ne!(one, other);
        assert_eq!(one.len(), 64);
    }

    #[test]
    fn only_the_very_same_secret_is_the_same() {
        assert!(same("secret", "secret"));
        for wrong in ["", "secre", "secret ", "Secret"] {
            assert!(!same(wrong, "secret"), "{wrong}");
        }
    }

    #[test]
    fn the_fingerprint_is_the_published_sha_256() {
        assert_eq!(fingerprint("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
