//! What a device reads of an update once it is decrypted, and the secret that opens updates.

use crate::Verdict::{self, Refused, Taken};
use boot_crypto::Key;
use sealed_image::{Kind, PackageObject, Role, RoleIndices, Update, UpdateKey, Version};

/// The payload of an update's index.
pub(crate) fn update(data: &[u8]) -> Verdict {
    let Ok(update) = Update::parse(data) else { return Refused };
    assert_eq!(update.encode(), data, "an index has one encoding");
    let kinds: Vec<Kind> = update.objects().map(|object| object.kind).collect();
    let bundle = kinds.iter().position(|kind| *kind == Kind::Bundle).expect("there is a bundle");
    assert!(bundle <= 1 && kinds[..bundle].iter().all(|kind| *kind == Kind::Stage2));
    for kind in &kinds {
        assert_eq!(kinds.iter().filter(|other| *other == kind).count(), 1, "{kind:?} twice");
    }
    // Nobody raises the floor of a role that signs nothing.
    for (role, _) in update.indices.iter() {
        assert!(role == Role::Os || kinds.iter().any(|kind| kind.role() == Some(role)), "{role:?}");
    }
    assert_eq!(update.indices.of(Role::Boot).is_some(), bundle == 1);
    Taken
}

pub(crate) fn update_seeds() -> Vec<Vec<u8>> {
    let digests: [[u8; 32]; 5] = core::array::from_fn(|i| [i as u8; 32]);
    let kinds = [Kind::Stage2, Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs];
    let objects: Vec<_> = kinds
        .into_iter()
        .zip(&digests)
        .map(|(kind, manifest_digest)| PackageObject { kind, manifest_digest })
        .collect();
    let mut both = RoleIndices::default();
    both.set(Role::Os, 5);
    let os = both;
    both.set(Role::Boot, 4);
    [
        Update::new("demo", Version::new(1, 0, 0), both, &objects),
        Update::new("demo-2", Version::MIN, os, &objects[1..4]),
    ]
    .map(|update| update.expect("it is sound").encode())
    .to_vec()
}

/// A secret object, which may hold the update key of a product.
pub(crate) fn update_key(data: &[u8]) -> Verdict {
    let Some(key) = UpdateKey::parse(data) else { return Refused };
    assert_eq!(key.encode()[..], *data, "an update key has one encoding");
    assert!(!format!("{key:?}").contains("key:"), "it is shown");
    assert_ne!(key.sealing_key().expose(), key.key().expose());
    Taken
}

pub(crate) fn update_key_seeds() -> Vec<Vec<u8>> {
    let key = Key::new([0x7E; 32]);
    ["demo", "x"]
        .map(|product| UpdateKey::new(product, &key).expect("it is sound").encode().to_vec())
        .to_vec()
}
