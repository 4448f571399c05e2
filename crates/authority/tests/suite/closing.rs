//! Closing proofs that release no certificate.

use authority::model::Die;
use authority::storage::State;
use boot_crypto::host::random;
use boot_crypto::{EcKey, closing_digest};
use boot_info::{Statement, Subject};
use factory_proto::ClosingProof;
use fail_code::FailCode;
use lifecycle::{Flag, FuseFacts, Lifecycle, Record};

use crate::common::{Named, Rig};

/// A die whose certificate is made and not released.
struct Certified {
    rig: Rig,
    die: Die,
    install: [u8; 32],
}

impl Certified {
    async fn new() -> Self {
        let rig = Rig::new(5).await;
        let die = rig.factory.die().unwrap();
        let (_, install) = rig.certified(&die).await;
        Self { rig, die, install }
    }

    async fn refuses(&self, proof: &[u8], code: FailCode) {
        let answer = self.rig.authority.release(&self.rig.station, proof).await;
        self.rig.refused(answer, code, Named::install(&self.die, &self.install)).await;
        let install = self.rig.authority.ledger().install(&self.install).await.unwrap();
        assert_eq!((install.state, install.certificate), (State::Csr, None), "something was released");
    }

    /// Checks that fuses which `burn` altered release nothing.
    async fn refuses_fuses(&self, code: FailCode, burn: impl FnOnce(&mut FuseFacts)) {
        let mut facts = self.rig.factory.policy().production();
        burn(&mut facts);
        self.refuses(&self.die.close(&self.install, &facts, self.rig.factory.stage2), code).await;
    }

    /// Checks that the proof which belongs to the die releases its certificate: nothing else is wrong.
    async fn takes_its_own(&self) {
        let proof = self.rig.proof(&self.die, &self.install);
        self.rig.authority.release(&self.rig.station, &proof).await.unwrap();
    }
}

#[tokio::test]
async fn a_die_that_is_not_closed_gets_no_certificate() {
    let certified = Certified::new().await;
    for lifecycle in [Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Returned, Lifecycle::Development] {
        certified.refuses_fuses(FailCode::LifecycleWrong, |facts| facts.lifecycle = lifecycle).await;
    }
    // stage0's statement for the request is none for the closing.
    let facts = &certified.die.facts;
    let statement = Statement {
        lifecycle: facts.lifecycle.codeword(),
        measurement: certified.die.measurement,
        fuse_digest: facts.digest(),
        subject: Subject::StageKey(certified.die.stage_key.public()),
    };
    let statement = statement.sign(&certified.die.die_key);
    let proof = ClosingProof {
        install: &certified.install,
        chip_id: &certified.die.chip_id,
        statement: statement.as_bytes(),
        fuse_facts: &facts.encode(),
    };
    certified.refuses(&proof.encode(), FailCode::LifecycleWrong).await;
    certified.takes_its_own().await;
}

#[tokio::test]
async fn a_device_that_booted_another_stage_gets_no_certificate() {
    let certified = Certified::new().await;
    let facts = certified.rig.factory.policy().production();
    for measurement in [certified.rig.factory.stage1, random()] {
        let proof = certified.die.close(&certified.install, &facts, measurement);
        certified.refuses(&proof, FailCode::MeasurementWrong).await;
    }
    certified.takes_its_own().await;
}

#[tokio::test]
async fn a_device_with_other_fuses_than_the_lots_gets_no_certificate() {
    let certified = Certified::new().await;
    let root = Record::Whole([0xEE; 32]);
    certified.refuses_fuses(FailCode::SecondOwnerRoot, |facts| facts.roots[1].digest = root).await;
    certified.refuses_fuses(FailCode::FloorRaised, |facts| facts.floors[0] += 1).await;
    certified.refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.floors[0] -= 1).await;
    certified.refuses_fuses(FailCode::DebugNotLocked, |facts| facts.debug_lock = Flag::Clear).await;
    certified.refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.closing_measurement = root).await;
    certified
        .refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.closing_measurement = Record::Torn)
        .await;
    let secured = certified.rig.factory.policy().secured().locks;
    certified.refuses_fuses(FailCode::FusePolicyWrong, |facts| facts.locks = secured).await;
    certified.takes_its_own().await;
}

