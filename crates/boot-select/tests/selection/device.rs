//! A die of an owner's, and what lies in its boot slots.

use boot_crypto::host::{Es256Key, random};
use boot_select::{BOOT_SLOTS, METADATA_ROOM, Selection, Stage, stage_key};
use fail_code::FailCode;
use hal::{ReadError, Storage};
use lifecycle::{Die, Fuses, Lifecycle, OtpImage, Row};
use memory_map::qemu_virt::{BOARD, BOOT_SLOT_B, STAGE_RUN};
use release::{Compression, DieSecrets, Owner, Profile, RoleKey};
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Kind, Role, Version};
use store::Slot;

/// Length of every stage here: three chunks, the last one short.
pub(crate) const PLAIN: usize = 2 * 4096 + 100;

/// How far the row of the closing measurement is burned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measurement {
    Blank,
    Torn,
    Own,
    Other,
}

/// An owner and one die.
pub(crate) struct Bench {
    owner: Owner,
    pub(crate) die: Die,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::signing_with(Profile::Production, fresh)
    }

    /// Makes an owner of its own who has delegated to such keys.
    pub(crate) fn signing_with(profile: Profile, key: impl Fn() -> Es256Key) -> Self {
        let root = fresh();
        let roles = [Role::Boot, Role::Provision]
            .map(|role| RoleKey::delegated_by(&root, role, BOARD, Box::new(key())).expect("a key signs"));
        let owner = Owner::new(profile, root.public(), roles.into()).expect("the profile admits the keys");
        let die = Die {
            chip_id: random(),
            silicon_secret: random(),
            root_digest: owner.root_digest(),
            provisioning_key: random(),
            device_seed: random(),
            closing_measurement: [0; 32],
            floors: [0; 6],
            owner_generation: 0,
        };
        Self { owner, die }
    }

    /// Signs a stage.
    pub(crate) fn stage(&self, kind: Kind, change: impl FnOnce(&mut Facts)) -> SignedPayload {
        let mut facts = Facts {
            kind,
            board: BOARD.into(),
            version: Version(1),
            rollback_index: 0,
            load_address: STAGE_RUN.base,
            entry: STAGE_RUN.base,
            chunk_size: 4096,
        };
        change(&mut facts);
        self.owner.sign(&facts, (0..PLAIN).map(|i| i as u8).collect()).expect("facts can be signed")
    }

    /// Returns the key that a kind of stage is sealed under.
    pub(crate) fn key(&self, kind: Kind) -> boot_crypto::Key {
        let die = &self.die;
        let secrets = DieSecrets::new(
            Profile::Development,
            &die.silicon_secret,
            &die.device_seed,
            die.chip_id,
            die.owner_generation.into(),
        );
        match kind {
            Kind::Stage1 => boot_crypto::Key::new(die.provisioning_key),
            _ => secrets.expect("a development host takes every secret").boot_key(),
        }
    }

    pub(crate) fn seal(&self, stage: &SignedPayload, under: Kind) -> Vec<u8> {
        stage.seal(&self.key(under), Compression::None).expect("a stage can be sealed")
    }

    /// Returns the fuses of the die in a state, with the closing measurement as it is told.
    pub(crate) fn otp(&self, lifecycle: Lifecycle, measurement: Measurement, own: [u8; 32]) -> OtpImage {
        let value = if measurement == Measurement::Other { random() } else { own };
        let mut otp = OtpImage::for_die(lifecycle, &Die { closing_measurement: value, ..self.die });
        let row = Row::ClosingMeasurement.words();
        match (lifecycle, measurement) {
            (Lifecycle::Secured, Measurement::Own | Measurement::Other) => {
                otp.record(Row::ClosingMeasurement, &value);
            }
            (Lifecycle::Secured, Measurement::Torn) => otp.words_mut()[row.start] = 0x0F0F_0F0F,
            (_, Measurement::Blank) => otp.words_mut()[row].fill(0),
            (_, Measurement::Torn) => otp.words_mut()[row].iter_mut().step_by(3).for_each(|word| *word = 0),
            _ => {}
        }
        otp
    }
}

fn fresh() -> Es256Key {
    Es256Key::from_scalar(&random()).expect("32 random bytes are a scalar")
}

/// flash0 as far as the boot slots reach.
pub(crate) struct Flash(pub(crate) Vec<u8>);

impl Flash {
    pub(crate) fn with(slot: Slot, image: &[u8]) -> Self {
        let mut bytes = vec![0xFF; BOOT_SLOT_B.end() as usize];
        bytes[BOOT_SLOTS.region(slot).base as usize..][..image.len()].copy_from_slice(image);
        Self(bytes)
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

/// Does what stage0 does with one slot: the code, or the stage and what is in memory.
pub(crate) fn select(otp: &OtpImage, flash: &mut Flash, slot: Slot) -> Result<(Stage, Vec<u8>), FailCode> {
    let fuses = Fuses::read(otp).map_err(|error| error.code())?;
    let selection = Selection::of(&fuses)?;
    let key = stage_key(&fuses)?;
    let mut buffer = [0; METADATA_ROOM];
    let found = selection.find(flash, BOOT_SLOTS.region(slot), STAGE_RUN, &mut buffer)?;
    let mut run = vec![0; found.plain_size() as usize];
    let stage = found.open(flash, &key, &mut run)?;
    Ok((stage, run))
}
