//! An owner, a die and a session between die and authority: the same in every run, so that what a corpus holds stays
//! sound.

use boot_crypto::host::Es256Key;
use boot_crypto::{EcKey, GcmKey, Key, closing_digest, sha256, ticket_key};
use boot_info::{Statement, Subject};
use factory_proto::device::{Device, Session};
use factory_proto::{ClosingProof, Csr, Message, Receipt, Release, Ticket, Trust, content_type, identity};
use lifecycle::{FuseFacts, FusePolicy, Lifecycle};
use sealed_image::host::{Facts, SignedPayload, Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, PublicKey, Role, Root, Version};

/// The board.
pub const BOARD: &str = "test-board";
/// Where the image is loaded.
pub const LOAD: u64 = 0x0E20_0000;
/// The die.
pub const CHIP_ID: [u8; 16] = [0xC1; 16];
/// The install.
pub const INSTALL: [u8; 32] = [0x15; 32];
/// Its serial number.
pub const SERIAL: &str = "KILN-000042";
const PACKAGE: [u8; 32] = [0xAC; 32];
const NONCE: [u8; 32] = [0x4E; 32];
/// What a ticket brings.
pub const CONTENT_KEY: [u8; 32] = [0xCE; 32];
const MEASUREMENT: [u8; 32] = [0x3A; 32];

/// A key of the owner's, by number.
pub fn es256(seed: u8) -> Es256Key {
    Es256Key::from_scalar(&[seed; 32]).expect("the scalar is in range")
}

/// A key of the die's, by number.
pub fn ec(seed: u8) -> EcKey {
    EcKey::from_scalar(&[seed; 32]).expect("the scalar is in range")
}

/// The owner root.
pub fn root() -> Es256Key {
    es256(1)
}

/// The owner roots that the fuses hold.
pub fn roots() -> [Root; 1] {
    [Root { digest: PublicKey::P256(root().public()).thumbprint(), revoked: false }]
}

/// What the root grants a key.
pub fn grant<'a>(role: Role, kinds: &[Kind], key: &'a Es256Key, min_version: Version) -> Grant<'a> {
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let key = key.public_key();
    Grant { role, key, kinds: KindSet::new(kinds), boards, min_version, max_version: Version::MAX }
}

/// The root's delegation.
pub fn delegate(grant: &Grant<'_>) -> Vec<u8> {
    let certificate = certify(&root(), &encode_grant(grant)).expect("the root signs");
    delegation(&PublicKey::P256(root().public()), &[certificate])
}

/// The key that images are signed with, and its delegation.
pub fn boot() -> (Es256Key, Vec<u8>) {
    let key = es256(2);
    let part = delegate(&grant(Role::Boot, &[Kind::Stage2], &key, Version::new(1, 0, 0)));
    (key, part)
}

/// What the image says of itself.
pub fn facts() -> Facts {
    Facts {
        kind: Kind::Stage2,
        board: BOARD.into(),
        version: Version::new(1, 2, 3),
        rollback_index: 5,
        load_address: LOAD,
        entry: LOAD + 8,
        chunk_size: 4096,
    }
}

/// Two chunks, the second one short.
pub fn plain() -> Vec<u8> {
    (0..5000_u32).map(|i| (i / 8) as u8).collect()
}

/// The image, signed.
pub fn signed() -> SignedPayload {
    let (key, part) = boot();
    SignedPayload::sign(&facts(), plain(), &part, &[&key]).expect("the facts are sound")
}

/// Whom the device trusts.
pub fn trust(roots: &[Root]) -> Trust<'_> {
    Trust { board: BOARD, roots, refuse_test_keys: true }
}

/// What the lot asks of fuses.
pub fn fuse_policy() -> FusePolicy {
    FusePolicy {
        root_digest: roots()[0].digest,
        provisioning_key_tag: [0x97; 32],
        secured_floors: [0; 6],
        production_floors: [1; 6],
        closing_measurement: MEASUREMENT,
    }
}

/// What stage0 states of a die with these fuses.
pub fn statement(facts: &FuseFacts) -> Statement {
    let closed = closing_digest(&INSTALL, &identity_key().public());
    Statement {
        lifecycle: facts.lifecycle.codeword(),
        measurement: MEASUREMENT,
        fuse_digest: facts.digest(),
        subject: match facts.lifecycle {
            Lifecycle::Production => Subject::Closed(closed),
            _ => Subject::StageKey(stage_key().public()),
        },
    }
}

/// The key that the vendor certified.
pub fn die_key() -> EcKey {
    ec(0x20)
}

/// The key of the stage that asks.
pub fn stage_key() -> EcKey {
    ec(0x21)
}

/// The device's identity.
pub fn identity_key() -> EcKey {
    ec(0x22)
}

fn ephemeral_key() -> EcKey {
    ec(0x23)
}

