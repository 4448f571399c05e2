//! The owner roots in the terms of the image verifier and of the handoff, and the refusal of test secrets.

use boot_crypto::{sha256, test_keys};
use boot_info::RootSlots;
use fail_code::FailCode;
use lifecycle::{Fuses, Lifecycle, RootSlot};
use sealed_image::Root;

/// The owner roots of the fuses.
pub(crate) struct Roots {
    /// For the verifier: slots that hold a digest.
    pub(crate) known: [Root; 4],
    /// How many of `known` count.
    pub(crate) len: usize,
    /// For the next stage.
    pub(crate) slots: RootSlots,
}

impl Roots {
    pub(crate) fn of(fuses: &Fuses) -> Self {
        let none = Root { digest: [0; 32], revoked: true };
        let mut roots = Self { known: [none; 4], len: 0, slots: RootSlots::default() };
        let places = fuses.roots().iter().zip(&mut roots.slots.digests).zip(0u8..);
        for ((slot, fused), number) in places {
            let (digest, revoked) = match slot {
                RootSlot::Empty => continue,
                RootSlot::Active(digest) => (Some(*digest), false),
                RootSlot::Revoked(digest) => (*digest, true),
            };
            let bit = 1 << (number & 7);
            roots.slots.valid |= if revoked { 0 } else { bit };
            roots.slots.revoked |= if revoked { bit } else { 0 };
            if let Some(digest) = digest {
                *fused = digest;
                if let Some(place) = roots.known.get_mut(roots.len) {
                    *place = Root { digest, revoked };
                    roots.len += 1;
                }
            }
        }
        roots
    }

    pub(crate) fn known(&self) -> &[Root] {
        self.known.get(..self.len).unwrap_or_default()
    }
}

/// Refuses a die that is no development die and yet holds published secrets (CVE-2024-8105 is what happens
/// otherwise).
pub(crate) fn refuse_test_secrets(fuses: &Fuses) -> Result<(), FailCode> {
    if fuses.lifecycle() == Lifecycle::Development {
        return Ok(());
    }
    let seed = fuses.device_seed().map(|key| sha256(key.expose()));
    let silicon = sha256(fuses.silicon_secret().expose());
    let provisioning = fuses.provisioning_key().map(|key| sha256(key.expose()));
    let secrets = [Some(silicon), seed, provisioning];
    let roots = fuses.roots().iter().map(|slot| match slot {
        RootSlot::Active(digest) => Some(*digest),
        RootSlot::Empty | RootSlot::Revoked(_) => None,
    });
    let published = |digest: &[u8; 32]| test_keys::contains(digest);
    if secrets.iter().flatten().any(published) || roots.flatten().any(|digest| published(&digest)) {
        return Err(FailCode::TestKey);
    }
    Ok(())
}
