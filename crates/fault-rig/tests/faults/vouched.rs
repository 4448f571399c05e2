//! Dies on which stage0 vouches for the stage that it boots, which lies beside one that it must refuse: a die that is not closed yet,
//! one that is closing, and a closed one whose closing nobody has acknowledged.

use boot_crypto::{Digest, Key, die_key, die_secret, stage_secret};
use boot_info::closing::ClosingState;
use boot_info::{Evidence, SecretPage, Secrets, Statement, Subject};
use fail_code::FailCode;
use lifecycle::{FuseFacts, Lifecycle};
use sealed_image::Role;
use sealed_image::host::{Facts, SignedPayload};
use tests::Maker;

use crate::bad_stages::{Bad, named_and_not, other_plain, plain, seal, stage1_facts};

/// The install whose closing is pending.
const INSTALL: [u8; 32] = [0x49; 32];

/// Makes all of them.
pub(crate) fn all() -> Vec<Bad> {
    vec![secured(), closing(), pending()]
}

fn secured() -> Bad {
    let mut maker = Maker::production();
    maker.lifecycle = Lifecycle::Secured;
    let good = maker.owner.sign(&stage1_facts(&maker), plain()).expect("it can be signed");
    let bad = maker.owner.sign(&maker.stage2_facts(), other_plain()).expect("it can be signed");
    let name = "a production stage, beside a provisioning stage that is vouched for";
    beside(name, FailCode::KindWrong, &maker, &bad, &good)
}

fn closing() -> Bad {
    let mut maker = Maker::production();
    maker.lifecycle = Lifecycle::Closing;
    let [good, bad] = named_and_not(&maker);
    maker.die.closing_measurement = good.manifest_digest;
    let name =
        "a stage that the closing die does not name, beside the one that it names, which is vouched for";
    beside(name, FailCode::NotClosingImage, &maker, &bad, &good)
}

fn pending() -> Bad {
    let maker = Maker::production().floor(Role::Boot, 1);
    let [good, bad] = [(1, plain()), (0, other_plain())].map(|(rollback_index, plain)| {
        let facts = Facts { rollback_index, ..maker.stage2_facts() };
        maker.owner.sign(&facts, plain).expect("it can be signed")
    });
    let name = "an image from before the floor, beside one whose closing is vouched for";
    beside(name, FailCode::RolledBack, &maker, &bad, &good)
}

/// Lays a bad stage beside a good one.
fn beside(
    name: &'static str,
    code: FailCode,
    maker: &Maker,
    bad: &SignedPayload,
    good: &SignedPayload,
) -> Bad {
    let measurement = &good.manifest_digest;
    let page = page(maker, measurement);
    let evidence = page.evidence.as_ref().expect("it is vouched for");
    let (digest, signature) = signed(evidence.statement.as_bytes());
    let mut bytes = vec![0; SecretPage::SIZE];
    assert!(page.write(&mut bytes));
    let bad = Bad::new(name, code, maker, seal(maker, bad), seal(maker, good));
    let mut keys = bad.keys.and_nonce(maker, &digest, &signature);
    if maker.lifecycle != Lifecycle::Production {
        keys = keys.and_of_provisioning(maker, measurement);
    }
    let closing_state = ClosingState::encode(&INSTALL).to_vec();
    Bad { other: bad.good.clone(), closing_state, keys, page: Some(bytes), ..bad }
}

/// What a die hands to the stage with this measurement, derived on the host.
fn page(maker: &Maker, measurement: &Digest) -> SecretPage {
    let die = &maker.die;
    let silicon = Key::new(die.silicon_secret);
    let (secrets, subject, install) = if maker.lifecycle == Lifecycle::Production {
        let root = boot_crypto::device_root(&die_secret(&silicon), &Key::new(die.device_seed));
        let identity = boot_crypto::identity_key(&root, &die.chip_id).public();
        let rng_secret = boot_crypto::rng_secret(&root, &die.chip_id);
        let secrets = Secrets::Production { os_storage_key: maker.os_key(), rng_secret };
        (secrets, Subject::Closed(boot_crypto::closing_digest(&INSTALL, &identity)), INSTALL)
    } else {
        let stage_secret = stage_secret(&silicon, measurement, Lifecycle::Secured.codeword());
        let subject = Subject::StageKey(boot_crypto::alias_key(&stage_secret).public());
        // Whatever flash says of closing, such a statement names no install.
        (Secrets::Provision { stage_secret, die_secret: die_secret(&silicon) }, subject, [0; 32])
    };
    let facts = FuseFacts::read(&maker.otp()).expect("the fuses are whole").encode();
    let statement = Statement {
        lifecycle: maker.lifecycle.codeword(),
        measurement: *measurement,
        fuse_digest: boot_crypto::sha256(&facts),
        subject,
    };
    let evidence = Evidence { statement: statement.sign(&die_key(&silicon)), fuse_facts: facts, install };
    SecretPage { secrets, evidence: Some(evidence) }
}

/// Takes a statement (COSE_Sign1) apart: what is signed, and the signature.
fn signed(statement: &[u8]) -> (Digest, [u8; 64]) {
    // Tag and array; the protected header, 37 bytes behind their length; an empty map.
    let (head, rest) = statement.split_at(2 + 2 + 37 + 1);
    let (payload, signature) = rest.split_at(rest.len() - 66);
    let to_sign = [b"\x84\x6ASignature1", &head[2..41], b"\x40", payload].concat();
    (boot_crypto::sha256(&to_sign), signature[2..].try_into().expect("64 bytes"))
}
