//! What a rule asks of header fields.
//!
//! Every instance of a field is looked at on its own; nothing is joined (CVE-2026-26308, CVE-2020-25017). An
//! allow or a pass needs every instance to match, a deny needs one, or one member of one that is a list
//! (CVE-2024-10006): a server may read either. CGI and its kin read `x_role` and `x-role` as one name
//! (CVE-2026-33433), so a field whose name is a rule's only to them keeps an allow or a pass from matching, and is
//! one more instance to a deny.

use crate::model::{HeaderMatch, HeaderValueMatch};
use bulkhead_facts::{Effect, HeaderField};

/// True if all requirements hold for a rule of this effect (`None` is pass).
pub(super) fn headers_match(
    requirements: &[HeaderMatch],
    fields: &[HeaderField<'_>],
    effect: Option<Effect>,
) -> bool {
    requirements.iter().all(|requirement| holds(requirement, fields, effect))
}

/// True if a request asks to become a WebSocket (RFC 6455 section 4.1) as wanted. What only some servers read as such
/// a request is neither for an allow or a pass, and both for a deny.
pub(crate) fn websocket_matches(
    wanted: Option<bool>,
    fields: &[HeaderField<'_>],
    effect: Option<Effect>,
) -> bool {
    let Some(wanted) = wanted else { return true };
    let mut values = fields.iter().filter(|f| f.name.eq_ignore_ascii_case(b"upgrade")).map(|f| f.value);
    let is_websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    let certain = values.clone().next().is_some() && values.clone().all(is_websocket);
    let possible =
        values.any(|value| value.split(|b| *b == b',').any(|item| is_websocket(item.trim_ascii())));
    match (effect, wanted) {
        (Some(Effect::Deny), true) => possible,
        (Some(Effect::Deny), false) => !certain,
        (Some(Effect::Allow) | None, true) => certain,
        (Some(Effect::Allow) | None, false) => !possible,
    }
}

fn holds(requirement: &HeaderMatch, fields: &[HeaderField<'_>], effect: Option<Effect>) -> bool {
    let name = requirement.name.as_bytes();
    let is_named = |field: &&HeaderField<'_>| field.name.eq_ignore_ascii_case(name);
    if effect != Some(Effect::Deny) && fields.iter().any(|f| folds_to(f.name, name) && !is_named(&f)) {
        return false;
    }
    let mut values = fields.iter().filter(|f| folds_to(f.name, name)).map(|f| f.value);
    match &requirement.value {
        HeaderValueMatch::Present => values.next().is_some(),
        HeaderValueMatch::Absent => !fields.iter().any(|field| is_named(&field)),
        HeaderValueMatch::Exact(text) => quantified(values, effect, |value| value == text.as_bytes()),
        HeaderValueMatch::Prefix(text) => {
            quantified(values, effect, |value| value.starts_with(text.as_bytes()))
        }
    }
}

/// True if servers that make a variable of each field make the same of both names.
fn folds_to(name: &[u8], other: &[u8]) -> bool {
    let folded = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.iter().map(folded).eq(other.iter().map(folded))
}

fn quantified<'a>(
    mut values: impl Iterator<Item = &'a [u8]>,
    effect: Option<Effect>,
    matches: impl Fn(&[u8]) -> bool,
) -> bool {
    match effect {
        Some(Effect::Deny) => values.any(|value| {
            matches(value) || value.split(|b| *b == b',').any(|item| matches(item.trim_ascii()))
        }),
        Some(Effect::Allow) | None => values.next().is_some_and(&matches) && values.all(matches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: HeaderValueMatch, sent: &[(&str, &str)], effect: Option<Effect>) -> bool {
        let fields: Vec<_> = sent
            .iter()
            .map(|(name, value)| HeaderField { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        headers_match(&[HeaderMatch { name: "x-role".into(), value }], &fields, effect)
    }

    #[test]
    fn a_deny_matches_if_one_of_several_values_does() {
        let admin = || HeaderValueMatch::Exact("admin".into());
        let mixed = [("x-role", "user"), ("X-ROLE", "admin")];
        assert!(check(admin(), &mixed, Some(Effect::Deny)));
        assert!(!check(admin(), &mixed, Some(Effect::Allow)));
        assert!(!check(admin(), &mixed, None));
    }

    #[test]
    fn an_allow_matches_only_if_a_value_is_there_and_all_match() {
        let prefix = || HeaderValueMatch::Prefix("ad".into());
        assert!(!check(prefix(), &[], Some(Effect::Allow)));
        assert!(check(prefix(), &[("X-Role", "admin"), ("x-role", "ad")], Some(Effect::Allow)));
    }

    #[test]
    fn a_list_matches_a_deny_by_one_member_and_an_allow_only_as_a_whole() {
        let user = || HeaderValueMatch::Exact("user".into());
        for list in ["user, admin", "admin,user", "admin ,\tuser ,x"] {
            assert!(!check(user(), &[("x-role", list)], Some(Effect::Allow)), "{list}");
            assert!(check(user(), &[("x-role", list)], Some(Effect::Deny)), "{list}");
        }
        assert!(!check(user(), &[("x-role", "users, superuser")], Some(Effect::Deny)));
    }

    #[test]
    fn a_websocket_in_doubt_is_neither_allowed_nor_missed_by_a_deny() {
        let check = |sent: &[&str], wanted, effect| {
            let fields: Vec<_> =
                sent.iter().map(|value| HeaderField { name: b"Upgrade", value: value.as_bytes() }).collect();
            websocket_matches(Some(wanted), &fields, effect)
        };
        let (allow, deny) = (Some(Effect::Allow), Some(Effect::Deny));
        for effect in [allow, deny, None] {
            assert!(check(&["WebSocket"], true, effect) && !check(&["websocket"], false, effect));
            assert!(check(&[], false, effect) && !check(&[], true, effect));
            assert!(check(&["h2c"], false, effect) && !check(&["h2c"], true, effect));
        }
        for doubtful in [&["h2c, websocket"][..], &["websocket", "h2c"]] {
            assert!(!check(doubtful, true, allow) && !check(doubtful, false, allow));
            assert!(check(doubtful, true, deny) && check(doubtful, false, deny));
        }
    }

    #[test]
    fn a_name_that_is_the_same_only_to_some_servers_allows_nothing_and_is_denied() {
        use HeaderValueMatch::{Absent, Exact, Prefix, Present};
        let (allow, deny) = (Some(Effect::Allow), Some(Effect::Deny));
        for sent in [&[("X_Role", "admin")][..], &[("x-role", "admin"), ("x_role", "admin")]] {
            for value in [Exact("admin".into()), Prefix("adm".into()), Present] {
                assert!(!check(value.clone(), sent, allow) && !check(value.clone(), sent, None));
                assert!(check(value, sent, deny), "{sent:?}");
            }
            assert!(!check(Absent, sent, allow) && !check(Absent, sent, None), "{sent:?}");
        }
        assert!(check(Exact("admin".into()), &[("x-role", "user"), ("x_role", "admin")], deny));
        assert!(check(Absent, &[("x_role", "")], deny), "to most servers it is absent");
        assert!(check(Exact("admin".into()), &[("x-role", "admin"), ("x_rolex", "user")], allow));
    }

    #[test]
    fn present_and_absent_ignore_the_value() {
        assert!(check(HeaderValueMatch::Present, &[("x-role", "")], Some(Effect::Allow)));
        assert!(!check(HeaderValueMatch::Absent, &[("X-Role", "")], Some(Effect::Deny)));
        assert!(check(HeaderValueMatch::Absent, &[("x-rolex", "")], Some(Effect::Allow)));
    }
}
