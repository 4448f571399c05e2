//! The signed tree's structure block, walked strictly before any library edits it (Devicetree Specification 0.4,
//! section 5.4).
//!
//! # Threat
//! *A tree that is signed, but odd.* Two libraries read it, and where a tag, a name or a length is not quite what the
//! specification says, one of them panics: that would cost the boot instead of the slot. So what they get here is one
//! root node, tags in order to an end tag that is the last word of the block, and names of printable ASCII.
//!
//! *A property that is there twice.* One reader takes the first, another the last. So a node has each property once, and
//! all of them before its children.

use super::DeviceTreeError;
use super::splice::{OFF_DT_STRINGS, SIZE_DT_STRINGS, SIZE_DT_STRUCT, field};

const OFF_DT_STRUCT: usize = 8;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The deepest tree that is taken.
const MAX_DEPTH: usize = 16;

/// Checks the blob; of its header only that it is there was checked before.
pub(super) fn check(blob: &[u8]) -> Result<(), DeviceTreeError> {
    walk(blob).ok_or(DeviceTreeError::Malformed)
}

fn walk(blob: &[u8]) -> Option<()> {
    let part = |offset, size| {
        let start = field(blob, offset).ok()?;
        blob.get(start..start.checked_add(field(blob, size).ok()?)?)
    };
    let strings = part(OFF_DT_STRINGS, SIZE_DT_STRINGS)?;
    let start = field(blob, OFF_DT_STRUCT).ok()?;
    let mut rest = Words(part(OFF_DT_STRUCT, SIZE_DT_STRUCT)?);
    if !start.is_multiple_of(4) || start.checked_add(rest.0.len())? > field(blob, OFF_DT_STRINGS).ok()? {
        return None;
    }
    let (mut depth, mut roots) = (0_usize, 0);
    // Where the properties of the node begin that is open and has no child yet.
    let mut properties = None;
    loop {
        match rest.word()? {
            NOP => {}
            BEGIN_NODE => {
                let length = rest.0.iter().position(|byte| *byte == 0)?;
                let name = rest.bytes(length.checked_add(1)?)?;
                roots += usize::from(depth == 0);
                depth = depth.checked_add(1).filter(|depth| *depth <= MAX_DEPTH)?;
                if !is_name(name.split_last()?.1) {
                    return None;
                }
                properties = Some(Words(rest.0));
            }
            PROP if depth > 0 => {
                let mut earlier = Words(properties.as_ref()?.0);
                // The tag of this one was read already.
                let here = rest.0.len().checked_add(size_of::<u32>())?;
                let name = rest.property(strings)?;
                if name.is_empty() || !is_name(name) {
                    return None;
                }
                while earlier.0.len() > here {
                    if earlier.word()? == PROP && earlier.property(strings)? == name {
                        return None;
                    }
                }
            }
            END_NODE => {
                depth = depth.checked_sub(1)?;
                properties = None;
            }
            END => return (depth == 0 && roots == 1 && rest.0.is_empty()).then_some(()),
            _ => return None,
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

/// What is left of the structure block: all in it is padded to words.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn word(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*word))
    }

    /// Reads a property behind its tag and returns its name.
    fn property(&mut self, strings: &'a [u8]) -> Option<&'a [u8]> {
        let length = usize::try_from(self.word()?).ok()?;
        let name = strings.get(usize::try_from(self.word()?).ok()?..)?;
        self.bytes(length)?;
        name.get(..name.iter().position(|byte| *byte == 0)?)
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (padded, rest) = self.0.split_at_checked(length.checked_next_multiple_of(4)?)?;
        self.0 = rest;
        padded.get(..length)
    }
}
