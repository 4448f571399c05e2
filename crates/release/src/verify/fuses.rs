//! The fuses of a die, as its own stages read them.

use super::{Holding, Means, Verdict};
use crate::slot::part;
use crate::{Error, PackageFacts, hex};
use boot_select::Selection;
use fail_code::FailCode;
use lifecycle::{FuseFacts, Fuses, Lifecycle, OtpImage, Row, compare};
use memory_map::qemu_virt::{FLASH0, OTP};
use serde_json::{Value, json};

/// Verifies an OTP bank, or that of a flash.
pub(super) fn verify(untrusted: &[u8], means: &Means, hold: &mut Holding<'_>) -> Result<Verdict, Error> {
    let bank = if untrusted.len() as u64 == FLASH0.size { part(untrusted, OTP) } else { untrusted };
    let otp = OtpImage::from_flash(bank);
    let fuses = read(&otp, means, hold)?;
    let selection = Selection::of(&fuses).map_err(|code| Error::Refused {
        what: "the die boots nothing".into(),
        code,
        slots: Vec::new(),
    })?;
    hold.add("boots", format!("a {} that is signed and sealed for it", selection.kind().name()));
    let mut unchecked = Vec::new();
    match &means.package {
        Some(folder) => {
            let policy = PackageFacts::read(folder)?.policy;
            let expected = match fuses.lifecycle() {
                Lifecycle::Production => policy.production(),
                _ => policy.secured(),
            };
            let found = FuseFacts::read(&otp).map_err(Error::Fuses)?;
            compare(&expected, &found).map_err(Error::FusePolicy)?;
            hold.add("fuse policy", "every row and lock is as the package wants it");
        }
        None => {
            unchecked.push("locks and spare rows, which takes a lot's fuse policy: --package FOLDER".into())
        }
    }
    unchecked.push("that these are the die's fuses: whoever wrote the file wrote them".into());
    Ok(Verdict { artefact: "fuses", facts: facts(&fuses), unchecked })
}

/// Reads fuses with the stages' own reader, and finds the root among them.
pub(super) fn read(otp: &OtpImage, means: &Means, hold: &mut Holding<'_>) -> Result<Fuses, Error> {
    let fuses = Fuses::read(otp).map_err(Error::Fuses)?;
    let lifecycle = fuses.lifecycle();
    let corrected = Row::ALL.iter().filter(|row| fuses.corrected().contains(**row));
    let corrected: Vec<_> = corrected.map(|row| format!("{row:?}")).collect();
    let drift = match corrected.as_slice() {
        [] => "nothing had to be corrected".to_owned(),
        rows => format!("redundancy corrected {}", rows.join(", ")),
    };
    hold.add("fuses", format!("{}: every row that it needs is whole, {drift}", lifecycle.name()));
    let slot = fuses.root(&means.root_digest()).map_err(Error::Fuses)?;
    hold.add("owner root", format!("{} is in slot {slot}, and not revoked", means.by_root()));
    if lifecycle == Lifecycle::Development && !means.development {
        return Err(Error::Refused {
            what: "it is a development die, for which anybody can sign".into(),
            code: FailCode::TestKey,
            slots: Vec::new(),
        });
    }
    Ok(fuses)
}

/// What is known of a die by its fuses.
pub(super) fn facts(fuses: &Fuses) -> Vec<(&'static str, Value)> {
    vec![
        ("lifecycle", json!(fuses.lifecycle().name())),
        ("chip id", json!(hex(fuses.chip_id()))),
        ("owner generation", json!(fuses.owner_generation())),
    ]
}
