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

use ledger::{By, Ledger, verify};
use sealed_image::Kind;

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

/// The control of this rig: a device with another floor takes the same image, or refuses it.
#[test]
fn a_verdict_that_differs_is_seen() {
    let cases = stages::cases(Kind::Stage1);
    let case = cases.iter().find(|case| case.class == "good").expect("there is a good one");
    let mut ledger = Ledger::default();
    for (floor, differing) in [(0, 0), (64, 1)] {
        let means = release::Means { floors: floor.into(), ..case.means(Kind::Stage1) };
        ledger.enter(By::Libraries, case.class, &case.name, &Ok(String::new()), &verify(&case.image, &means));
        assert_eq!(ledger.differing.len(), differing, "{:?}", ledger.differing);
    }
}
