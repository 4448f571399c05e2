//! stage0's and stage2's own code, on images by themselves.

use super::host::{Core, Host, Now, Uncached, Unlocked};
use crate::Error;
use crate::check::Judge;
use crate::slot::Placed;
use boot_crypto::Key;
use boot_crypto::host::random;
use boot_info::record::BootRecord;
use boot_info::{Stage, Timeline};
use boot_select::{METADATA_ROOM, Selection};
use fail_code::FailCode;
use lifecycle::{Die, Fuses, Lifecycle, OtpImage, ROLES, ROOT_SLOTS};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_LOG, DRAM_BASE, DRAM_MIN, OS_LOAD, STAGE_CODE};
use sealed_image::Kind;
use stage2_production::device_tree::{FixUps, finish};
use stage2_production::load::{Trust, load};
use zeroize::Zeroizing;

/// Has stage0's own code find a stage, and with the key open it; returns its length in the clear then, in bytes.
pub(crate) fn boot_stage(
    untrusted: &[u8],
    kind: Kind,
    judge: &Judge<'_>,
    key: Option<&Key>,
) -> Result<Option<u64>, Error> {
    let fuses = Fuses::read(&model(kind, judge)?).map_err(Error::Fuses)?;
    let refused = |what: &str| {
        let what = format!("{} {what}", kind.name());
        move |code| Error::Refused { what, code, slots: Vec::new() }
    };
    let selection = Selection::of(&fuses).map_err(refused("of such a die is not booted"))?;
    let mut slot = Placed::new(untrusted, kind);
    let region = slot.region();
    let mut buffer = [0; METADATA_ROOM];
    let found =
        selection.find(&mut slot, region, STAGE_CODE, &mut buffer).map_err(refused("is not booted"))?;
    let Some(key) = key else { return Ok(None) };
    let mut run = Zeroizing::new(vec![0; STAGE_CODE.size as usize]);
    let stage = found.open(&mut slot, key, &mut run).map_err(refused("does not open"))?;
    if !stage.is_in(&run).accepts() {
        return Err(refused("is not what was signed")(FailCode::LooksDiffer));
    }
    Ok(Some(stage.record.plain_bytes))
}

/// Makes the fuses of a die that boots such a stage; what is not given is nobody's.
fn model(kind: Kind, judge: &Judge<'_>) -> Result<OtpImage, Error> {
    let lifecycle = match kind {
        Kind::Stage1 => Lifecycle::Secured,
        _ if judge.refuse_test_keys => Lifecycle::Production,
        _ => Lifecycle::Development,
    };
    let [root, revoked @ ..] = judge.roots.as_slice() else {
        return Err(Error::Fuses(lifecycle::Error::NoOwnerRoot));
    };
    let die = Die {
        chip_id: random(),
        silicon_secret: random(),
        root_digest: root.digest,
        provisioning_key: random(),
        device_seed: random(),
        closing_measurement: random(),
        floors: judge.floors,
        owner_generation: 0,
    };
    let mut otp = OtpImage::for_die(lifecycle, &die);
    for (number, root) in revoked.iter().enumerate() {
        let slot = number + 1;
        if slot >= ROOT_SLOTS {
            return Err(Error::TooLarge {
                what: "the list of revoked roots",
                size: revoked.len() as u64,
                room: ROOT_SLOTS as u64 - 1,
            });
        }
        otp.root(slot, &root.digest).revoke_root(slot);
    }
    Ok(otp)
}

/// Has stage2's own loader load an OS slot, and fill in its device tree as on the least machine that boots: 256 MiB, one core.
pub(super) fn load_system(slot: &[u8], judge: &Judge<'_>, key: &Key) -> Result<(), Error> {
    let mut host = Host::with(Placed::new(slot, Kind::Bundle));
    let region = Placed::new(slot, Kind::Bundle).region();
    let mut floors = [0; 8];
    // The loader has them by the number of the role, the first of which is 1.
    floors[1..=usize::from(ROLES)].copy_from_slice(&judge.floors.map(u32::from));
    let trust = Trust { roots: judge.roots.clone(), floors, refuse_test_keys: judge.refuse_test_keys };
    let mut memory = Zeroizing::new(vec![0; OS_LOAD.size as usize]);
    let mut record = BootRecord::default();
    let mut timeline = Timeline::new(&mut record, Stage::Stage2, 0);
    let storage_key = || Ok(Key::new(*key.expose()));
    let loaded = load(
        region,
        &trust,
        &storage_key,
        &mut host,
        &mut Core,
        &Uncached,
        &Unlocked,
        &Now,
        &mut memory,
        OS_LOAD,
        &mut timeline,
    );
    let confirmed = loaded.and_then(|loaded| loaded.confirm(&trust, &mut memory, OS_LOAD));
    let refused = |what: &str, code| Error::Refused {
        what: format!("the {what} is not loaded"),
        code,
        slots: Vec::new(),
    };
    let os = confirmed.map_err(|error| refused(error.kind().map_or("OS slot", Kind::name), error.code()))?;
    let fix_ups = FixUps {
        memory: Region::new(DRAM_BASE, DRAM_MIN),
        cores: &[0],
        command_line: &os.command_line,
        initramfs: os.initramfs.map(|held| held.place),
        rng_seed: &random::<64>(),
        kaslr_seed: 0,
        boot_record: BOOT_LOG,
    };
    let signed = os.device_tree;
    let start = (signed.place.base - OS_LOAD.base) as usize;
    let tree = memory.get(start..).unwrap_or_default();
    let filled = finish(tree, &signed, [&fix_ups, &fix_ups]);
    filled.map(|_| ()).map_err(|code| refused(Kind::DeviceTree.name(), code))
}
