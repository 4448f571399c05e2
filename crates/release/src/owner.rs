//! The owner's keys, and signing with them.

use crate::keys::certificate;
use crate::{Delegation, Error, FlatImage, Limits, RollbackIndices};
use boot_crypto::Digest;
use sealed_image::host::{Facts, SealError, SignedPayload, Signer, delegation, sign_message};
use sealed_image::{Kind, PublicKey, Role, Version};

/// What a release is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A development die: its secrets and keys are published.
    Development,
    /// Anything else: published keys and secrets are refused.
    Production,
}

impl Profile {
    /// Refuses a published test value in the production profile. `digest` is the thumbprint of a public key
    /// or the SHA-256 of a symmetric secret, `what` names it for the error.
    ///
    /// # Errors
    /// [`Error::TestKey`].
    pub fn admit(self, digest: &Digest, what: &str) -> Result<(), Error> {
        if self != Self::Development && boot_crypto::test_keys::contains(digest) {
            return Err(Error::TestKey { what: what.into() });
        }
        Ok(())
    }
}

/// A key that acts in a role, with the owner root's certificate for it.
pub struct RoleKey {
    role: Role,
    certificate: Vec<u8>,
    /// What the certificate says, where that is known: whatever is beyond it is refused before it is signed.
    limits: Option<Limits>,
    signer: Box<dyn Signer + Send + Sync>,
}

impl RoleKey {
    /// Takes a key with a certificate that only a device judges.
    pub fn new(role: Role, certificate: Vec<u8>, signer: Box<dyn Signer + Send + Sync>) -> Self {
        Self { role, certificate, limits: None, signer }
    }

    /// Takes a key with what the root delegates to it.
    pub fn limited(delegation: Delegation, signer: Box<dyn Signer + Send + Sync>) -> Self {
        let (role, certificate) = (delegation.role(), delegation.certificate().to_vec());
        Self { role, certificate, limits: Some(delegation.limits().clone()), signer }
    }

    /// Has the root delegate `role` to a key: all kinds of that role, for one board and every version. Only a device judges
    /// that: it refuses RSA for a stage.
    ///
    /// # Errors
    /// The root's signer fails.
    pub fn delegated_by(
        root: &dyn Signer,
        role: Role,
        board: &str,
        signer: Box<dyn Signer + Send + Sync>,
    ) -> Result<Self, Error> {
        let limits = Limits::of_role(role, board);
        let certificate = certificate(root, role, &signer.public_key(), &limits)?;
        Ok(Self::new(role, certificate, signer))
    }
}

/// What all images of one release have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The board.
    pub board: String,
    /// The release's version.
    pub version: Version,
    /// Compared with the fused floor of the role that signs.
    pub rollback_index: RollbackIndices,
}

impl Identity {
    /// Returns the rollback index of what is of this kind.
    pub(crate) fn rollback_index_of(&self, kind: Kind) -> u32 {
        kind.role().map_or(0, |role| self.rollback_index.of(role))
    }
}

/// Chunk size of stages, device trees and bundles, in bytes.
pub const STAGE_CHUNK: u32 = 64 * 1024;

/// A firmware owner: the public root key, and a key for each role that signs.
pub struct Owner {
    profile: Profile,
    root: [u8; 64],
    roles: Vec<RoleKey>,
}

impl Owner {
    /// Puts an owner together. The root's private half is not needed: it signs delegations only.
    ///
    /// # Errors
    /// A published test key in the production profile.
    pub fn new(profile: Profile, root: [u8; 64], roles: Vec<RoleKey>) -> Result<Self, Error> {
        let owner = Self { profile, root, roles };
        owner.admit(profile)?;
        Ok(owner)
    }

    /// Returns the profile that the keys were admitted for.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Returns the thumbprint of the root key, which is what fuses hold.
    pub fn root_digest(&self) -> Digest {
        PublicKey::P256(self.root).thumbprint()
    }

    /// Refuses what a profile refuses: an owner who was put together for development may hold published keys.
    ///
    /// # Errors
    /// [`Error::TestKey`].
    pub fn admit(&self, profile: Profile) -> Result<(), Error> {
        profile.admit(&self.root_digest(), "the owner root key")?;
        for key in &self.roles {
            let what = format!("the key of the role {}", key.role.name());
            profile.admit(&key.signer.public_key().thumbprint(), &what)?;
        }
        Ok(())
    }

    /// Returns the delegation part of what a role signs: the root key and the role's certificates. The authority
    /// puts it into each of its messages.
    ///
    /// # Errors
    /// No key for this role.
    pub fn delegation(&self, role: Role) -> Result<Vec<u8>, Error> {
        let keys = self.roles.iter().filter(|key| key.role == role);
        let certificates: Vec<_> = keys.map(|key| key.certificate.clone()).collect();
        if certificates.is_empty() {
            return Err(Error::RoleMissing { role });
        }
        Ok(delegation(&PublicKey::P256(self.root), &certificates))
    }

