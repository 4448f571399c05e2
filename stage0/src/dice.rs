//! What the next stage gets of the die's secrets, and what stage0 vouches for.
//!
//! The next stage never sees the silicon secret, nor the die key, which signs what stage0 knows about the place: the
//! measurement of the stage, the fuses, and whose key the stage has, or which install this boot proves closed and with which
//! identity.

use boot_crypto::{
    Digest, alias_key, closing_digest, die_key, die_secret, identity_key, labels, rng_secret, stage_secret,
    storage_key,
};
use boot_info::closing::ClosingState;
use boot_info::{Evidence, SecretPage, Secrets, Statement, Subject};
use boot_select::device_root;
use fail_code::FailCode;
use hal::{Otp, Storage};
use lifecycle::{FuseFacts, Fuses, Lifecycle};
use memory_map::qemu_virt::CLOSING_STATE;

/// Makes the page of secrets for the stage with this measurement.
#[inline(never)]
pub(crate) fn secret_page(
    otp: &impl Otp,
    flash: &mut impl Storage,
    fuses: &Fuses,
    measurement: &Digest,
) -> Result<SecretPage, FailCode> {
    let lifecycle = fuses.lifecycle();
    let (secrets, subject) = match lifecycle {
        Lifecycle::Secured | Lifecycle::Closing => {
            let silicon = fuses.silicon_secret();
            let stage_secret = stage_secret(silicon, measurement, Lifecycle::Secured.codeword());
            let subject = Subject::StageKey(alias_key(&stage_secret).public());
            (Secrets::Provision { stage_secret, die_secret: die_secret(silicon) }, Some((subject, [0; 32])))
        }
        Lifecycle::Production | Lifecycle::Development => {
            let (root, chip) = (device_root(fuses)?, fuses.chip_id());
            let os_storage_key = storage_key(&root, labels::STORAGE_OS, chip, fuses.owner_generation());
            let install = if lifecycle == Lifecycle::Production { pending_install(flash) } else { None };
            let secrets = Secrets::Production { os_storage_key, rng_secret: rng_secret(&root, chip) };
            let closed = |install| closing_digest(&install, &identity_key(&root, chip).public());
            (secrets, install.map(|install| (Subject::Closed(closed(install)), install)))
        }
        Lifecycle::Blank | Lifecycle::Returned => return Err(FailCode::LifecycleForbids),
    };
    let vouch_for = |(subject, install)| vouch(otp, fuses, measurement, subject, install);
    let evidence = subject.map(vouch_for).transpose()?;
    Ok(SecretPage { secrets, evidence })
}

/// Returns the install that closing has begun for and that the authority has not acknowledged. Whoever writes the flash
/// chooses it: he gets a true statement about this boot, no more.
fn pending_install(flash: &mut impl Storage) -> Option<[u8; 32]> {
    let mut untrusted = [0; ClosingState::SIZE];
    flash.read(CLOSING_STATE.base, &mut untrusted).ok()?;
    let state = ClosingState::parse(&untrusted)?;
    (!state.acknowledged).then_some(state.install)
}

/// Signs what stage0 knows.
fn vouch(
    otp: &impl Otp,
    fuses: &Fuses,
    measurement: &Digest,
    subject: Subject,
    install: [u8; 32],
) -> Result<Evidence, FailCode> {
    let facts = FuseFacts::read(otp).map_err(|error| error.code())?;
    let lifecycle = fuses.lifecycle();
    if facts.lifecycle != lifecycle {
        return Err(FailCode::LifecycleUnknown);
    }
    let fuse_facts = facts.encode();
    let statement = Statement {
        lifecycle: lifecycle.codeword(),
        measurement: *measurement,
        fuse_digest: boot_crypto::sha256(&fuse_facts),
        subject,
    };
    Ok(Evidence { statement: statement.sign(&die_key(fuses.silicon_secret())), fuse_facts, install })
}

#[cfg(test)]
mod tests {
    use super::*;
    use boot_crypto::{Key, alias_key, equal, sha256};
    use hal::ReadError;
    use lifecycle::{Die, OtpImage};

    const MEASUREMENT: Digest = [0x4D; 32];
    const INSTALL: [u8; 32] = [0x49; 32];

    fn die() -> Die {
        Die {
            chip_id: [1; 16],
            silicon_secret: [2; 32],
            root_digest: [3; 32],
            provisioning_key: [4; 32],
            device_seed: [5; 32],
            closing_measurement: MEASUREMENT,
            floors: [0; 6],
            owner_generation: 0,
        }
    }

    /// flash0 as far as it holds the state of closing.
    struct Flash(Vec<u8>);

    impl Flash {
        fn with(state: &[u8]) -> Self {
            let mut bytes = vec![0xFF; CLOSING_STATE.end() as usize];
            bytes[CLOSING_STATE.base as usize..][..state.len()].copy_from_slice(state);
            Self(bytes)
        }

        fn pending() -> Self {
            Self::with(&ClosingState::encode(&INSTALL))
        }
    }

    impl Storage for Flash {
        fn size(&self) -> u64 {
            self.0.len() as u64
        }

        fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
            let from = self.0.get(offset as usize..).and_then(|rest| rest.get(..into.len()));
            into.copy_from_slice(from.ok_or(ReadError { offset })?);
            Ok(())
        }
    }

    fn page(lifecycle: Lifecycle, die: &Die, flash: &mut Flash, measurement: &Digest) -> SecretPage {
        let otp = OtpImage::for_die(lifecycle, die);
        let fuses = Fuses::read(&otp).expect("the fuses are whole");
        secret_page(&otp, flash, &fuses, measurement).expect("the stage gets its secrets")
    }

    /// The identity that the fuses of a die give it.
    fn identity(die: &Die) -> [u8; 64] {
        let die_secret = die_secret(&Key::new(die.silicon_secret));
        let root = boot_crypto::device_root(&die_secret, &Key::new(die.device_seed));
        identity_key(&root, &die.chip_id).public()
    }

    fn stage_secret_of(page: &SecretPage) -> [u8; 32] {
        match &page.secrets {
            Secrets::Provision { stage_secret, .. } => *stage_secret.expose(),
            Secrets::Production { .. } => panic!("secrets of the production stage"),
        }
    }

    #[test]
    fn the_provisioning_stage_gets_its_secret_and_a_statement_for_its_key() {
        for lifecycle in [Lifecycle::Secured, Lifecycle::Closing] {
            let die = die();
            let page = page(lifecycle, &die, &mut Flash::pending(), &MEASUREMENT);
            let silicon = Key::new(die.silicon_secret);
            let Secrets::Provision { stage_secret, die_secret: handed } = &page.secrets else {
                panic!("secrets of the production stage")
            };
            assert!(equal(handed.expose(), die_secret(&silicon).expose()).accepts());

            let evidence = page.evidence.as_ref().expect("always evidence");
            let public = die_key(&silicon).public();
            let statement = Statement::verify(evidence.statement.as_bytes(), &public).expect("it verifies");
            let expected = Statement {
                lifecycle: lifecycle.codeword(),
                measurement: MEASUREMENT,
                fuse_digest: sha256(&evidence.fuse_facts),
                subject: Subject::StageKey(alias_key(stage_secret).public()),
            };
            assert_eq!(statement, expected);
            assert_eq!(evidence.install, [0; 32]);
            let facts = FuseFacts::read(&OtpImage::for_die(lifecycle, &die)).expect("facts can be read");
            assert_eq!(evidence.fuse_facts, facts.encode());
        }
    }

    #[test]
    fn another_stage_and_another_die_get_another_secret_and_a_stage_that_resumes_closing_its_own() {
        let other_die = Die { silicon_secret: [6; 32], ..die() };
        let secret = |lifecycle, die: &Die, measurement| {
            stage_secret_of(&page(lifecycle, die, &mut Flash::with(&[]), measurement))
        };
        let own = secret(Lifecycle::Secured, &die(), &MEASUREMENT);
        assert_eq!(secret(Lifecycle::Closing, &die(), &MEASUREMENT), own);
        assert_ne!(secret(Lifecycle::Secured, &die(), &[0x4E; 32]), own);
        assert_ne!(secret(Lifecycle::Secured, &other_die, &MEASUREMENT), own);
    }

    #[test]
    fn a_production_boot_is_vouched_for_while_closing_is_pending() {
        let page = page(Lifecycle::Production, &die(), &mut Flash::pending(), &MEASUREMENT);
        assert!(matches!(page.secrets, Secrets::Production { .. }));
        let evidence = page.evidence.expect("closing is pending");
        let public = die_key(&Key::new(die().silicon_secret)).public();
        let expected = Statement {
            lifecycle: Lifecycle::Production.codeword(),
            measurement: MEASUREMENT,
            fuse_digest: sha256(&evidence.fuse_facts),
            subject: Subject::Closed(closing_digest(&INSTALL, &identity(&die()))),
        };
        assert_eq!(Statement::verify(evidence.statement.as_bytes(), &public), Ok(expected));
        assert_eq!(evidence.install, INSTALL);
    }

    #[test]
    fn a_die_that_burned_another_seed_proves_another_identity() {
        let subject = |die: &Die| {
            let page = page(Lifecycle::Production, die, &mut Flash::pending(), &MEASUREMENT);
            let evidence = page.evidence.expect("closing is pending");
            let public = die_key(&Key::new(die.silicon_secret)).public();
            Statement::verify(evidence.statement.as_bytes(), &public).expect("it verifies").subject
        };
        let other = Die { device_seed: [6; 32], ..die() };
        assert_eq!(subject(&other), Subject::Closed(closing_digest(&INSTALL, &identity(&other))));
        assert_ne!(subject(&other), subject(&die()));
    }

    #[test]
    fn nothing_is_vouched_for_without_a_pending_install() {
        let mut acknowledged = Flash::pending();
        let marker = (CLOSING_STATE.base + ClosingState::MARKER_OFFSET) as usize;
        acknowledged.0[marker..][..4].copy_from_slice(&ClosingState::ACKNOWLEDGED);
        let torn = &ClosingState::encode(&INSTALL)[..43];
        let short = Flash(vec![0; CLOSING_STATE.base as usize]);
        for mut flash in [Flash::with(&[]), Flash::with(torn), acknowledged, short] {
            let page = page(Lifecycle::Production, &die(), &mut flash, &MEASUREMENT);
            assert_eq!(page.evidence, None);
        }
        let development = page(Lifecycle::Development, &die(), &mut Flash::pending(), &MEASUREMENT);
        assert_eq!(development.evidence, None);
    }

    /// Whoever writes the fuses between two looks at them does not get a statement about what stage0 did not boot by.
    #[test]
    fn fuses_that_change_during_the_boot_are_refused() {
        let fuses = Fuses::read(&OtpImage::for_die(Lifecycle::Secured, &die())).expect("the fuses are whole");
        let now = OtpImage::for_die(Lifecycle::Production, &die());
        let page = secret_page(&now, &mut Flash::with(&[]), &fuses, &MEASUREMENT);
        assert_eq!(page.err(), Some(FailCode::LifecycleUnknown));
    }
}
