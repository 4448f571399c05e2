//! What lies on a development device: everything signed by the published test owner and sealed for one die; and the way
//! back from what lies on any device, with the device's own verification.

use anyhow::{Context as _, Result, anyhow, bail};
use lifecycle::{Die, Fuses, Lifecycle, OtpImage, RootSlot};
use memory_map::qemu_virt as board;
use release::{Compression, DieSecrets, FlashLayout, Identity, OsParts, OsRelease, Profile, test_keys};

use crate::device::{Device, Storage};
use crate::firmware::Firmware;
use crate::input::Input;

/// The lifecycle of the dies that this makes.
const LIFECYCLE: Lifecycle = Lifecycle::Development;

/// A development die.
pub struct DevelopmentDie {
    /// Its id.
    pub chip_id: [u8; 16],
    otp: OtpImage,
}

impl DevelopmentDie {
    /// Makes a new die: published secrets, and an id of its own.
    ///
    /// # Errors
    /// Does not fail with the published keys.
    pub fn new(chip_id: [u8; 16]) -> Result<Self> {
        let die = Die {
            chip_id,
            silicon_secret: test_keys::silicon_secret(),
            root_digest: test_keys::owner()?.root_digest(),
            provisioning_key: [0; 32],
            device_seed: test_keys::device_seed(),
            closing_measurement: [0; 32],
            floors: [0; 6],
            owner_generation: 0,
        };
        Ok(Self { chip_id, otp: OtpImage::for_die(LIFECYCLE, &die) })
    }

    /// Takes the die that a device has, with all that is burned into it.
    ///
    /// # Errors
    /// If its fuses cannot be read, or it is no development die.
    pub fn of(device: &Device) -> Result<Self> {
        let otp = device.otp()?;
        let fuses = read(&otp)?;
        if fuses.lifecycle() != LIFECYCLE {
            bail!("the device's die is {}, not {}", fuses.lifecycle().name(), LIFECYCLE.name());
        }
        Ok(Self { chip_id: *fuses.chip_id(), otp })
    }

    /// Returns the name of its lifecycle.
    pub fn lifecycle(&self) -> &'static str {
        LIFECYCLE.name()
    }

    /// Returns what its OTP bank holds.
    pub fn otp_bank(&self) -> Vec<u8> {
        self.otp.to_flash(board::OTP.size as usize)
    }

    fn secrets(&self) -> Result<DieSecrets> {
        Ok(test_keys::die(self.chip_id)?)
    }
}

fn read(otp: &OtpImage) -> Result<Fuses> {
    Fuses::read(otp).map_err(|error| anyhow!("the device's fuses: {}", error.code()))
}

/// Returns the keys that a device derives for its storage, and the digest of its owner's root key. The emulator's
/// host can read what a real die would keep to itself.
fn keys(device: &Device) -> Result<(DieSecrets, [u8; 32])> {
    let fuses = read(&device.otp()?)?;
    let seed = fuses.device_seed().context("the device has not been provisioned to the end")?;
    let root = fuses.roots().iter().find_map(|slot| match slot {
        RootSlot::Active(digest) => Some(*digest),
        _ => None,
    });
    // Development dies hold published secrets.
    let profile = if fuses.lifecycle() == LIFECYCLE { Profile::Development } else { Profile::Production };
    let (silicon, generation) = (fuses.silicon_secret().expose(), fuses.owner_generation());
    let secrets = DieSecrets::new(profile, silicon, seed.expose(), *fuses.chip_id(), generation)?;
    Ok((secrets, root.context("the device has no owner")?))
}

/// Signs everything and seals it for `die`, each copy under keys of its own.
///
/// # Errors
/// If an object does not fit its place.
pub fn make(firmware: &Firmware, input: &Input, die: &DevelopmentDie) -> Result<Storage> {
    let owner = test_keys::owner()?;
    let identity = Identity {
        board: board::BOARD.into(),
        version: env!("CARGO_PKG_VERSION")
            .parse()
            .ok()
            .context("the workspace's version is no release version")?,
        rollback_index: 0.into(),
    };
    let secrets = die.secrets()?;
    let stage2 = owner.sign_stage2(&identity, firmware.stage2.flat.clone())?;
    let parts = OsParts {
        kernel: input.kernel.clone(),
        device_tree: input.dtb.clone(),
        initramfs: input.initramfs.clone(),
        cmdline: input.cmdline.clone(),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    };
    let system = OsRelease::sign(&owner, &identity, parts)?;
    let boot_slots = [0, 1].map(|_| stage2.seal(&secrets.boot_key(), Compression::None));
    let [slot_a, slot_b] = boot_slots;
    let (slot_a, slot_b) = (slot_a?, slot_b?);
    let flash0 = FlashLayout {
        stage0: &firmware.stage0.flat.bytes,
        slot_a: Some(&slot_a),
        slot_b: Some(&slot_b),
        otp: &die.otp_bank(),
    };
    Ok(Storage {
        flash0: flash0.image()?,
        os_slot_a: system.seal_slot(&secrets.os_key())?,
        os_slot_b: system.seal_slot(&secrets.os_key())?,
    })
}

/// The objects of a device in the clear.
#[derive(Debug)]
pub struct Plain {
    /// The stage that boots Linux.
    pub stage2: Vec<u8>,
    /// What it boots, each with the name of its kind.
    pub system: Vec<(&'static str, Vec<u8>)>,
}

impl Plain {
    /// Verifies and opens every object of a device, in both slots, as the device itself does.
    ///
    /// # Errors
    /// If an object is not signed or not encrypted, or would be refused for any other reason.
    pub fn open(device: &Device) -> Result<Self> {
        let (secrets, root) = keys(device)?;
        let mut stage2 = Vec::new();
        for slot in [board::BOOT_SLOT_B, board::BOOT_SLOT_A] {
            let slot = device.read_flash0(slot.base - board::FLASH0.base, slot.size)?;
            let opened = release::open_boot_slot(&slot, board::BOARD, root, &secrets.boot_key());
            stage2 = opened.context("a boot slot would be refused")?.plain.to_vec();
        }
        let mut system = Vec::new();
        for slot in [board::OS_SLOT_B, board::OS_SLOT_A] {
            let slot = device.read_disk(slot.base, slot.size)?;
            let opened = release::open_os_slot(&slot, board::BOARD, root, &secrets.os_key());
            let opened = opened.context("an OS slot would be refused")?;
            system = opened
                .into_iter()
                .skip(1)
                .map(|image| (image.info.kind.name(), image.plain.to_vec()))
                .collect();
        }
        Ok(Self { stage2, system })
    }

    /// Returns every object with its name.
    pub fn objects(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let system = self.system.iter().map(|(name, plain)| (*name, plain.as_slice()));
        std::iter::once(("stage2", self.stage2.as_slice())).chain(system)
    }
}
