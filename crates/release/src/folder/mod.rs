//! A release folder: a package, and all that somebody needs who is not to take it on trust.
//!
//! ```text
//!  release.cose            what the owner's role `provision` signs: every file below with its SHA-256
//!  SHA256SUMS              the same for `sha256sum -c`; not signed
//!  package/                what the factory gets: see PackageRelease::write
//!  manifests/KIND.cose     the signed manifest of each image, as it lies in the image
//!  keys/*.pub.pem          owner root and role `provision`, for other people's tools
//!  content-key.sealed      the content key, sealed to the authority that kiln.toml names: see `sealed_key`
//!  update/                 the update image, and what is known of it without a key, where kiln.toml has [update]: see `update`
//!  sbom.cdx.json           CycloneDX 1.6: stages, payloads, the crates that the stages are built from
//!  provenance.intoto.json  in-toto statement with SLSA provenance, in a signed DSSE envelope
//!  RELEASE-NOTES.md        for people
//! ```
//!
//! # Threats
//! *Who can write the folder* after it was made changes, removes or adds files, swaps in those of another release, or
//! signs all of it anew with keys of their own. So a verifier is told the owner root from elsewhere and takes nothing
//! from the folder before the chain from that root to `release.cose` holds; then every file must be listed with its
//! SHA-256, and every file listed must be there. Files are read once and judged as they were read. Links, and names
//! that leave the folder, are refused wherever they stand.
//!
//! *Whoever reads the folder* gets everything but the content key, which is in it sealed to the authority or not at all, and
//! the update key, which is in it only inside of the package:
//! what is encrypted stays so. The digests of the
//! payloads in the clear are no secret, manifests have them on every device.
//!
//! *A failure on the way* must not look like a release: all is made in a folder next to the place, verified there as
//! anybody else would, and moved there at the end. Nothing is ever written over.

mod config;
mod draft;
mod dsse;
mod make;
mod manifest;
mod provenance;
mod sbom;
mod sums;
mod update;
mod update_config;
mod verify;

pub use config::{BundleConfig, OwnerConfig, PayloadConfig, PayloadKind, ReleaseConfig, StagesConfig};
pub(crate) use dsse::inspect as inspect_envelope;
pub use make::{MadeRelease, ReleasePlaces, make_release};
pub(crate) use manifest::MANIFEST;
pub(crate) use manifest::inspect as inspect_manifest;
pub(crate) use manifest::verify_by as verify_manifest;
pub use manifest::{ReleaseFile, ReleaseManifest};
pub(crate) use provenance::PROVENANCE;
pub use sbom::CrateInfo;
pub(crate) use sbom::SBOM;
pub(crate) use sbom::inspect as inspect_bill;
pub(crate) use sums::SUMS;
pub use update_config::UpdateConfig;
pub use verify::{Check, OpeningKeys, VerifiedRelease, read_root, read_root_key, verify_release};

use crate::{Error, inspect_slot};
use sealed_image::Kind;
use sealed_image::host::Inspected;

/// The folder of the package.
pub const PACKAGE: &str = "package";
/// The images of a package, by their names in the folder, and what each begins with.
const IMAGES: [(&str, Kind); 2] =
    [("package/stage1.img", Kind::Stage1), ("package/package.img", Kind::Package)];
/// The public key of the owner root.
const ROOT_KEY: &str = "keys/owner-root.pub.pem";
/// The public key of the role that signs release manifest and provenance.
const ROLE_KEY: &str = "keys/provision.pub.pem";
/// The content key, sealed to the authority.
pub const SEALED_KEY: &str = "content-key.sealed";
/// The folder of the update.
pub const UPDATE: &str = "update";
/// The update image.
const UPDATE_IMAGE: &str = "update/update.img";
/// What is known of the update image without a key.
const UPDATE_FACTS: &str = "update/update.json";
/// The notes.
const NOTES: &str = "RELEASE-NOTES.md";

/// Cuts the signed manifest out of each image of a slot, with the name of its file in the folder.
fn signed_manifests(slot: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut secrets = 0;
    let infos = inspect_slot(slot)?;
    infos
        .iter()
        .map(|info| {
            let offset = info.offset;
            let image = slot.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
            let inspected = Inspected::of(image).map_err(|error| Error::Image { offset, error })?;
            let mut name = info.kind.name().to_owned();
            if info.kind == Kind::Secret {
                secrets += 1;
                name = format!("{name}-{secrets}");
            }
            Ok((format!("manifests/{name}.cose"), inspected.signed_manifest.to_vec()))
        })
        .collect()
}
