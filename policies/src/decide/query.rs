//! What a rule asks of the query.
//!
//! Servers disagree on queries: some split at `;`, some decode names, some compare them without case. A parameter is
//! certainly there if all of them find it, and possibly if one does; an allow or a pass takes what is certain, a deny what
//! is possible.

use crate::model::QueryMatch;
use bulkhead_facts::Effect;

/// True if all requirements hold for a rule of this effect (`None` is pass).
pub(crate) fn query_matches(wanted: &[QueryMatch], query: Option<&str>, effect: Option<Effect>) -> bool {
    let query = query.unwrap_or_default();
    wanted.iter().all(|wanted| {
        let name = wanted.name.as_bytes();
        match (effect, wanted.present) {
            (Some(Effect::Deny), true) => is_possible(query, name),
            (Some(Effect::Deny), false) => !is_certain(query, name),
            (Some(Effect::Allow) | None, true) => is_certain(query, name),
            (Some(Effect::Allow) | None, false) => !is_possible(query, name),
        }
    })
}

fn is_certain(query: &str, wanted: &[u8]) -> bool {
    let plain = |item: &str| !item.contains(';') && name_of(item).as_bytes() == wanted;
    query.split('&').any(plain)
}

fn is_possible(query: &str, wanted: &[u8]) -> bool {
    query.split(['&', ';']).any(|item| decoded(name_of(item)).eq(wanted.iter().map(u8::to_ascii_lowercase)))
}

fn name_of(item: &str) -> &str {
    item.split_once('=').map_or(item, |(name, _)| name)
}

/// The bytes of a name, percent-decoded, without surrounding white space, in lower case.
fn decoded(name: &str) -> impl Iterator<Item = u8> + '_ {
    let mut rest = name.trim_matches(['+', ' ']).as_bytes();
    std::iter::from_fn(move || {
        let (first, tail) = rest.split_first()?;
        let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (byte, used) = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or_default(), 2),
            _ => (*first, 0),
        };
        rest = tail.get(used..).unwrap_or_default();
        Some(byte.to_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_in_doubt_is_neither_allowed_nor_missed_by_a_deny() {
        let check = |query, present, effect| {
            query_matches(&[QueryMatch { name: "debug".into(), present }], query, effect)
        };
        let (allow, deny) = (Some(Effect::Allow), Some(Effect::Deny));
        for effect in [allow, deny, None] {
            for there in ["debug", "debug=1", "a=b&debug=", "a;b&debug"] {
                assert!(check(Some(there), true, effect) && !check(Some(there), false, effect), "{there}");
            }
            for absent in [None, Some(""), Some("debugs"), Some("a=debug"), Some("%64ebugs")] {
                assert!(check(absent, false, effect) && !check(absent, true, effect), "{absent:?}");
            }
        }
        for doubtful in ["%64ebug=1", "a;debug", "DEBUG=1", "+debug", "debug;a"] {
            assert!(
                !check(Some(doubtful), true, allow) && !check(Some(doubtful), false, allow),
                "{doubtful}"
            );
            assert!(check(Some(doubtful), true, deny) && check(Some(doubtful), false, deny), "{doubtful}");
        }
    }
}
