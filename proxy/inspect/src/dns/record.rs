//! Types of records by number and name (IANA's registry of DNS parameters).

use std::borrow::Cow;

/// The class of the Internet.
pub const IN: u16 = 1;
/// An IPv4 address.
pub const A: u16 = 1;
/// A name server.
pub const NS: u16 = 2;
/// An alias.
pub const CNAME: u16 = 5;
/// The begin of a zone.
pub const SOA: u16 = 6;
/// A name for an address.
pub const PTR: u16 = 12;
/// Who takes mail.
pub const MX: u16 = 15;
/// Text.
pub const TXT: u16 = 16;
/// An IPv6 address.
pub const AAAA: u16 = 28;
/// Where a service is (RFC 2782).
pub const SRV: u16 = 33;
/// Options of the message itself (RFC 6891).
pub(super) const OPT: u16 = 41;
/// A signature (RFC 4034).
pub(super) const RRSIG: u16 = 46;
/// Where and how a service is (RFC 9460).
pub const SVCB: u16 = 64;
/// The same for HTTPS.
pub const HTTPS: u16 = 65;
/// What changed in a zone (RFC 1995).
pub const IXFR: u16 = 251;
/// A whole zone (RFC 5936).
pub const AXFR: u16 = 252;
/// Records of any type (RFC 8482).
pub const ANY: u16 = 255;

const NAMES: [(u16, &str); 26] = [
    (A, "A"),
    (NS, "NS"),
    (CNAME, "CNAME"),
    (SOA, "SOA"),
    (10, "NULL"),
    (PTR, "PTR"),
    (13, "HINFO"),
    (MX, "MX"),
    (TXT, "TXT"),
    (AAAA, "AAAA"),
    (29, "LOC"),
    (SRV, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (43, "DS"),
    (44, "SSHFP"),
    (RRSIG, "RRSIG"),
    (47, "NSEC"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (SVCB, "SVCB"),
    (HTTPS, "HTTPS"),
    (IXFR, "IXFR"),
    (AXFR, "AXFR"),
    (ANY, "ANY"),
    (257, "CAA"),
];

/// The name of a type; `TYPE` and its number where it has none here (RFC 3597 section 5).
pub fn record_text(record: u16) -> Cow<'static, str> {
    match NAMES.iter().find(|(number, _)| *number == record) {
        Some((_, name)) => Cow::Borrowed(*name),
        None => Cow::Owned(format!("TYPE{record}")),
    }
}

/// True for questions that are answered by any number of messages.
pub fn is_transfer(record: u16) -> bool {
    matches!(record, AXFR | IXFR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_written_by_name_or_by_number() {
        assert_eq!(record_text(HTTPS), "HTTPS");
        assert_eq!(record_text(65_280), "TYPE65280");
        assert!(NAMES.is_sorted_by_key(|(number, _)| *number));
    }
}
