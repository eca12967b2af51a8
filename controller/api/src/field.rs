//! Readers of single fields: each answers with a checked value or names the field that is wrong.

use crate::InvalidMessage;
use crate::limits::NAME_BYTES_MAX;
use crate::v1;
use bulkhead_facts::{Direction, Effect, L4Protocol, Mode, NamePattern, Reason, Tier};
use std::net::IpAddr;

type Checked<T> = Result<T, InvalidMessage>;

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Checked<T> {
    value.ok_or(InvalidMessage::Missing(field))
}

pub(crate) fn text(field: &'static str, value: String, bytes_max: usize) -> Checked<String> {
    if value.len() > bytes_max {
        return Err(InvalidMessage::BadLength { field, length: value.len() });
    }
    Ok(value)
}

pub(crate) fn name(field: &'static str, value: String) -> Checked<String> {
    if value.is_empty() {
        return Err(InvalidMessage::Missing(field));
    }
    text(field, value, NAME_BYTES_MAX)
}

pub(crate) fn name_pattern(field: &'static str, value: String) -> Checked<NamePattern> {
    NamePattern::parse(&value).map_err(|e| InvalidMessage::unreadable(field, &value, e))
}

pub(crate) fn direction(field: &'static str, value: i32) -> Checked<Direction> {
    match v1::DirectionKind::try_from(value) {
        Ok(v1::DirectionKind::Ingress) => Ok(Direction::Ingress),
        Ok(v1::DirectionKind::Egress) => Ok(Direction::Egress),
        Ok(v1::DirectionKind::DirectionUnspecified) => Err(InvalidMessage::Missing(field)),
        Err(_) => Err(InvalidMessage::unknown(field, value)),
    }
}

pub(crate) fn direction_kind(direction: Direction) -> v1::DirectionKind {
    match direction {
        Direction::Ingress => v1::DirectionKind::Ingress,
        Direction::Egress => v1::DirectionKind::Egress,
    }
}

/// Allow, deny, or nothing said.
pub(crate) fn effect_or_none(field: &'static str, value: i32) -> Checked<Option<Effect>> {
    match v1::EffectKind::try_from(value) {
        Ok(v1::EffectKind::Allow) => Ok(Some(Effect::Allow)),
        Ok(v1::EffectKind::Deny) => Ok(Some(Effect::Deny)),
        Ok(v1::EffectKind::EffectUnspecified) => Ok(None),
        Err(_) => Err(InvalidMessage::unknown(field, value)),
    }
}

pub(crate) fn effect(field: &'static str, value: i32) -> Checked<Effect> {
    required(field, effect_or_none(field, value)?)
}

pub(crate) fn effect_kind(effect: Effect) -> v1::EffectKind {
    match effect {
        Effect::Allow => v1::EffectKind::Allow,
        Effect::Deny => v1::EffectKind::Deny,
    }
}

/// The newer word where it is known here, else the one that everybody knows.
pub(crate) fn reason(field: &'static str, value: &str, newer: &str) -> Checked<Reason> {
    let newer = Reason::parse(newer);
    newer.or_else(|| Reason::parse(value)).ok_or_else(|| InvalidMessage::unknown(field, value))
}

/// The word that everybody knows, and the newer one where there is one.
pub(crate) fn reason_words(reason: Reason, effect: Effect) -> [String; 2] {
    let known = match (reason, effect) {
        (Reason::EndpointsDiffer, Effect::Allow) => Reason::AllowedByRule,
        (Reason::EndpointsDiffer, Effect::Deny) => Reason::NoRule,
        (Reason::NameMismatch | Reason::NameHidden, _) => Reason::NameUnknown,
        (known, _) => known,
    };
    let newer = if known == reason { "" } else { reason.as_str() };
    [known.as_str().to_owned(), newer.to_owned()]
}

pub(crate) fn mode(field: &'static str, value: &str) -> Checked<Mode> {
    Mode::parse(value).ok_or_else(|| InvalidMessage::unknown(field, value))
}

pub(crate) fn tier(field: &'static str, value: &str) -> Checked<Tier> {
    const ALL: [Tier; 5] =
        [Tier::Admin, Tier::Infrastructure, Tier::Namespace, Tier::Baseline, Tier::Default];
    ALL.into_iter().find(|t| t.as_str() == value).ok_or_else(|| InvalidMessage::unknown(field, value))
}

pub(crate) fn narrow<T: TryFrom<u32>>(field: &'static str, value: u32) -> Checked<T> {
    T::try_from(value).map_err(|_| InvalidMessage::OutOfRange { field, value: u64::from(value) })
}

pub(crate) fn protocol(field: &'static str, value: u32) -> Checked<L4Protocol> {
    narrow(field, value).map(L4Protocol)
}

/// 4 bytes for IPv4, 16 for IPv6; IPv4-mapped addresses are folded.
pub(crate) fn address(field: &'static str, bytes: &[u8]) -> Checked<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(v4));
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => Ok(IpAddr::from(v6).to_canonical()),
        Err(_) => Err(InvalidMessage::BadLength { field, length: bytes.len() }),
    }
}

pub(crate) fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
