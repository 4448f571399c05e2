//! What the authority refuses of a closing proof.

use crate::common::*;
use crate::samples::*;
use crate::verdict::verdict;
use boot_crypto::closing_digest;
use boot_info::{Statement, Subject};
use factory_proto::Message;
use fail_code::FailCode::{self, *};
use lifecycle::{FuseFacts, Lifecycle};

fn of(message: &[u8]) -> Option<FailCode> {
    verdict(Message::ClosingProof, message)
}

/// The verdict on the proof of a die with these fuses and this statement.
fn of_die(facts: &FuseFacts, edit: impl FnOnce(&mut Statement)) -> Option<FailCode> {
    let mut die = Die::new(Samples::DIE);
    die.state(facts, edit);
    of(&closing_proof(&die))
}

fn production() -> FuseFacts {
    fuse_policy().production()
}

#[test]
fn every_malformed_value_of_every_field_is_refused() {
    let sound = &Samples::sound().closing_proof[..];
    assert_eq!(of(sound), None);
    for key in 1..=4 {
        for value in malformed_values() {
            assert_eq!(of(&with(sound, key, value)), Some(RequestMalformed), "field {key}: {value:02X?}");
        }
    }
    for (key, length) in [(1, 31), (1, 33), (2, 15), (2, 17), (3, 0), (3, 1025), (4, 0), (4, 1025)] {
        let value = cbor_bytes(&vec![0; length]);
        assert_eq!(of(&with(sound, key, &value)), Some(RequestMalformed), "field {key}: {length} bytes");
    }
}

#[test]
fn proofs_of_another_shape_are_refused() {
    let sound = &Samples::sound().closing_proof[..];
    let values = values_of(sound);
    let mut cases = vec![vec![], vec![0xA0], [b"\xC0", sound].concat(), cbor_bytes(sound)];
    cases.push(map(&values[..3]));
    cases.push(map(&[&values[..], &[vec![0]]].concat()));
    cases.push([b"\xB8\x04", &sound[1..]].concat());
    cases.push([b"\xBF", &sound[1..], b"\xFF"].concat());
    for key in [0, 2, 5, 0x18, 0x20] {
        let mut renamed = sound.to_vec();
        renamed[1] = key;
        cases.push(renamed);
    }
    for case in cases {
        assert_eq!(of(&case), Some(RequestMalformed), "{case:02X?}");
    }
}

#[test]
fn a_proof_for_another_install_or_die_is_refused() {
    let sound = &Samples::sound().closing_proof[..];
    assert_eq!(of(&with(sound, 1, &cbor_bytes(&[0x16; 32]))), Some(InstallUnknown));
    assert_eq!(of(&with(sound, 2, &cbor_bytes(&[0x20; 16]))), Some(InstallUnknown));
    // The die stated another install, or this one with another identity.
    let stated = |install, identity| {
        of_die(&production(), |it| it.subject = Subject::Closed(closing_digest(&install, &identity)))
    };
    let identity = Die::closed(Samples::DIE).identity.public();
    assert_eq!(stated(INSTALL, identity), None);
    assert_eq!(stated([0x16; 32], identity), Some(ClosingUnbound));
    assert_eq!(stated(INSTALL, Die::closed(0x30).identity.public()), Some(ClosingUnbound));
    assert_eq!(of_die(&production(), |it| it.subject = Subject::Closed(INSTALL)), Some(ClosingUnbound));
    // The whole proof of another die; and its statement under this die's name.
    let other = Die::closed(0x30);
    assert_eq!(of(&closing_proof(&other)), Some(InstallUnknown));
    let mut mixed = Die::closed(Samples::DIE);
    mixed.statement = other.statement;
    assert_eq!(of(&closing_proof(&mixed)), Some(StatementInvalid));
}

#[test]
fn a_die_that_is_not_closed_proves_nothing() {
    // The statement that it asked with, which the factory has seen.
    assert_eq!(of(&closing_proof(&Die::new(Samples::DIE))), Some(LifecycleWrong));
    assert_eq!(
        of_die(&fuse_policy().secured(), |it| it.subject = Subject::Closed(INSTALL)),
        Some(LifecycleWrong)
    );
    for lifecycle in Lifecycle::ALL.into_iter().filter(|state| *state != Lifecycle::Production) {
        let facts = FuseFacts { lifecycle, ..production() };
        let expected = if lifecycle.codeword() >= 0x1_0000 { LifecycleWrong } else { StatementInvalid };
        assert_eq!(
            of_die(&facts, |it| it.subject = Subject::Closed(INSTALL)),
            Some(expected),
            "{lifecycle:?}"
        );
    }
    // A stage key is no install.
    assert_eq!(of_die(&production(), |it| it.subject = Subject::StageKey([5; 64])), Some(LifecycleWrong));
}

#[test]
fn a_statement_that_the_die_key_did_not_sign_is_refused() {
    // By the stage's key, the identity key, anybody's.
    for forger in [ec(0x21), ec(0x22), ec(0x55)] {
        let mut die = Die::closed(Samples::DIE);
        die.die_key = forger;
        die.state(&production(), |_| ());
        assert_eq!(of(&closing_proof(&die)), Some(StatementInvalid));
    }
    let sound = &Samples::sound().closing_proof[..];
    for junk in [&b"\xD2"[..], &[0; 222], b"no statement"] {
        assert_eq!(of(&with(sound, 3, &cbor_bytes(junk))), Some(StatementInvalid));
    }
}

#[test]
fn fuses_that_the_die_key_did_not_sign_are_refused() {
    let sound = &Samples::sound().closing_proof[..];
    for facts in [fuse_policy().secured(), FuseFacts { owner_generation: 1, ..production() }] {
        assert_eq!(of(&with(sound, 4, &cbor_bytes(&facts.encode()))), Some(FuseDigestWrong));
    }
    assert_eq!(of(&with(sound, 4, &cbor_bytes(b"junk"))), Some(FuseDigestWrong));
    assert_eq!(of_die(&production(), |it| it.fuse_digest = [0; 32]), Some(FuseDigestWrong));
    // The statement says Production and vouches for fuses that say otherwise.
    let secured = fuse_policy().secured();
    let mut die = Die::new(Samples::DIE);
    die.state(&production(), |it| it.fuse_digest = secured.digest());
    die.fuse_facts = secured.encode().to_vec();
    assert_eq!(of(&closing_proof(&die)), Some(StatementInvalid));
    let mut unknown = production().encode();
    unknown[0] = 2;
    die.state(&production(), |it| it.fuse_digest = boot_crypto::sha256(&unknown));
    die.fuse_facts = unknown.to_vec();
    assert_eq!(of(&closing_proof(&die)), Some(RequestMalformed));
}

#[test]
fn a_proof_sent_again_is_the_same_proof() {
    let (one, two) = (closing_proof(&Die::closed(0x20)), closing_proof(&Die::closed(0x20)));
    assert_eq!(one, two);
    assert_eq!((of(&one), of(&two)), (None, None));
}
