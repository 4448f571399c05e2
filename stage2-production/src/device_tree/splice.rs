//! Work on the blob itself: what `dtoolkit` does not do in place.
//!
//! A blob is header, reserved ranges, structure block, strings block, in this order (`dtoolkit` checks it).
//! Both functions take a blob that `dtoolkit` has validated.

use super::DeviceTreeError;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};

const BEGIN_NODE: [u8; 4] = 1_u32.to_be_bytes();
const END_NODE: [u8; 4] = 2_u32.to_be_bytes();

// Byte offsets of header fields.
const TOTAL_SIZE: usize = 4;
pub(super) const OFF_DT_STRINGS: usize = 12;
pub(super) const SIZE_DT_STRINGS: usize = 32;
pub(super) const SIZE_DT_STRUCT: usize = 36;

/// Opens the tree at the start of `buffer`.
pub(super) fn open(buffer: &[u8]) -> Result<Fdt<'_>, DeviceTreeError> {
    let length = field(buffer, TOTAL_SIZE)?;
    let tree = buffer.get(..length).ok_or(DeviceTreeError::Malformed)?;
    Fdt::new(tree).map_err(|_| DeviceTreeError::Malformed)
}

/// Cuts off what follows the strings block: a compiler may have padded the blob to the size of the buffer, and
/// strings are added right there. Refuses a strings block that is not one: adding a string walks all of it.
pub(super) fn trim(buffer: &mut [u8]) -> Result<(), DeviceTreeError> {
    let start = field(buffer, OFF_DT_STRINGS)?;
    let end = start.checked_add(field(buffer, SIZE_DT_STRINGS)?).ok_or(DeviceTreeError::Malformed)?;
    let strings = buffer.get(start..end).ok_or(DeviceTreeError::Malformed)?;
    if !strings.is_ascii() || strings.last().is_some_and(|last| *last != 0) {
        return Err(DeviceTreeError::Malformed);
    }
    set_field(buffer, TOTAL_SIZE, end)
}

/// Adds an empty node `name` below `parent`, unless there is one.
pub(super) fn ensure_node(
    buffer: &mut [u8],
    parent: &'static str,
    name: &str,
) -> Result<(), DeviceTreeError> {
    let tree = open(buffer)?;
    let node = tree.find_node(parent).ok_or(DeviceTreeError::NodeMissing(parent))?;
    if node.child(name).is_some() {
        return Ok(());
    }
    // Properties come before children: the new node goes right after the last of them, or after the name.
    let last = match node.properties().last() {
        Some(property) => property.value().as_ptr_range().end.addr(),
        None => node.name().as_bytes().as_ptr_range().end.addr() + 1,
    };
    let at = last
        .checked_sub(tree.data().as_ptr().addr())
        .ok_or(DeviceTreeError::Malformed)?
        .next_multiple_of(BEGIN_NODE.len());
    let old_end = tree.data().len();

    let padded_name = (name.len() + 1).next_multiple_of(BEGIN_NODE.len());
    let added = BEGIN_NODE.len() + padded_name + END_NODE.len();
    let tail = buffer.get_mut(at..old_end + added).ok_or(DeviceTreeError::Full)?;
    tail.copy_within(..old_end.saturating_sub(at), added);
    tail.iter_mut().take(added).for_each(|byte| *byte = 0);
    let bytes = BEGIN_NODE.iter().chain(name.as_bytes());
    tail.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    tail.iter_mut().skip(added - END_NODE.len()).zip(END_NODE).for_each(|(to, from)| *to = from);

    for offset in [TOTAL_SIZE, OFF_DT_STRINGS, SIZE_DT_STRUCT] {
        let value = field(buffer, offset)?;
        set_field(buffer, offset, value + added)?;
    }
    Ok(())
}

pub(super) fn field(buffer: &[u8], offset: usize) -> Result<usize, DeviceTreeError> {
    buffer
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .and_then(|bytes| usize::try_from(u32::from_be_bytes(*bytes)).ok())
        .ok_or(DeviceTreeError::Malformed)
}

fn set_field(buffer: &mut [u8], offset: usize, value: usize) -> Result<(), DeviceTreeError> {
    let field =
        buffer.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(DeviceTreeError::Malformed)?;
    *field = u32::try_from(value).map_err(|_| DeviceTreeError::Full)?.to_be_bytes();
    Ok(())
}
