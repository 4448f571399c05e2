//! The tree that the kernel gets.
//!
//! # Threat
//! *A fault while the tree is filled in*, behind the last look at what goes into it: the kernel would take a part of the command line, or
//! what an attacker has left in RAM for its initramfs, or a tree that others read otherwise. So it is made twice, from what
//! each look has found and in memory of its own, and both have to be the same; it is put into its place last of all.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZero;

use boot_crypto::equal;
use fail_code::FailCode;
use memory_map::Region;
use memory_map::qemu_virt::DTB_ROOM;
use sealed_image::plain_digest;
use zeroize::Zeroizing;

use super::{DeviceTreeError, FixUps, fix_up};
use crate::held::{Held, WHOLE};

/// How many bytes filling in adds at most.
const ADDED: usize = 64 * 1024;

/// What lies behind a tree while it is put into its place.
const GUARD: [u8; 16] = [0xA5; 16];

/// A finished tree, which is not in its place yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Finished {
    bytes: Zeroizing<Vec<u8>>,
    held: Held,
}

impl Finished {
    /// Returns where it has to lie, and what it has to be.
    pub const fn held(&self) -> &Held {
        &self.held
    }

    /// Puts it into its place in `memory`, which starts at `window`'s base, and returns the address of the memory that it lies in then:
    /// whoever does not come here has none to tell the kernel.
    ///
    /// # Errors
    /// `None` if it is not there then, or if more was copied: after a fault alone.
    #[inline(never)]
    pub fn put(&self, memory: &mut [u8], window: Region) -> Option<NonZero<u64>> {
        let start = self.held.place.base.checked_sub(window.base)?;
        let place = memory.get_mut(usize::try_from(start).ok()?..)?;
        let (place, behind) = place.split_at_mut_checked(self.bytes.len())?;
        let guard = behind.first_chunk_mut()?;
        *guard = GUARD;
        place.iter_mut().zip(self.bytes.iter()).for_each(|(to, from)| *to = *from);
        let no_more = equal(guard, &GUARD);
        *guard = [0; GUARD.len()];
        let address = NonZero::new(place.as_ptr().addr() as u64);
        if self.held.is_in(memory, window).and(no_more).accepts() { address } else { None }
    }
}

/// Its bytes hold seeds of random numbers.
impl fmt::Debug for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finished").field("place", &self.held.place).finish_non_exhaustive()
    }
}

/// Fills in the verified tree at the start of `tree`, as each of two looks has found it: neither is made in its place.
///
/// # Errors
/// The code of a [`DeviceTreeError`], and [`FailCode::LooksDiffer`] if the tree is not the one that was `signed`, or comes out
/// otherwise the second time.
pub fn finish(tree: &[u8], signed: &Held, [first, second]: [&FixUps<'_>; 2]) -> Result<Finished, FailCode> {
    let expected = filled(tree, signed, first)?;
    let made = filled(tree, signed, second)?;
    let same = equal(&expected.held.digest, &made.held.digest);
    if cfg!(feature = "control-one-look") || same.accepts() {
        // What is put into its place is one of them, and what it has to be the other.
        Ok(Finished { bytes: made.bytes, held: expected.held })
    } else {
        Err(FailCode::LooksDiffer)
    }
}

/// Fills in a copy of a tree.
#[inline(never)]
fn filled(tree: &[u8], signed: &Held, fix_ups: &FixUps<'_>) -> Result<Finished, FailCode> {
    let length = signed.place.size as usize;
    let mut bytes = Zeroizing::new(vec![0; length + ADDED]);
    bytes.iter_mut().zip(tree.iter().take(length)).for_each(|(to, from)| *to = *from);
    let copy = Held { place: Region::new(0, signed.place.size), ..*signed };
    if !copy.is_in(&bytes, Region::new(0, bytes.len() as u64)).accepts() {
        return Err(FailCode::LooksDiffer);
    }
    let length = fix_up(&mut bytes, length, fix_ups).map_err(|error| error.code())?;
    if (length + GUARD.len()) as u64 > DTB_ROOM {
        return Err(DeviceTreeError::Full.code());
    }
    bytes.truncate(length);
    let place = Region::new(signed.place.base, length as u64);
    let held = Held { place, chunk_size: WHOLE, digest: plain_digest(&bytes, WHOLE) };
    Ok(Finished { bytes, held })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_what_it_has_to_be_in_its_place_is_told_to_nobody() {
        let (right, window) = ([1, 2, 3, 4], Region::new(0x4800_0000, 64));
        let place = Region::new(window.base, right.len() as u64);
        let held = Held { place, chunk_size: WHOLE, digest: plain_digest(&right, WHOLE) };
        for (bytes, is_told) in [(&right[..], true), (&[1, 2, 3, 5], false), (&[1, 2, 3], false)] {
            let tree = Finished { bytes: Zeroizing::new(bytes.to_vec()), held };
            assert_eq!(tree.put(&mut [0xEE; 64], window).is_some(), is_told, "{bytes:?}");
        }
    }
}
