//! Options that say nothing about what is verified.
//!
//! # Threats
//! Whoever gives `--floor` or `--revoked` believes that the answer was given with it. An option that cannot count is refused, so
//! that no answer looks stricter than it was.

use super::Means;
use crate::artefact::Artefact;
use crate::{Error, Floors};
use factory_proto::Message;
use sealed_image::Kind;

/// Tells whether a development die reads such an artefact: it is never provisioned, so it has no authority, no package, and no
/// update.
fn read_by_development_dies(artefact: Artefact) -> bool {
    use Artefact::{Images, Message, ReleaseManifest};
    !matches!(
        artefact,
        ReleaseManifest | Message(_) | Images(Kind::Stage1 | Kind::Package | Kind::Secret | Kind::Update)
    )
}

impl Means {
    /// Refuses what is given and does not count for this artefact.
    pub(super) fn refuse_unused(&self, artefact: Artefact) -> Result<(), Error> {
        use Artefact::{Flash, Fuses, Images, Manifest, ReleaseManifest};
        let die = matches!(artefact, Fuses | Flash);
        let (image, update) = (matches!(artefact, Images(_)), artefact == Images(Kind::Update));
        let indexed = image || matches!(artefact, Manifest | ReleaseManifest);
        let used = [
            ("--revoked", self.revoked.is_empty() || !die),
            ("--floor", self.floors == Floors::default() || indexed),
            ("--development", !self.development || read_by_development_dies(artefact)),
            ("--key", self.key.is_none() || image && !update),
            ("--update-key", self.update_key.is_none() || update),
            ("--delegation", self.delegation.is_none() || artefact == Manifest),
            ("--request", self.request.is_none() || artefact == Artefact::Message(Message::Ticket)),
            ("--package", self.package.is_none() || artefact == Fuses),
        ];
        match used.into_iter().find(|(_, used)| !used) {
            Some((option, _)) => Err(Error::OptionUnused { option, what: artefact.name() }),
            None => Ok(()),
        }
    }

    /// Refuses what is given and does not count for a package's folder: dies of a lot are production dies.
    pub(super) fn refuse_unused_for_package(&self) -> Result<(), Error> {
        let given = [
            ("--development", self.development),
            ("--as", self.expected.is_some()),
            ("--update-key", self.update_key.is_some()),
            ("--delegation", self.delegation.is_some()),
            ("--request", self.request.is_some()),
            ("--package", self.package.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::OptionUnused { option, what: "package" }),
            None => Ok(()),
        }
    }
}