#[tokio::test]
async fn a_proof_by_another_key_than_the_dies_gets_no_certificate() {
    let mut certified = Certified::new().await;
    let own = std::mem::replace(&mut certified.die.die_key, EcKey::from_scalar(&[7; 32]).unwrap());
    let forged = certified.rig.proof(&certified.die, &certified.install);
    certified.refuses(&forged, FailCode::StatementInvalid).await;
    certified.die.die_key = own;
    certified.takes_its_own().await;
}

#[tokio::test]
async fn a_proof_of_one_die_releases_nothing_to_another() {
    let certified = Certified::new().await;
    let other = certified.rig.factory.die().unwrap();
    let (_, others) = certified.rig.certified(&other).await;
    // The other's own proof, in the name of this install; and this die's, for the other's install.
    certified.refuses(&certified.rig.proof(&other, &certified.install), FailCode::InstallUnknown).await;
    let facts = certified.rig.factory.policy().production();
    let statement = Statement {
        lifecycle: facts.lifecycle.codeword(),
        measurement: certified.rig.factory.stage2,
        fuse_digest: facts.digest(),
        subject: Subject::Closed(closing_digest(&others, &certified.die.identity.public())),
    };
    let statement = statement.sign(&certified.die.die_key);
    let proof = ClosingProof {
        install: &certified.install,
        chip_id: &certified.die.chip_id,
        statement: statement.as_bytes(),
        fuse_facts: &facts.encode(),
    };
    certified.refuses(&proof.encode(), FailCode::ClosingUnbound).await;
    certified.takes_its_own().await;
    assert_eq!(certified.rig.counts().await, (2, 1));
}

/// Storage that is set back after a certificate request, and forward again after another, makes a device burn the first
/// seed when the second was certified.
#[tokio::test]
async fn a_device_that_was_closed_with_another_identity_than_was_certified_gets_no_certificate() {
    let mut certified = Certified::new().await;
    let own = std::mem::replace(&mut certified.die.identity, EcKey::from_scalar(&[7; 32]).unwrap());
    let other = certified.rig.proof(&certified.die, &certified.install);
    certified.refuses(&other, FailCode::ClosingUnbound).await;
    certified.die.identity = own;
    certified.takes_its_own().await;
}

#[tokio::test]
async fn fuses_that_are_not_those_of_the_statement_release_nothing() {
    let certified = Certified::new().await;
    let production = certified.rig.factory.policy().production();
    let mut open = production;
    open.debug_lock = Flag::Clear;
    let proof = certified.die.close(&certified.install, &open, certified.rig.factory.stage2);
    let signed = ClosingProof::decode(&proof).unwrap();
    let forged = ClosingProof { fuse_facts: &production.encode(), ..signed };
    certified.refuses(&forged.encode(), FailCode::FuseDigestWrong).await;
    certified.takes_its_own().await;
}

#[tokio::test]
async fn an_install_without_a_certificate_request_releases_nothing() {
    let rig = Rig::new(1).await;
    let die = rig.factory.die().unwrap();
    let nonce = random();
    let ticket = rig.ticket(&die.request(nonce).unwrap()).await.unwrap();
    let install = die.open(nonce, &ticket).unwrap().install;
    let answer = rig.authority.release(&rig.station, &rig.proof(&die, &install)).await;
    rig.refused(answer, FailCode::CsrUnbound, Named::install(&die, &install)).await;
    assert_eq!(rig.counts().await, (1, 0));
}

#[tokio::test]
async fn a_proof_for_an_install_that_never_was_is_refused() {
    let certified = Certified::new().await;
    let proof = certified.rig.proof(&certified.die, &[0x99; 32]);
    let answer = certified.rig.authority.release(&certified.rig.station, &proof).await;
    certified.rig.refused(answer, FailCode::InstallUnknown, Named::default()).await;
}

#[tokio::test]
async fn what_is_no_closing_proof_is_malformed() {
    let certified = Certified::new().await;
    let good = certified.rig.proof(&certified.die, &certified.install);
    for untrusted in [&[][..], b"junk", &good[1..], &good[..good.len() - 1], &[&good[..], b"\0"].concat()] {
        let answer = certified.rig.authority.release(&certified.rig.station, untrusted).await;
        certified.rig.refused(answer, FailCode::RequestMalformed, Named::default()).await;
    }
    certified.takes_its_own().await;
}
