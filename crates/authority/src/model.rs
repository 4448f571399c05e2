//! A model of a factory: an owner, a silicon vendor, and dies that say what real ones say. For measurements and
//! tests; nothing of the service uses it.

use boot_crypto::host::{Es256Key, random};
use boot_crypto::{Digest, EcKey, Key, closing_digest};
use boot_info::{Statement, Subject};
use factory_proto::device::{Device, Session, VerifiedTicket};
use factory_proto::{ClosingProof, Trust, identity};
use lifecycle::{FuseFacts, FusePolicy};
use release::SiliconVendor;
use sealed_image::host::Signer as _;
use sealed_image::{Es256, Root};

use crate::{Authority, Delegation, Error, Fuses, NewLot, Terms};

/// The board of modelled dies.
pub const BOARD: &str = "qemu-virt";

/// An owner and a vendor, and what they agreed on.
pub struct Factory {
    /// The owner root.
    pub root: Es256Key,
    /// The silicon vendor.
    pub vendor: SiliconVendor,
    /// The package.
    pub package: Digest,
    /// The measurement of the provisioning stage.
    pub stage1: Digest,
    /// The measurement of the production stage.
    pub stage2: Digest,
    /// The package's content key.
    pub content_key: [u8; 32],
}

impl Factory {
    /// Founds a factory with fresh keys.
    ///
    /// # Errors
    /// None in practice; making certificates is fallible.
    pub fn found() -> Result<Self, Error> {
        Ok(Self {
            root: Es256Key::generate(),
            vendor: SiliconVendor::found().map_err(|error| Error::Measurement(error.to_string()))?,
            package: random(),
            stage1: random(),
            stage2: random(),
            content_key: random(),
        })
    }

    /// Returns the terms of a lot.
    pub fn terms(&self) -> Terms {
        Terms {
            board: BOARD.into(),
            package: self.package,
            stage1: vec![self.stage1],
            stage2: vec![self.stage2],
            fuses: Fuses {
                root_digest: self.root.public_key().thumbprint(),
                provisioning_key_tag: [0x97; 32],
                secured_floors: [0, 3, 0, 0, 0, 0],
                production_floors: [1, 3, 1, 0, 0, 0],
            },
            vendors: release::certificate_pem(self.vendor.root()),
        }
    }

    /// Describes a lot of any dies and any stations.
    pub fn lot(&self, name: &str, quota: u32) -> NewLot {
        NewLot {
            name: name.into(),
            quota,
            terms: self.terms(),
            content_key: Key::new(self.content_key),
            dies: Vec::new(),
            stations: Vec::new(),
        }
    }

    /// Has the owner root delegate to an authority.
    ///
    /// # Errors
    /// As [`Authority::delegate`].
    pub async fn delegate(&self, authority: &Authority) -> Result<(), Error> {
        let delegation = Delegation::sign(&self.root, &authority.signing_key(), BOARD)?;
        authority.delegate(&delegation, BOARD).await
    }

    /// Returns the fuses of a lot's dies.
    pub fn policy(&self) -> FusePolicy {
        let fuses = self.terms().fuses;
        FusePolicy {
            root_digest: fuses.root_digest,
            provisioning_key_tag: fuses.provisioning_key_tag,
            secured_floors: fuses.secured_floors,
            production_floors: fuses.production_floors,
            closing_measurement: self.stage1,
        }
    }

    /// Makes a pre-provisioned die that runs the provisioning stage.
    ///
    /// # Errors
    /// None in practice; making certificates is fallible.
    pub fn die(&self) -> Result<Die, Error> {
        let die_key = ec_key();
        let chip_id = random();
        let certificate = self
            .vendor
            .certify(&chip_id, &die_key.public())
            .map_err(|error| Error::Measurement(error.to_string()))?;
        Ok(Die {
            chip_id,
            die_key,
            stage_key: ec_key(),
            identity: ec_key(),
            chain: vec![certificate, self.vendor.issuing().to_vec()],
            measurement: self.stage1,
            package: self.package,
            board: BOARD.into(),
            facts: self.policy().secured(),
            root: self.root.public_key().thumbprint(),
        })
    }
}

fn ec_key() -> EcKey {
    loop {
        if let Some(key) = EcKey::from_scalar(&random()) {
            return key;
        }
    }
}

