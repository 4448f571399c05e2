//! Power fails at every single operation of flash, disk and fuses, under the running stage: it sees the operation fail, and
//! whatever it still tries. What becomes of the many states that a cut can leave is the affair of `cuts`.

use std::rc::Rc;

use boot_crypto::host::remembering;
use boot_info::closing::ClosingState;
use lifecycle::{Fuses, Lifecycle};
use release::{Compression, SiliconVendor};
use sim::{Operation, Tear};
use stage1_provision::End;
use stage1_provision::journal::Journal;
use stage1_provision::machine::{Entry, Step};

use crate::device::Device;
use crate::judge::{closed, leaks, nothing_leaked};
use crate::lot::lot;
use crate::stage0;

/// Cuts power at every operation and carries on until the end. Returns the steps that were under way.
fn cut_everywhere() -> Vec<Option<Step>> {
    let lot = Rc::new(lot(1, Compression::None));
    let vendor = SiliconVendor::found().unwrap();
    let scan = leaks(&lot, &[]);
    let total = {
        let mut device = Device::new(&lot, &vendor, 1, 1);
        let desk = lot.desk(&device);
        assert_eq!(stage0::power_on(&mut device, desk.station()).end, End::Closed);
        device.power.operations()
    };
    assert!(total > 900, "only {total} operations");
    let mut steps = Vec::new();
    for cut in 0..total {
        let mut device = Device::new(&lot, &vendor, 1, 1);
        let desk = lot.desk(&device);
        device.power.cut_at(cut, Tear::Some);
        let cycle = stage0::power_on(&mut device, desk.station());
        assert!(device.power.is_off(), "operation {cut} was not reached");
        device.restart();

        let under_way = step_under_way(&mut device);
        steps.push(under_way);
        if cut % 16 == 0 {
            nothing_leaked(&device, &scan);
        }
        let context = format!("cut {cut} of {total}, in {under_way:?}");
        match device.lifecycle() {
            Ok(Lifecycle::Production) => {
                // Nothing was left to do but to say so.
                assert!(matches!(cycle.end, End::Closed | End::Refused(_)), "{context}");
            }
            Ok(Lifecycle::Secured | Lifecycle::Closing) => {
                assert!(matches!(cycle.end, End::Refused(_)), "{context}");
                Fuses::read(&device.otp.0).unwrap_or_else(|error| panic!("{context}: {error:?}"));
                let again = stage0::power_on(&mut device, desk.station());
                assert_eq!(again.end, End::Closed, "{context}: {}", again.console);
            }
            other => panic!("{context}: {other:?}"),
        }
        closed(&device, &lot, desk.install());
    }
    steps
}

/// Tells from the journal which step has begun and is not done.
pub(crate) fn step_under_way(device: &mut Device) -> Option<Step> {
    let (_, entries) = Journal::open(&mut device.flash).unwrap();
    let (mut begun, mut done) = (None, None);
    for recorded in entries {
        match recorded.entry {
            Entry::Begun(step) => begun = Some(step),
            Entry::Done(step) => done = Some(step),
            _ => {}
        }
    }
    begun.filter(|_| begun != done)
}

#[test]
fn a_cut_during_any_operation_is_made_good_by_the_next_start() {
    let steps = remembering(cut_everywhere);
    for step in [
        Step::ProvePlace,
        Step::Ask,
        Step::BeBorn,
        Step::ReKey,
        Step::Identity,
        Step::Replace,
        Step::CheckAndFuse,
    ] {
        assert!(steps.contains(&Some(step)), "no cut hit {step:?}");
    }
}

/// What says that the device owes a proof has to read alike in every boot: once the fuses are burned nobody writes it again.
#[test]
fn a_closing_state_of_which_a_bit_reads_otherwise_is_programmed_once_more() {
    let lot = Rc::new(lot(1, Compression::None));
    let vendor = SiliconVendor::found().unwrap();
    let start = Device::new(&lot, &vendor, 1, 1);
    let desk = lot.desk(&start);
    let state = ClosingState::encode(&desk.install());
    let marks =
        |operation: &Operation| matches!(operation, Operation::Program { bytes, .. } if *bytes == state);
    let mut whole = start.copy();
    whole.power.record();
    assert_eq!(stage0::power_on(&mut whole, desk.station()).end, End::Closed);
    let at = whole.power.recorded().iter().position(marks).unwrap();
    for seed in 0..24 {
        let mut device = start.copy();
        device.power.cut_with(at as u64, Tear::Weak, seed);
        stage0::power_on(&mut device, desk.station());
        device.restart();
        assert_eq!(device.flash.bank.inner.unstable().count(), 1, "seed {seed}: the cut left no such bit");
        assert_eq!(stage0::power_on(&mut device, desk.station()).end, End::Closed);
        assert_eq!(device.flash.bank.inner.unstable().count(), 0, "seed {seed}");
    }
}