/// Everything that the two say to each other in one session.
pub struct Talk {
    /// The request.
    pub request: Vec<u8>,
    /// The ticket for it.
    pub ticket: Vec<u8>,
    /// A PKCS#10 request.
    pub der: Vec<u8>,
    /// The message that asks for a certificate.
    pub csr: Vec<u8>,
    /// Its receipt.
    pub receipt: Vec<u8>,
    /// The proof that the die is closed.
    pub closing_proof: Vec<u8>,
    /// The release of the certificate.
    pub release: Vec<u8>,
}

/// Runs `look` with the device's session.
pub fn with_session<T>(look: impl FnOnce(&Session<'_>) -> T) -> T {
    let facts = fuse_policy().secured();
    let (statement, fuse_facts) = (statement(&facts).sign(&die_key()), facts.encode());
    let device = Device {
        board: BOARD,
        chip_id: &CHIP_ID,
        package_id: &PACKAGE,
        die_chain: &[b"the vendor's certificate for the die", b"the vendor's own"],
        statement: statement.as_bytes(),
        fuse_facts: &fuse_facts,
    };
    let stage_key = stage_key();
    look(&Session::new(device, &stage_key, ephemeral_key(), NONCE).expect("the device is sound"))
}

impl Talk {
    /// Makes it; the same in every run.
    pub fn sample() -> Self {
        with_session(|session| {
            let ticket = ticket(session);
            let roots = roots();
            let opened = session.verify_ticket::<sealed_image::Es256>(&ticket, &trust(&roots));
            let opened = opened.expect("the ticket is sound");
            let der = identity::request(&identity_key(), &CHIP_ID, SERIAL).expect("the subject is sound");
            let production = fuse_policy().production();
            let closing_proof = ClosingProof {
                install: &INSTALL,
                chip_id: &CHIP_ID,
                statement: statement(&production).sign(&die_key()).as_bytes(),
                fuse_facts: &production.encode(),
            }
            .encode();
            let release =
                Release { install: &INSTALL, chip_id: &CHIP_ID, certificates: vec![b"leaf", b"issuer"] };
            let receipt = Receipt { install: &INSTALL, csr_digest: &sha256(&der) };
            Self {
                request: session.request().to_vec(),
                csr: session.csr(&opened, &der).expect("the request is short"),
                receipt: answer(Message::Receipt, &receipt.encode()),
                release: answer(Message::Release, &release.encode()),
                closing_proof,
                ticket,
                der,
            }
        })
    }
}

/// Signs a payload as the authority.
pub fn answer(message: Message, payload: &[u8]) -> Vec<u8> {
    let key = es256(4);
    let part = delegate(&grant(Role::Authority, &[], &key, Version::MIN));
    sign_message(content_type(message), payload, &part, &[&key]).expect("the authority signs")
}

fn ticket(session: &Session<'_>) -> Vec<u8> {
    let ours = ec(0x31);
    let shared = ours.agree(&ephemeral_key().public()).expect("it is a point");
    let mut secrets = [0; 80];
    secrets[..32].copy_from_slice(&CONTENT_KEY);
    secrets[32..64].fill(0xE7);
    let key = GcmKey::new(&ticket_key(&shared, session.request_digest()));
    let tag = key.seal(&[0; 12], session.request_digest(), &mut secrets[..64]).expect("it is short");
    secrets[64..].copy_from_slice(&tag);
    let ticket = Ticket {
        request_digest: session.request_digest(),
        chip_id: &CHIP_ID,
        nonce: &NONCE,
        package_id: &PACKAGE,
        install: &INSTALL,
        serial: SERIAL,
        ephemeral: &ours.public(),
        secrets: &secrets,
    };
    answer(Message::Ticket, &ticket.encode())
}

/// Signs a payload as the stage, in the way of an encoder that is not Kiln's.
pub fn question(message: Message, payload: &[u8]) -> Vec<u8> {
    let header = encoded(|e| e.map(2)?.u8(1)?.i8(-7)?.u8(3)?.str(content_type(message))?.ok());
    let signed = encoded(|e| e.array(4)?.str("Signature1")?.bytes(&header)?.bytes(&[])?.bytes(payload)?.ok());
    let signature = stage_key().sign(&sha256(&signed));
    let signature = boot_crypto::es256_low_s(&signature).unwrap_or(signature);
    encoded(|e| {
        e.tag(minicbor::data::Tag::new(18))?.array(4)?.bytes(&header)?.map(0)?;
        e.bytes(payload)?.bytes(&signature)?.ok()
    })
}

/// Encodes CBOR.
pub fn encoded(
    write: impl FnOnce(
        &mut minicbor::Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
) -> Vec<u8> {
    let mut e = minicbor::Encoder::new(Vec::new());
    write(&mut e).expect("a vector takes every byte");
    e.into_writer()
}

/// A digest of a payload that an unsigned thing names, for CSRs in the making.
pub fn csr_payload(der: &[u8]) -> Vec<u8> {
    with_session(|session| Csr { install: &INSTALL, request_digest: session.request_digest(), der }.encode())
}

/// The key that copies are sealed under.
pub fn kek() -> Key {
    Key::new([9; 32])
}