/// A die and the stage that runs on it. Tests change what an adversary could.
pub struct Die {
    /// The chip id.
    pub chip_id: [u8; 16],
    /// The die key.
    pub die_key: EcKey,
    /// The provisioning stage's key.
    pub stage_key: EcKey,
    /// The device's identity key.
    pub identity: EcKey,
    /// The vendor's certificates, the die's own first.
    pub chain: Vec<Vec<u8>>,
    /// The measurement of the stage.
    pub measurement: Digest,
    /// The package on its disk.
    pub package: Digest,
    /// The board.
    pub board: String,
    /// Its fuses.
    pub facts: FuseFacts,
    /// The owner root that it trusts.
    pub root: Digest,
}

impl Die {
    /// Makes the request of the session with this nonce: always the same.
    ///
    /// # Errors
    /// A field out of its bounds.
    pub fn request(&self, nonce: [u8; 32]) -> Result<Vec<u8>, factory_proto::Error> {
        let (statement, facts) = self.evidence(Subject::StageKey(self.stage_key.public()));
        self.session(&statement, &facts, nonce, |session| Ok(session.request().to_vec()))
    }

    /// Takes the ticket of that session.
    ///
    /// # Errors
    /// Any ticket that a device refuses.
    pub fn open(&self, nonce: [u8; 32], ticket: &[u8]) -> Result<VerifiedTicket, factory_proto::Error> {
        let (statement, facts) = self.evidence(Subject::StageKey(self.stage_key.public()));
        self.session(&statement, &facts, nonce, |session| {
            session.verify_ticket::<Es256>(ticket, &self.trust(&self.roots()))
        })
    }

    /// Asks for a certificate in that session.
    ///
    /// # Errors
    /// Any ticket that a device refuses.
    pub fn csr(&self, nonce: [u8; 32], ticket: &[u8]) -> Result<Vec<u8>, factory_proto::Error> {
        let ticket = self.open(nonce, ticket)?;
        let der = identity::request(&self.identity, &self.chip_id, &ticket.serial)?;
        let (statement, facts) = self.evidence(Subject::StageKey(self.stage_key.public()));
        self.session(&statement, &facts, nonce, |session| session.csr(&ticket, &der))
    }

    /// Proves that the die is closed: `facts` are its fuses now, `measurement` that of the stage that runs.
    pub fn close(&self, install: &[u8; 32], facts: &FuseFacts, measurement: Digest) -> Vec<u8> {
        let statement = Statement {
            lifecycle: facts.lifecycle.codeword(),
            measurement,
            fuse_digest: facts.digest(),
            subject: Subject::Closed(closing_digest(install, &self.identity.public())),
        };
        let statement = statement.sign(&self.die_key);
        let (statement, fuse_facts) = (statement.as_bytes(), &facts.encode());
        ClosingProof { install, chip_id: &self.chip_id, statement, fuse_facts }.encode()
    }

    /// Takes the release, and returns the certificates in it.
    ///
    /// # Errors
    /// Any release that a device refuses.
    pub fn take(&self, install: &[u8; 32], release: &[u8]) -> Result<Vec<Vec<u8>>, factory_proto::Error> {
        let (roots, chip) = (self.roots(), &self.chip_id);
        let release =
            factory_proto::device::verify_release::<Es256>(release, &self.trust(&roots), install, chip)?;
        Ok(release.certificates.iter().map(|certificate| certificate.to_vec()).collect())
    }

    fn evidence(&self, subject: Subject) -> (Vec<u8>, Vec<u8>) {
        let statement = Statement {
            lifecycle: self.facts.lifecycle.codeword(),
            measurement: self.measurement,
            fuse_digest: self.facts.digest(),
            subject,
        };
        (statement.sign(&self.die_key).as_bytes().to_vec(), self.facts.encode().to_vec())
    }

    fn session<T>(
        &self,
        statement: &[u8],
        fuse_facts: &[u8],
        nonce: [u8; 32],
        act: impl FnOnce(Session<'_>) -> Result<T, factory_proto::Error>,
    ) -> Result<T, factory_proto::Error> {
        let chain: Vec<&[u8]> = self.chain.iter().map(Vec::as_slice).collect();
        let device = Device {
            board: &self.board,
            chip_id: &self.chip_id,
            package_id: &self.package,
            die_chain: &chain,
            statement,
            fuse_facts,
        };
        // As on a device: the ephemeral key of a session can be made again.
        let ephemeral = EcKey::derive(&Key::new(nonce), &self.chip_id, b"model");
        act(Session::new(device, &self.stage_key, ephemeral, nonce)?)
    }

    fn roots(&self) -> [Root; 1] {
        [Root { digest: self.root, revoked: false }]
    }

    fn trust<'a>(&'a self, roots: &'a [Root]) -> Trust<'a> {
        Trust { board: &self.board, roots, refuse_test_keys: true }
    }
}
