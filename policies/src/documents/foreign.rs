//! What holds in formats of others where they say something that we do not know.
//!
//! The rule of ClusterNetworkPolicy, for all of them: an allow that cannot be understood matches nothing, a deny or
//! pass that cannot be understood denies all. A warning says so each time.

use crate::diagnostics::{Report, quoted};
use crate::model::{Peer, Peers, Ports, Rule, RuleAction};
use crate::yaml::Fields;

/// Warns of every field that was not asked for and sets the flag if there is one.
pub(super) fn finish(report: &mut Report, fields: Fields<'_>, unknown: &mut bool) {
    for entry in fields.unknown() {
        *unknown = true;
        report
            .warning("unknown-field", entry.key_span, format!("field {} is unknown", quoted(&entry.key)))
            .label("not understood")
            .help("an allow with it matches nothing, a deny or pass with it denies all: remove the field or correct its name");
    }
}

/// The rule, with what holds where part of it was not understood.
pub(super) fn close(mut rule: Rule, unknown: bool) -> Rule {
    if !unknown {
        return rule;
    }
    match rule.action {
        RuleAction::Allow => {
            rule.peers = Peers::These(vec![Peer::Unknown("a field that is not understood".to_owned())]);
        }
        RuleAction::Deny | RuleAction::Pass => {
            rule.action = RuleAction::Deny;
            rule.peers = Peers::Any;
            rule.ports = Ports::Any;
            rule.l7 = None;
        }
    }
    rule
}
