//! The update image of a release folder.

use super::manifest::ReleaseManifest;
use super::{UPDATE_FACTS, UPDATE_IMAGE, signed_manifests};
use crate::files::{self, Readers};
use crate::{Error, ImageInfo, Trusted, UpdateFacts, UpdateKey, UpdateRelease};
use sealed_image::Kind;
use std::collections::BTreeMap;
use std::path::Path;

/// Writes an update into the draft of a release, with the signed manifest of its index.
pub(super) fn put(draft: &Path, update: &UpdateRelease) -> Result<(), Error> {
    for name in [UPDATE_IMAGE, UPDATE_FACTS] {
        draft.join(name).parent().map_or(Ok(()), files::make_folder)?;
    }
    let put = |name: &str, bytes: &[u8]| files::write_new(&draft.join(name), bytes, Readers::Anyone);
    put(UPDATE_IMAGE, &update.image)?;
    put(UPDATE_FACTS, update.facts.to_json().as_bytes())?;
    // Those behind the index are the package's.
    match signed_manifests(&update.image)?.first() {
        Some((name, manifest)) => put(name, manifest),
        None => Err(Error::SlotEmpty),
    }
}

/// Tells how many files under `manifests` belong to an update alone.
pub(super) fn manifests(files: &BTreeMap<String, Vec<u8>>) -> usize {
    usize::from(files.contains_key(UPDATE_IMAGE))
}

/// Puts the update together from files that were read already; `None` if the release has none.
pub(super) fn of(files: &BTreeMap<String, Vec<u8>>) -> Result<Option<UpdateRelease>, Error> {
    let missing = |name: &str| Error::FileMissing { name: name.into() };
    let (image, facts) = match (files.get(UPDATE_IMAGE), files.get(UPDATE_FACTS)) {
        (None, None) => return Ok(None),
        (image, facts) => {
            (image.ok_or_else(|| missing(UPDATE_IMAGE))?, facts.ok_or_else(|| missing(UPDATE_FACTS))?)
        }
    };
    let facts = UpdateFacts::of_file(UPDATE_FACTS.as_ref(), facts)?;
    Ok(Some(UpdateRelease { facts, image: image.clone() }))
}

