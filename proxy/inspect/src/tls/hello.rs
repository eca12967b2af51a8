//! The client hello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2): what it offers, and to whom.

use super::malformed;
use crate::contract::Refusal;
use crate::cursor::Cursor;
use bulkhead_facts::{HostName, Reason, TlsVersion};

/// A client hello, as far as rules ask about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server name in clear.
    pub server_name: Option<HostName>,
    /// The lowest version that a server may choose.
    pub lowest: TlsVersion,
    /// The highest one.
    pub highest: TlsVersion,
    /// Application protocols, in the client's order, without those that mean nothing (RFC 8701).
    pub application_protocols: Vec<String>,
    /// Another hello is inside, encrypted, or something that looks like one.
    pub encrypted: bool,
}

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// The drafts before ECH (encrypted server name).
const ESNI: u16 = 0xffce;
const ECH: u16 = 0xfe0d;

/// Stands for a protocol whose name is no text: no rule names it.
const UNNAMED: &str = "\u{fffd}";

/// Reads a complete handshake message.
pub(super) fn read(message: &[u8]) -> Result<Hello, Refusal> {
    let mut cursor = Cursor::new(message.get(4..).unwrap_or_default());
    let head = head(&mut cursor).ok_or(malformed("client hello cut short"))?;
    let mut found = Found::default();
    let mut kinds = Vec::new();
    if !cursor.is_empty() {
        let list = cursor.vector16().filter(|_| cursor.is_empty());
        let mut list = Cursor::new(list.ok_or(malformed("extensions that do not fill the client hello"))?);
        while !list.is_empty() {
            let extension = list.u16().zip(list.vector16());
            let (kind, body) = extension.ok_or(malformed("extension cut short"))?;
            kinds.push(kind);
            found.read(kind, body)?;
        }
    }
    // A second extension of a type is refused (RFC 8446 section 4.2).
    let count = kinds.len();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.len() < count {
        return Err(malformed("extension that comes twice"));
    }
    found.hello(head)
}

/// The version that a server has chosen, from the body of its hello (RFC 8446 section 4.1.3); `None` for one that nobody knows, or
/// where the hello cannot be read.
pub(super) fn chosen(body: &[u8]) -> Option<TlsVersion> {
    let mut cursor = Cursor::new(body);
    let mut version = cursor.u16()?;
    cursor.take(32)?;
    cursor.vector8()?;
    // Suite and compression.
    cursor.take(3)?;
    let mut list = Cursor::new(if cursor.is_empty() { &[] } else { cursor.vector16()? });
    while !list.is_empty() {
        let (kind, content) = list.u16().zip(list.vector16())?;
        if kind == SUPPORTED_VERSIONS {
            version = u16::from_be_bytes(content.try_into().ok()?);
        }
    }
    exact(version)
}

/// Everything before the extensions; the version of it.
fn head(cursor: &mut Cursor<'_>) -> Option<u16> {
    let version = cursor.u16()?;
    cursor.take(32)?;
    let session = cursor.vector8()?;
    let suites = cursor.vector16()?;
    let compression = cursor.vector8()?;
    let sound = session.len() <= 32
        && suites.len() >= 2
        && suites.len().is_multiple_of(2)
        && compression.contains(&0);
    sound.then_some(version)
}

/// What the extensions said.
#[derive(Default)]
struct Found {
    server_name: Option<HostName>,
    versions: Option<Vec<TlsVersion>>,
    protocols: Vec<String>,
    encrypted: bool,
}

impl Found {
    fn read(&mut self, kind: u16, body: &[u8]) -> Result<(), Refusal> {
        match kind {
            SERVER_NAME => self.server_name = Some(server_name(body)?),
            ALPN => self.protocols = protocols(body).ok_or(malformed("application protocols cut short"))?,
            SUPPORTED_VERSIONS => {
                self.versions = Some(versions(body).ok_or(malformed("supported versions cut short"))?);
            }
            ECH if body.first() != Some(&0) => {
                return Err(malformed("encrypted hello of a type that no outer one has"));
            }
            ECH | ESNI => self.encrypted = true,
            _ => {}
        }
        Ok(())
    }

    fn hello(self, version: u16) -> Result<Hello, Refusal> {
        let (lowest, highest) = match self.versions {
            // Without the extension the client names its highest version only, and a server may choose any below.
            None => (Some(TlsVersion::V1_0), legacy(version)),
            Some(versions) => (versions.iter().min().copied(), versions.iter().max().copied()),
        };
        let (Some(lowest), Some(highest)) = (lowest, highest) else {
            let detail = "client that offers no version of TLS";
            return Err(Refusal { reason: Reason::ProtocolMismatch, status: None, detail });
        };
        Ok(Hello {
            server_name: self.server_name,
            lowest,
            highest,
            application_protocols: self.protocols,
            encrypted: self.encrypted,
        })
    }
}

/// Exactly one name of type host (RFC 6066 section 3).
fn server_name(body: &[u8]) -> Result<HostName, Refusal> {
    let mut cursor = Cursor::new(body);
    let mut list = Cursor::new(cursor.vector16().filter(|_| cursor.is_empty()).unwrap_or_default());
    let (kind, name) = list.u8().zip(list.vector16()).ok_or(malformed("server name cut short"))?;
    if kind != 0 || !list.is_empty() {
        return Err(malformed("server name of another type than host, or several"));
    }
    let text = std::str::from_utf8(name).ok().and_then(|text| HostName::parse(text).ok());
    text.filter(|name| !name.is_address()).ok_or(malformed("server name that is no host name"))
}

fn protocols(body: &[u8]) -> Option<Vec<String>> {
    let mut cursor = Cursor::new(body);
    let mut list = Cursor::new(cursor.vector16().filter(|_| cursor.is_empty())?);
    let mut found = Vec::new();
    while !list.is_empty() {
        let name = list.vector8().filter(|name| !name.is_empty())?;
        if !means_nothing(name) {
            found.push(std::str::from_utf8(name).unwrap_or(UNNAMED).to_owned());
        }
    }
    Some(found)
}

fn versions(body: &[u8]) -> Option<Vec<TlsVersion>> {
    let mut cursor = Cursor::new(body);
    let list = cursor.vector8().filter(|_| cursor.is_empty())?;
    if list.is_empty() || !list.len().is_multiple_of(2) {
        return None;
    }
    let pairs = list.chunks_exact(2);
    Some(pairs.filter_map(|pair| exact(u16::from_be_bytes(pair.try_into().ok()?))).collect())
}

fn exact(version: u16) -> Option<TlsVersion> {
    match version {
        0x0301 => Some(TlsVersion::V1_0),
        0x0302 => Some(TlsVersion::V1_1),
        0x0303 => Some(TlsVersion::V1_2),
        0x0304 => Some(TlsVersion::V1_3),
        _ => None,
    }
}

/// The highest version of a client without the extension; 1.3 needs it.
fn legacy(version: u16) -> Option<TlsVersion> {
    if version > 0x0303 { Some(TlsVersion::V1_2) } else { exact(version) }
}

/// Values that clients send to keep servers used to unknown ones (RFC 8701).
fn means_nothing(name: &[u8]) -> bool {
    matches!(name, [a, b] if a == b && a & 0x0f == 0x0a)
}
