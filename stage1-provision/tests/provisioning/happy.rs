//! Nothing goes wrong.

use std::rc::Rc;

use factory_proto::{Message, Outcome, Phase, Progress};
use lifecycle::{Lifecycle, vendor};
use release::audit::compare_blocks;
use release::{Compression, SiliconVendor};
use sim::authority::Desk;
use stage1_provision::End;
use stage1_provision::journal::Journal;
use stage1_provision::machine::{Entry, Step};

use crate::device::Device;
use crate::judge::{self, closed, leaks, nothing_leaked};
use crate::lot::{Lot, lot};
use crate::stage0;

/// A die of the lot, provisioned in one go.
fn provisioned(lot: &Rc<Lot>, number: u8, entropy: u64) -> (Device, Desk) {
    let mut device = Device::new(lot, &SiliconVendor::found().unwrap(), number, entropy);
    let desk = lot.desk(&device);
    let cycle = stage0::power_on(&mut device, desk.station());
    assert_eq!(cycle.end, End::Closed, "{}", cycle.console);
    (device, desk)
}

#[test]
fn a_die_is_provisioned_in_one_go_and_shows_nothing() {
    for compression in [Compression::None, Compression::Lz4] {
        let lot = Rc::new(lot(1, compression));
        let mut device = Device::new(&lot, &SiliconVendor::found().unwrap(), 1, 1);
        let desk = lot.desk(&device);
        let cycle = stage0::power_on(&mut device, desk.station());
        assert_eq!(cycle.end, End::Closed, "{}", cycle.console);
        closed(&device, &lot, desk.install());

        let seed = judge::keys(&device).seed;
        let scan = leaks(&lot, &[("the device seed", &seed)]);
        nothing_leaked(&device, &scan);
        assert_eq!(scan.scan(&cycle.link.sent), []);
        assert_eq!(scan.scan(cycle.console.as_bytes()), []);
        assert_eq!(scan.control(&device.storage()[0][..1 << 20]), scan.patterns());

        let book = desk.book();
        assert_eq!(book.csrs.len(), 1);
        let bank = device.flash_region(memory_map::qemu_virt::VENDOR_CERTIFICATE);
        assert_eq!(vendor::certificates(bank).count(), 2);
    }
}

#[test]
fn every_step_begins_and_ends_in_its_order_on_the_link_and_in_the_journal() {
    let lot = Rc::new(lot(1, Compression::None));
    let mut device = Device::new(&lot, &SiliconVendor::found().unwrap(), 1, 1);
    let desk = lot.desk(&device);
    let cycle = stage0::power_on(&mut device, desk.station());

    let progress: Vec<Progress> = cycle
        .link
        .frames
        .iter()
        .filter(|frame| frame.message == Message::Progress)
        .map(|frame| Progress::decode(&frame.body).unwrap())
        .collect();
    let steps: Vec<(u8, Phase)> = progress.iter().map(|it| (it.step, it.phase)).collect();
    let expected: Vec<(u8, Phase)> =
        (0..8).flat_map(|step| [(step, Phase::Begin), (step, Phase::End)]).collect();
    assert_eq!(steps, expected);
    assert!(progress.is_sorted_by_key(|it| it.micros));
    let bytes = |step: Step| progress.iter().rfind(|it| it.step == step.number()).unwrap().bytes;
    assert!(bytes(Step::ReKey) > 170_000 && bytes(Step::Replace) > 9_000);
    let last = cycle.link.frames.last().unwrap();
    assert_eq!((last.message, Outcome::decode(&last.body)), (Message::Outcome, Ok(Outcome { code: 0 })));
    assert_eq!(cycle.record.timestamps.as_slice().len(), 8);

    let (_, entries) = Journal::open(&mut device.flash).unwrap();
    let entries: Vec<Entry> = entries.iter().map(|recorded| recorded.entry).collect();
    assert_eq!(entries.len(), 18);
    let at = |entry| entries.iter().position(|other| *other == entry).unwrap();
    let order =
        [Step::ReKey, Step::Identity, Step::Replace, Step::CheckAndFuse].map(|step| at(Entry::Done(step)));
    assert!(order.is_sorted());
    assert_eq!(device.lifecycle(), Ok(Lifecycle::Production));
}

#[test]
fn two_dies_whose_entropy_is_known_share_neither_a_key_nor_a_block_of_ciphertext() {
    let lot = Rc::new(lot(1, Compression::None));
    let (a, desk_a) = provisioned(&lot, 1, 7);
    let (b, desk_b) = provisioned(&lot, 2, 7);
    assert_ne!(judge::keys(&a).seed, judge::keys(&b).seed);
    assert_ne!(desk_a.book().csrs.values().next().unwrap(), desk_b.book().csrs.values().next().unwrap());
    let (payloads_a, payloads_b) = (judge::payloads(&a), judge::payloads(&b));
    assert_eq!(payloads_a.len(), 2 + 2 + 2 * 4);
    let found = compare_blocks(&payloads_a, &payloads_b);
    assert!(found.compared[0] > 10_000, "{:?}", found.compared);
    assert_eq!((found.shared, found.first), (0, None));
    let copy = compare_blocks(&payloads_a, &payloads_a.clone());
    assert_eq!(copy.shared, copy.compared[0], "the control finds everything");
    // The places of one device have keys of their own as well.
    for (n, payload) in payloads_a.iter().enumerate() {
        let others: Vec<_> =
            payloads_a.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, it)| it.clone()).collect();
        assert_eq!(compare_blocks(std::slice::from_ref(payload), &others).shared, 0, "{}", payload.name);
    }
}