/// Checks that an update is that of this release, and brings what its package does; `package` are the images of that. Says
/// what was found.
pub(super) fn check(
    update: &UpdateRelease,
    files: &BTreeMap<String, Vec<u8>>,
    release: &ReleaseManifest,
    package: &[ImageInfo],
    trusted: &Trusted,
    key: Option<&UpdateKey>,
) -> Result<String, Error> {
    let mixed = |what| Err(Error::ReleaseMixed { what });
    let facts = &update.facts;
    let said = (facts.product.as_str(), facts.board.as_str(), facts.version);
    if said != (release.product.as_str(), release.board.as_str(), release.version) {
        return mixed("the update is of another product, board or version than the release manifest says");
    }
    if facts.indices.iter().any(|(role, index)| index != release.rollback_index.of(role)) {
        return mixed("the update has another rollback index than the release manifest says");
    }
    let images = update.check_for(trusted, key)?;
    let in_package = |image: &ImageInfo| {
        package.iter().any(|other| other.kind == image.kind && other.digest == image.digest)
    };
    if !images.iter().all(|image| image.kind == Kind::Update || in_package(image)) {
        return mixed("the update brings something else than the package");
    }
    for (name, manifest) in signed_manifests(&update.image)? {
        if files.get(&name) != Some(&manifest) {
            return mixed("a manifest is not that of its image in the update");
        }
    }
    let names: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    let indices: Vec<_> =
        facts.indices.iter().map(|(role, index)| format!("{} {index}", role.name())).collect();
    Ok(format!(
        "a device of {} takes it; rollback indices {}; signed as a device wants them: {}",
        facts.minimum_version,
        indices.join(", "),
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::SignedParts;
    use crate::{
        Compression, FlatImage, Identity, OsParts, OsPlaces, Owner, OwnerKeys, PackageParts, PackageRelease,
        UpdateParts,
    };
    use boot_crypto::Key;
    use boot_crypto::host::random;
    use fail_code::FailCode;
    use memory_map::qemu_virt::{BOARD, STAGE_RUN};
    use sealed_image::Version;

    fn stage(byte: u8) -> FlatImage {
        FlatImage { bytes: vec![byte; 5000], load: STAGE_RUN.base, entry: STAGE_RUN.base }
    }

    /// A release: what its files hold of the update, the update, and the images of its package.
    struct Released {
        files: BTreeMap<String, Vec<u8>>,
        update: UpdateRelease,
        package: Vec<ImageInfo>,
    }

    impl Released {
        fn make(owner: &Owner, identity: &Identity, kernel: u8, key: &UpdateKey) -> Self {
            let os = OsParts {
                kernel: vec![kernel; 5000],
                device_tree: vec![4; 500],
                initramfs: None,
                cmdline: "quiet".into(),
                compression: Compression::None,
                places: OsPlaces::default(),
            };
            let parts = PackageParts {
                release: "a test".into(),
                stage1: stage(1),
                stage2: stage(2),
                os,
                secrets: Vec::new(),
                provisioning_key: Key::new(random()),
            };
            let signed = SignedParts::sign(owner, identity, parts).unwrap();
            let parts = UpdateParts {
                minimum_version: Version::new(1, 0, 0),
                stage2: Some(&signed.stage2),
                os: &signed.os,
            };
            let update = UpdateRelease::make(owner, identity, &parts, key).unwrap();
            let (package, _) = PackageRelease::seal(owner, identity, signed).unwrap();
            let files = signed_manifests(&update.image).unwrap().into_iter();
            let files = files.chain([
                (UPDATE_IMAGE.to_owned(), update.image.clone()),
                (UPDATE_FACTS.to_owned(), update.facts.to_json().into_bytes()),
            ]);
            let package = crate::inspect_slot(&package.package).unwrap();
            Self { files: files.collect(), update, package }
        }
    }

    /// Everything here is the owner's, who signs the folder: this is what keeps him from releasing what does not fit.
    #[test]
    fn an_update_of_another_release_is_refused_in_a_folder_that_is_signed_with_it() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let key = UpdateKey::generate("demo", Path::new("update.key")).unwrap();
        let identity =
            Identity { board: BOARD.into(), version: Version::new(1, 2, 3), rollback_index: 4.into() };
        let sound = Released::make(&owner, &identity, 3, &key);
        let other = Released::make(&owner, &identity, 7, &key);
        let release = ReleaseManifest {
            product: "demo".into(),
            board: BOARD.into(),
            version: identity.version,
            rollback_index: 4.into(),
            files: Vec::new(),
        };
        let judge = |of: &Released, release: &ReleaseManifest, package: &[ImageInfo]| {
            let update = of_files(&of.files)?;
            check(&update, &of.files, release, package, &Trusted::root(owner.root_digest()), Some(&key))
        };
        let of_mixed = |result: Result<String, Error>| result.unwrap_err().to_string();
        judge(&sound, &release, &sound.package).unwrap();
        assert!(
            of_mixed(judge(&other, &release, &sound.package)).contains("something else than the package")
        );
        for altered in [
            ReleaseManifest { product: "other".into(), ..release.clone() },
            ReleaseManifest { version: Version::new(1, 2, 4), ..release.clone() },
            ReleaseManifest { board: "other".into(), ..release.clone() },
        ] {
            assert!(of_mixed(judge(&sound, &altered, &sound.package)).contains("another product"));
        }
        let higher = ReleaseManifest { rollback_index: 5.into(), ..release.clone() };
        assert!(of_mixed(judge(&sound, &higher, &sound.package)).contains("another rollback index"));

        for name in ["manifests/update.cose", "manifests/kernel.cose"] {
            for manifest in [other.files.get("manifests/update.cose").cloned(), None] {
                let mut files = sound.files.clone();
                match manifest {
                    Some(manifest) => drop(files.insert(name.into(), manifest)),
                    None => drop(files.remove(name)),
                }
                let altered = Released { files, update: sound.update.clone(), package: Vec::new() };
                assert!(
                    of_mixed(judge(&altered, &release, &sound.package)).contains("a manifest is not that")
                );
            }
        }
        for name in [UPDATE_IMAGE, UPDATE_FACTS] {
            let mut files = sound.files.clone();
            files.remove(name);
            let refused = of(&files).unwrap_err();
            assert_eq!(refused.code(), Some(FailCode::ReleaseFileMissing), "{name}");
        }
        assert!(of(&BTreeMap::new()).unwrap().is_none());
    }

    fn of_files(files: &BTreeMap<String, Vec<u8>>) -> Result<UpdateRelease, Error> {
        Ok(of(files)?.expect("there is an update"))
    }
}
