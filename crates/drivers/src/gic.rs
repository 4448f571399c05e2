//! GICv3 at EL3: every interrupt is the normal world's, but for the doorbell of Kiln's own cores.

use core::ptr::NonNull;

use arm_gic::gicv3::registers::{Gicd, GicdCtlr, GicrSgi};
use arm_gic::gicv3::{GicCpuInterface, GicV3, Group, SecureIntGroup, SgiTarget, SgiTargetGroup};
use arm_gic::{IntId, InterruptGroup, UniqueMmioPointer};
use spin::Mutex;

/// The doorbell: the last software-generated interrupt, in group 0, which the normal world can neither send nor
/// configure.
const DOORBELL: u32 = 15;
/// Above every priority that the normal world can give.
const DOORBELL_PRIORITY: u8 = 0x10;
/// Lets interrupts of every priority through.
const ALL_PRIORITIES: u8 = 0xFF;

/// The interrupt controller.
pub struct Gic {
    inner: Mutex<GicV3<'static>>,
}

impl Gic {
    /// Takes over the GIC and gives every shared interrupt to the normal world; `None` if it is not a GICv3.
    ///
    /// # Safety
    /// `gicr` must point to the redistributors of at least `cores` cores, mapped as device memory, and nothing else
    /// may use them while the `Gic` lives.
    pub unsafe fn new(
        gicd: UniqueMmioPointer<'static, Gicd>,
        gicr: NonNull<GicrSgi>,
        cores: usize,
    ) -> Option<Self> {
        // SAFETY: the caller promises the same.
        let mut inner = unsafe { GicV3::new(gicd, gicr, cores) }.ok()?;
        let distributor = inner.distributor();
        distributor.configure_default_settings();
        distributor.enable_affinity_routing_non_secure(true);
        distributor.modify_control(GicdCtlr::EnableGrp0, true);
        Some(Self { inner: Mutex::new(inner) })
    }

    /// Prepares the calling core, number `core`: its private interrupts go to the normal world, its doorbell to
    /// EL3, and the levels below get the system register interface. False if its redistributor does not answer.
    pub fn prepare_core(&self, core: usize) -> bool {
        GicCpuInterface::enable_system_register_el3(true);
        GicCpuInterface::enable_system_register_el2(true);
        let mut gic = self.inner.lock();
        gic.init_cpu(core);
        let Ok(mut redistributor) = gic.redistributor(core) else { return false };
        let doorbell = IntId::sgi(DOORBELL);
        redistributor.configure_default_settings();
        let ready = redistributor.set_group(doorbell, Group::Secure(SecureIntGroup::Group0)).is_ok()
            && redistributor.set_interrupt_priority(doorbell, DOORBELL_PRIORITY).is_ok()
            && redistributor.enable_interrupt(doorbell, true).is_ok();
        GicCpuInterface::set_priority_mask(ALL_PRIORITIES);
        GicCpuInterface::enable_group0(true);
        ready
    }

    /// Rings the doorbell of `core`, below 16, of cluster 0.
    pub fn ring(&self, core: usize) {
        let target =
            SgiTarget::List { affinity3: 0, affinity2: 0, affinity1: 0, target_list: 1 << (core & 15) };
        aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
        // The only error is an interrupt number that is no SGI.
        let _ = GicCpuInterface::send_sgi(IntId::sgi(DOORBELL), target, SgiTargetGroup::Group0);
        aarch64_cpu::asm::barrier::isb(aarch64_cpu::asm::barrier::SY);
    }

    /// Disables the normal world's interrupts at the calling core's interface; the normal world can enable them.
    pub fn shut_out(&self) {
        GicCpuInterface::enable_group1_non_secure(false);
    }

    /// Silences the calling core's doorbell if it rang.
    pub fn silence(&self) {
        // At EL3 the register also names interrupts of other groups that are pending, by special numbers.
        let acknowledge = || GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group0);
        while let Some(doorbell) = acknowledge().filter(|interrupt| *interrupt == IntId::sgi(DOORBELL)) {
            GicCpuInterface::end_interrupt(doorbell, InterruptGroup::Group0);
        }
    }
}
