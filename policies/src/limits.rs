//! Limits of this crate, each with what happens when it is reached.

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
