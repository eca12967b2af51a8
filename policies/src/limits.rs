//! Limits of this crate, each with what happens when it is reached.
//!
//! They are part of the programs: whoever needs more changes the number here and builds controller, command line and sidecars
//! anew. Every message about one says its name.

/// What to do where a limit is reached.
pub fn help(limit: &'static str, instead: &str) -> String {
    format!("{instead}, or raise `{limit}` in policies/src/limits.rs and build anew")
}

/// Bytes of one source of policies. Larger: refused; split the file.
pub const POLICY_SOURCE_BYTES_MAX: usize = 16 << 20;
/// Bytes of one source of inventory (`kubectl get … -o yaml` of a large cluster). Larger: refused; split it.
pub const INVENTORY_SOURCE_BYTES_MAX: usize = 512 << 20;
/// Documents in one source. More: refused; split the file.
pub const DOCUMENTS_MAX: usize = 100_000;
/// Nesting of lists and mappings, aliases counted as what they stand for. Deeper: refused.
pub const DEPTH_MAX: usize = 64;
/// Nodes that aliases of one source may stand for in sum. More: refused; write them out.
pub const ALIAS_NODES_MAX: usize = 10_000;
/// Diagnostics kept per source and severity. More: dropped; the source is refused all the same.
pub const DIAGNOSTICS_MAX: usize = 200;
/// Characters of input quoted in a message. More: cut.
pub const QUOTE_CHARS_MAX: usize = 80;
/// Rules of one policy and direction. More: refused; split the policy.
pub const RULES_MAX: usize = 2_000;
/// Peers, ports or requests named by one rule. More: refused; split the rule.
pub const RULE_ITEMS_MAX: usize = 2_000;
/// Requirements of one selector, and values of one requirement. More: refused.
pub const SELECTOR_ITEMS_MAX: usize = 500;
/// Hosts, methods or header requirements of one kind of request. More: refused.
pub const REQUEST_ITEMS_MAX: usize = 100;
/// Bytes of a header value or prefix in a rule. Longer: refused.
pub const HEADER_VALUE_BYTES_MAX: usize = 4_096;

/// Rules of all policies that apply to one workload, both directions together. More: the workload's program is
/// refused and the last good one stays; join rules or split the workload.
pub const RULES_PER_WORKLOAD_MAX: usize = 200_000;
/// Pairs of answers of one program: what 16 bits of the connection mark can name. More: refused likewise.
pub const ANSWERS_MAX: usize = 1 << 16;
/// Classes of peers of one direction of a program. More: refused likewise.
pub const CLASSES_MAX: usize = 1 << 18;
/// Address spans of one direction and family of a program. More: refused likewise.
pub const SPANS_MAX: usize = 1 << 19;
/// Port boxes of one direction of a program. More: refused likewise.
pub const BOXES_MAX: usize = 1 << 19;
/// Sets of rules by name that can meet on one address, beyond those that one name has. More: an address that more names
/// share is held by the largest set there is, which allows less.
pub const NAME_SETS_MAX: usize = 64;
/// Classes of addresses by name of one family. More: refused likewise.
pub const NAMED_CLASSES_MAX: usize = 1 << 14;
/// Endpoints that one port of a Service is led to, where not all may be reached. More: the first ones by address are used.
pub const ENDPOINTS_PER_CHOICE_MAX: usize = 256;
/// Lists of such endpoints of one program. More: refused likewise.
pub const CHOICES_MAX: usize = 1 << 14;
/// Endpoints in all these lists of one program. More: refused likewise.
pub const CHOICE_ENDPOINTS_MAX: usize = 1 << 17;
/// Layer-7 chains of one program. More: refused likewise.
pub const CHAINS_MAX: usize = 1 << 16;
/// Entries of one layer-7 chain, both versions together. More: refused likewise.
pub const CHAIN_ENTRIES_MAX: usize = 1 << 18;
/// Bytes of paths, hosts and methods of one layer-7 chain. More: refused likewise.
pub const CHAIN_TEXT_BYTES_MAX: usize = 1 << 28;
/// Kinds of requests that one comparison looks at. More: the comparison is undecided, which counts as widened and as not proven.
pub const REQUEST_KINDS_MAX: usize = 1 << 18;
/// Kinds of requests that one change lists. More: counted.
pub const KINDS_LISTED_MAX: usize = 5;
/// Stand-in addresses for pods that have none yet: those of 198.18.0.0/15. Pods beyond them stay without, and without
/// answers.
pub const LENT_ADDRESSES_MAX: u32 = (1 << 17) - 2;
