//! A die, its owner's authority, and a session between them.

use boot_crypto::host::Es256Key;
use boot_crypto::{EcKey, Key, closing_digest};
use boot_info::{Statement, Subject};
use factory_proto::authority::{Authority, Install, UntrustedRequest, VerifiedRequest};
use factory_proto::device::{Device, Session};
use factory_proto::{Error, Trust};
use lifecycle::{FuseFacts, FusePolicy, Lifecycle};
use sealed_image::host::{Signer, certify, encode_grant};
use sealed_image::{Grant, KindSet, MAX_BOARDS, PublicKey, Role, Root, Version};

pub(crate) const BOARD: &str = "test-board";
pub(crate) const CHIP_ID: [u8; 16] = [0xC1; 16];
pub(crate) const PACKAGE: [u8; 32] = [0xAC; 32];
pub(crate) const INSTALL: [u8; 32] = [0x15; 32];
pub(crate) const SERIAL: &str = "KILN-000042";
pub(crate) const NONCE: [u8; 32] = [0x4E; 32];
pub(crate) const CONTENT_KEY: [u8; 32] = [0xCE; 32];
pub(crate) const MEASUREMENT: [u8; 32] = [0x3A; 32];
pub(crate) const CLOSED_MEASUREMENT: [u8; 32] = [0x3B; 32];

pub(crate) fn ec(seed: u8) -> EcKey {
    EcKey::from_scalar(&[seed; 32]).unwrap()
}

pub(crate) fn es256(seed: u8) -> Es256Key {
    Es256Key::from_scalar(&[seed; 32]).unwrap()
}

pub(crate) fn root() -> Es256Key {
    es256(1)
}

pub(crate) fn roots() -> [Root; 1] {
    [Root { digest: PublicKey::P256(root().public()).thumbprint(), revoked: false }]
}

pub(crate) fn trust(roots: &[Root]) -> Trust<'_> {
    Trust { board: BOARD, roots, refuse_test_keys: true }
}

pub(crate) fn grant(role: Role, key: &Es256Key) -> Grant<'_> {
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    Grant {
        role,
        key: key.public_key(),
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    }
}

/// The authority whose key has this seed, delegated in this way by the root.
pub(crate) fn authority_with(grant: &Grant<'_>, seed: u8) -> Authority {
    let certificate = certify(&root(), &encode_grant(grant)).unwrap();
    Authority::new(&PublicKey::P256(root().public()), certificate, Box::new(es256(seed)))
}

pub(crate) fn authority() -> Authority {
    authority_with(&grant(Role::Authority, &es256(4)), 4)
}

pub(crate) fn fuse_policy() -> FusePolicy {
    FusePolicy {
        root_digest: roots()[0].digest,
        provisioning_key_tag: [0x97; 32],
        secured_floors: [0; 6],
        production_floors: [1; 6],
        closing_measurement: MEASUREMENT,
    }
}

/// A die with its stage1, as the factory has it in hand.
pub(crate) struct Die {
    pub(crate) die_key: EcKey,
    pub(crate) stage_key: EcKey,
    pub(crate) identity: EcKey,
    pub(crate) chip_id: [u8; 16],
    pub(crate) statement: Vec<u8>,
    pub(crate) fuse_facts: Vec<u8>,
}

impl Die {
    pub(crate) fn new(seed: u8) -> Self {
        let mut die = Self {
            die_key: ec(seed),
            stage_key: ec(seed + 1),
            identity: ec(seed + 2),
            chip_id: CHIP_ID,
            statement: Vec::new(),
            fuse_facts: Vec::new(),
        };
        die.chip_id[0] = seed;
        die.state(&fuse_policy().secured(), |_| ());
        die
    }

    /// Has stage0 state these fuses, and whatever `edit` makes of the statement.
    pub(crate) fn state(&mut self, facts: &FuseFacts, edit: impl FnOnce(&mut Statement)) {
        let production = facts.lifecycle == Lifecycle::Production;
        let mut statement = Statement {
            lifecycle: facts.lifecycle.codeword(),
            measurement: if production { CLOSED_MEASUREMENT } else { MEASUREMENT },
            fuse_digest: facts.digest(),
            subject: if production {
                Subject::Closed(closing_digest(&INSTALL, &self.identity.public()))
            } else {
                Subject::StageKey(self.stage_key.public())
            },
        };
        edit(&mut statement);
        self.statement = statement.sign(&self.die_key).as_bytes().to_vec();
        self.fuse_facts = facts.encode().to_vec();
    }

    /// A die that is closed.
    pub(crate) fn closed(seed: u8) -> Self {
        let mut die = Self::new(seed);
        die.state(&fuse_policy().production(), |_| ());
        die
    }

    pub(crate) fn session(&self) -> Session<'_> {
        self.session_with(NONCE)
    }

    pub(crate) fn session_with(&self, nonce: [u8; 32]) -> Session<'_> {
        let ephemeral = boot_crypto::ephemeral_key(&Key::new([0xE0; 32]), &nonce);
        Session::new(self.device(), &self.stage_key, ephemeral, nonce).unwrap()
    }

    pub(crate) fn device(&self) -> Device<'_> {
        Device {
            board: BOARD,
            chip_id: &self.chip_id,
            package_id: &PACKAGE,
            die_chain: &[b"the vendor's certificate for the die", b"the vendor's own"],
            statement: &self.statement,
            fuse_facts: &self.fuse_facts,
        }
    }

    /// What the authority makes of a request that is said to be this die's.
    pub(crate) fn verify<'a>(&self, request: &'a [u8]) -> Result<VerifiedRequest<'a>, Error> {
        UntrustedRequest::parse(request)?.verify(&self.die_key.public())
    }

    pub(crate) fn install<'a>(&'a self, content_key: &'a Key) -> Install<'a> {
        Install { id: &INSTALL, chip_id: &self.chip_id, serial: SERIAL, content_key }
    }

    /// The authority's ticket for a request of this die.
    pub(crate) fn ticket(&self, request: &[u8]) -> Vec<u8> {
        let verified = self.verify(request).unwrap();
        authority().ticket(&verified, &self.install(&Key::new(CONTENT_KEY))).unwrap()
    }
}
