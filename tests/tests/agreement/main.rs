//! `kiln verify` says of an artefact what a device does with it: taken, or refused with the same code.
//!
//! | artefacts | the device |
//! |---|---|
//! | flash0 and disk of whole devices; images of stage2 and OS slots by themselves | the shipped stages in QEMU |
//! | images of stage1 | `boot-select`, which stage0 boots by |
//! | other images, bare manifests, delegations | `sealed-image` |
//! | tickets, receipts, device certificates | the session of `factory-proto`, with its keys |
//! | fuses | `lifecycle` and `boot-select` |
//!
//! The verdict comes from the library behind the command, or, for whole devices, from the command in a process of its own. A
//! class of artefacts that is not judged, too few of them, and any verdict that differs fail the test.

mod answers;
mod devices;
mod fuses;
mod ledger;
mod objects;
mod stages;

use ledger::Ledger;

#[test]
fn kiln_verify_judges_as_devices_do() {
    let mut ledger = Ledger::default();
    stages::judge(&mut ledger);
    objects::judge(&mut ledger);
    answers::judge(&mut ledger);
    fuses::judge(&mut ledger);
    devices::judge(&mut ledger);
    ledger.close();
}