    /// Returns the root's public key: x followed by y.
    pub fn root(&self) -> &[u8; 64] {
        &self.root
    }

    /// Signs a message with the keys of `role`: what [`sealed_image::verify_message`] verifies.
    ///
    /// # Errors
    /// No such key, a signer that fails.
    pub fn sign_message(&self, role: Role, content_type: &str, payload: &[u8]) -> Result<Vec<u8>, Error> {
        let delegation = self.delegation(role)?;
        Ok(sign_message(content_type, payload, &delegation, &self.signers(role))?)
    }

    /// Signs a SHA-256 digest with the keys of `role`, and returns the thumbprint of each with its signature: for
    /// formats of others, which say themselves what is signed.
    ///
    /// # Errors
    /// No such key, a signer that fails.
    pub(crate) fn sign_digest(&self, role: Role, digest: &Digest) -> Result<Vec<(Digest, Vec<u8>)>, Error> {
        let signers = self.signers(role);
        if signers.is_empty() {
            return Err(Error::RoleMissing { role });
        }
        let sign = |signer: &&dyn Signer| {
            let signature = signer.sign(digest).map_err(SealError::Signer)?;
            Ok((signer.public_key().thumbprint(), signature))
        };
        signers.iter().map(sign).collect()
    }

    fn signers(&self, role: Role) -> Vec<&dyn Signer> {
        let keys = self.roles.iter().filter(|key| key.role == role);
        keys.map(|key| &*key.signer as &dyn Signer).collect()
    }

    /// Signs a payload with the key of the role that owns its kind.
    ///
    /// # Errors
    /// No such key, what the root does not let it sign, a signer that fails, facts that every device refuses.
    pub fn sign(&self, facts: &Facts, plain: Vec<u8>) -> Result<SignedPayload, Error> {
        let role = facts.kind.role().ok_or(Error::Reserved { kind: facts.kind })?;
        self.covers(role, Some(facts.kind), &facts.board, facts.version)?;
        self.sign_as(role, facts, plain)
    }

    /// Checks that the root lets the keys of a role sign this: a kind, or a message about this board and version.
    ///
    /// # Errors
    /// [`Error::NotDelegated`].
    pub(crate) fn covers(
        &self,
        role: Role,
        kind: Option<Kind>,
        board: &str,
        version: Version,
    ) -> Result<(), Error> {
        let limits = self.roles.iter().filter(|key| key.role == role).filter_map(|key| key.limits.as_ref());
        limits.into_iter().try_for_each(|limits| limits.cover(role, kind, board, version))
    }

    /// Signs a payload with the key of `role`, whether or not that role owns the kind: what a device refuses
    /// with `role-wrong`. For tests of devices.
    ///
    /// # Errors
    /// As [`Owner::sign`].
    pub fn sign_as(&self, role: Role, facts: &Facts, plain: Vec<u8>) -> Result<SignedPayload, Error> {
        let keys: Vec<_> = self.roles.iter().filter(|key| key.role == role).collect();
        if keys.is_empty() {
            return Err(Error::NoSigner { role, kind: facts.kind });
        }
        let certificates: Vec<_> = keys.iter().map(|key| key.certificate.clone()).collect();
        let signers: Vec<&dyn Signer> = keys.iter().map(|key| &*key.signer as &dyn Signer).collect();
        let part = delegation(&PublicKey::P256(self.root), &certificates);
        Ok(SignedPayload::sign(facts, plain, &part, &signers)?)
    }

    /// Signs the production stage.
    ///
    /// # Errors
    /// As [`Owner::sign`].
    pub fn sign_stage2(&self, identity: &Identity, stage: FlatImage) -> Result<SignedPayload, Error> {
        self.sign_stage(Kind::Stage2, identity, stage)
    }

    /// Signs the provisioning stage.
    ///
    /// # Errors
    /// As [`Owner::sign`].
    pub fn sign_stage1(&self, identity: &Identity, stage: FlatImage) -> Result<SignedPayload, Error> {
        self.sign_stage(Kind::Stage1, identity, stage)
    }

    fn sign_stage(&self, kind: Kind, identity: &Identity, stage: FlatImage) -> Result<SignedPayload, Error> {
        let facts = Facts {
            kind,
            board: identity.board.clone(),
            version: identity.version,
            rollback_index: identity.rollback_index_of(kind),
            load_address: stage.load,
            entry: stage.entry,
            chunk_size: STAGE_CHUNK,
        };
        self.sign(&facts, stage.bytes)
    }
}
