//! Affinity levels: which cores lie below one node of the power tree.

/// The affinity fields that name a node, by its level: a core (0), a cluster (1), and so on.
const NODE_FIELDS: [u64; 4] =
    [0x0000_00FF_00FF_FFFF, 0x0000_00FF_00FF_FF00, 0x0000_00FF_00FF_0000, 0x0000_00FF_0000_0000];

/// Tells whether two cores lie below the same node of a level; the fields below the level do not count.
/// False for levels that do not exist.
pub(super) fn shares_node(one: u64, other: u64, level: u32) -> bool {
    usize::try_from(level)
        .ok()
        .and_then(|level| NODE_FIELDS.get(level))
        .is_some_and(|fields| (one ^ other) & fields == 0)
}
