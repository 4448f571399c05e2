//! What the next stage gets of the die's secrets, and what stage0 vouches for.
//!
//! The next stage never sees the silicon secret, nor the die key, which signs what stage0 knows about the place: the
//! measurement of the stage, the fuses, and whose key the stage has or which install this boot proves closed.

use boot_crypto::{Digest, alias_key, die_key, die_secret, labels, rng_secret, stage_secret, storage_key};
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
            (Secrets::Provision { stage_secret, die_secret: die_secret(silicon) }, Some(subject))
        }
        Lifecycle::Production | Lifecycle::Development => {
            let (root, chip) = (device_root(fuses)?, fuses.chip_id());
            let os_storage_key = storage_key(&root, labels::STORAGE_OS, chip, fuses.owner_generation());
            let install = if lifecycle == Lifecycle::Production { pending_install(flash) } else { None };
            let secrets = Secrets::Production { os_storage_key, rng_secret: rng_secret(&root, chip) };
            (secrets, install.map(Subject::Install))
        }
        Lifecycle::Blank | Lifecycle::Returned => return Err(FailCode::LifecycleForbids),
    };
    let evidence = subject.map(|subject| vouch(otp, fuses, measurement, subject)).transpose()?;
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
    let install = match subject {
        Subject::Install(install) => install,
        Subject::StageKey(_) => [0; 32],
    };
    Ok(Evidence { statement: statement.sign(&die_key(fuses.silicon_secret())), fuse_facts, install })
}
