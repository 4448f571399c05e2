//! A die in the hands of somebody who wants something else than its owner.

use std::rc::Rc;

use factory_proto::{Message, Outcome};
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B};
use release::audit::LeakScan;
use release::{Compression, SiliconVendor};
use sim::authority::{Desk, Station};
use stage1_provision::End;

use crate::device::{Cycle, Device};
use crate::judge::{closed, leaks, nothing_leaked};
use crate::lot::{Lot, lot};
use crate::stage0;

/// A die of a lot, before its first start in the factory.
pub(crate) struct Case {
    pub(crate) lot: Rc<Lot>,
    pub(crate) device: Device,
    pub(crate) desk: Desk,
    scan: LeakScan,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self::of(&Rc::new(lot(1, Compression::None)), 1)
    }

    /// Die number `number` of a lot.
    pub(crate) fn of(lot: &Rc<Lot>, number: u8) -> Self {
        let device = Device::new(lot, &SiliconVendor::found().unwrap(), number, u64::from(number));
        let desk = lot.desk(&device);
        Self { lot: lot.clone(), device, desk, scan: leaks(lot, &[]) }
    }

    /// Runs stage1 once.
    pub(crate) fn run(&mut self, station: Station) -> Cycle {
        stage0::power_on(&mut self.device, station)
    }

    /// Runs stage1 once and checks that it refuses with this code and says so everywhere, that no fuse has burned, that
    /// nothing of the package is to be seen anywhere, and that the device still boots stage1.
    pub(crate) fn is_refused(&mut self, station: Station, code: FailCode) -> Cycle {
        let fuses = self.device.otp.0.contents().to_vec();
        let cycle = self.run(station);
        assert_eq!(cycle.end, End::Refused(code), "{}", cycle.console);
        assert!(self.device.otp.0.contents() == fuses, "a fuse has burned");
        self.is_still_secured();

        assert_eq!(cycle.record.code, code.number());
        let outcome = cycle.link.frames.iter().rfind(|frame| frame.message == Message::Outcome).unwrap();
        assert_eq!(Outcome::decode(&outcome.body), Ok(Outcome { code: code.number() }));
        assert!(cycle.console.ends_with(&format!("stage1: stopped: {code}\r\n")), "{}", cycle.console);
        for seen in [&cycle.link.sent[..], cycle.console.as_bytes()] {
            assert_eq!(self.scan.scan(seen), []);
        }
        cycle
    }

    /// Checks that the device boots stage1 and holds no plaintext.
    pub(crate) fn is_still_secured(&self) {
        assert_eq!(self.device.lifecycle(), Ok(Lifecycle::Secured));
        nothing_leaked(&self.device, &self.scan);
        let bootable = [BOOT_SLOT_A, BOOT_SLOT_B]
            .map(|slot| self.device.flash_region(slot).starts_with(&self.lot.release.stage1));
        assert!(bootable.contains(&true), "the only stage1 is gone");
    }

    /// Runs stage1 once more with an honest station and checks that this closes the device. Returns its console.
    pub(crate) fn closes(&mut self) -> String {
        let cycle = self.run(self.desk.station());
        assert_eq!(cycle.end, End::Closed, "{}", cycle.console);
        closed(&self.device, &self.lot, self.desk.install());
        nothing_leaked(&self.device, &self.scan);
        cycle.console
    }
}
