//! Images: stages as stage0 judges them, the rest as the stages after it do.

use super::host::{Core, Host, Now, Uncached};
use super::{Holding, Means, Verdict};
use crate::check::{self, OpenedImage};
use crate::inspect::describe;
use crate::slot::Placed;
use crate::{Error, ImageInfo, hex};
use boot_crypto::Key;
use boot_crypto::host::random;
use boot_info::record::BootRecord;
use boot_info::{Stage, Timeline};
use boot_select::{METADATA_ROOM, Selection};
use fail_code::FailCode;
use lifecycle::{Die, Fuses, Lifecycle, OtpImage, ROLES, ROOT_SLOTS};
use memory_map::qemu_virt::{OS_LOAD, STAGE_CODE};
use sealed_image::{Kind, PublicKey, Role};
use serde_json::{Value, json};
use stage2_production::load::{Trust, load};
use zeroize::Zeroizing;

/// Verifies a stage as stage0 of a die with these roots and this floor would.
pub(super) fn verify_stage(
    untrusted: &[u8],
    kind: Kind,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let opened = boot_stage(untrusted, kind, means, means.key.as_ref())?;
    hold.add(
        "signatures",
        format!("stage0 takes it: of the role {}, which {} delegates to", role(kind), means.by_root()),
    );
    hold.add("place", "it is made for the memory that stages run in");
    let mut unchecked = Vec::new();
    if let Some(bytes) = opened {
        hold.add("payload", format!("opened, all {bytes} bytes are what was signed"));
    } else {
        unchecked.push("the payload, which takes the key that it is sealed under: --key FILE".into());
    }
    let info = describe(untrusted, 0).map_err(|error| Error::Image { offset: 0, error })?;
    if opened.is_none() && info.stored_bytes > untrusted.len() as u64 {
        return Err(Error::SlotTruncated { offset: 0 });
    }
    unchecked.extend(beyond(untrusted, &info));
    Ok(Verdict { artefact: kind.name(), facts: facts(&info), unchecked })
}

/// Has stage0's own code find a stage, and with the key open it; returns its length in the clear then, in bytes.
pub(super) fn boot_stage(
    untrusted: &[u8],
    kind: Kind,
    means: &Means,
    key: Option<&Key>,
) -> Result<Option<u64>, Error> {
    let fuses = Fuses::read(&model(kind, means)?).map_err(Error::Fuses)?;
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
fn model(kind: Kind, means: &Means) -> Result<OtpImage, Error> {
    let lifecycle = match kind {
        Kind::Stage1 => Lifecycle::Secured,
        _ if means.development => Lifecycle::Development,
        _ => Lifecycle::Production,
    };
    let die = Die {
        chip_id: random(),
        silicon_secret: random(),
        root_digest: means.root_digest(),
        provisioning_key: random(),
        device_seed: random(),
        closing_measurement: random(),
        floors: [means.floor; ROLES as usize],
        owner_generation: 0,
    };
    let mut otp = OtpImage::for_die(lifecycle, &die);
    for (number, key) in means.revoked.iter().enumerate() {
        let slot = number + 1;
        if slot >= ROOT_SLOTS {
            return Err(Error::TooLarge {
                what: "the list of revoked roots",
                size: means.revoked.len() as u64,
                room: ROOT_SLOTS as u64 - 1,
            });
        }
        otp.root(slot, &PublicKey::P256(*key).thumbprint()).revoke_root(slot);
    }
    Ok(otp)
}

fn role(kind: Kind) -> &'static str {
    kind.role().map_or("none", Role::name)
}

/// Verifies images that lie one after the other, the first of which has to be of this kind.
pub(super) fn verify_images(
    untrusted: &[u8],
    first: Kind,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let judge = means.judge();
    let mut unchecked = Vec::new();
    let images: Vec<ImageInfo> = match (&means.key, first) {
        (None, _) => {
            let images = check::verify_signatures(untrusted, first, &judge)?;
            unchecked.push("the payloads, which takes the key that they are sealed under: --key FILE".into());
            if first == Kind::Bundle {
                unchecked.push("whether the bundle names these objects, which is in its payload".into());
            }
            images
        }
        (Some(key), Kind::Package) => {
            let opened = check::open_package(untrusted, &judge, key)?;
            hold.add("payloads", format!("all {} opened, every byte is what was signed", opened.len()));
            hold.add("package", "its index names these objects, and the bundle those of the system");
            infos(opened)
        }
        (Some(key), Kind::Bundle) => {
            load_system(untrusted, means, key)?;
            hold.add("payloads", "stage2's loader opened all, every byte is what was signed");
            hold.add("bundle", "names these objects, which have room in memory beside each other");
            unchecked.push("what stage2 changes in the device tree: that takes a whole device".into());
            infos(check::open_system(untrusted, &judge, key)?)
        }
        (Some(key), _) => {
            let opened = check::open_first(untrusted, first, &judge, key)?;
            hold.add("payload", "opened, every byte is what was signed");
            infos(vec![opened])
        }
    };
    unchecked.extend(images.last().and_then(|last| beyond(untrusted, last)));
    let list: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    hold.add("signatures", format!("as devices want them, up to {}: {}", means.by_root(), list.join(", ")));
    let artefact = match first {
        Kind::Package => "package",
        Kind::Bundle if images.len() > 1 => "OS slot",
        _ => first.name(),
    };
    let facts = match images.as_slice() {
        [image] => facts(image),
        images => vec![
            ("board", json!(images[0].board)),
            ("version", json!(images[0].version.to_string())),
            ("images", json!(list)),
            ("manifests", images.iter().map(|image| hex(&image.digest)).collect()),
        ],
    };
    Ok(Verdict { artefact, facts, unchecked })
}

fn infos(opened: Vec<OpenedImage>) -> Vec<ImageInfo> {
    opened.into_iter().map(|image| image.info).collect()
}

/// Tells where something lies behind the last image that devices read, and which images that is, as far as it is any.
pub(super) fn beyond(slot: &[u8], last: &ImageInfo) -> Option<String> {
    let end = usize::try_from(last.offset.checked_add(last.stored_bytes)?).ok()?;
    // Flash is erased to ones, and images are filled up with zeros.
    let first = end + slot.get(end..)?.iter().position(|byte| !matches!(byte, 0 | 0xFF))?;
    let mut text = format!("what lies behind, from byte {first:#x} on, which no device reads");
    let mut next = first;
    // What lies there may be anything.
    while let Some(image) = slot.get(next..).and_then(|rest| describe(rest, next as u64).ok()) {
        text += if next == first { ": " } else { ", " };
        text += image.kind.name();
        next = next.saturating_add(image.stored_bytes.next_multiple_of(store::ALIGN) as usize);
    }
    Some(text)
}

/// Has stage2's own loader load an OS slot.
pub(super) fn load_system(slot: &[u8], means: &Means, key: &Key) -> Result<(), Error> {
    let mut host = Host::with(Placed::new(slot, Kind::Bundle));
    let region = Placed::new(slot, Kind::Bundle).region();
    let trust = Trust {
        roots: means.roots(),
        floors: [u32::from(means.floor); 8],
        refuse_test_keys: !means.development,
    };
    let mut memory = Zeroizing::new(vec![0; OS_LOAD.size as usize]);
    let mut record = BootRecord::default();
    let mut timeline = Timeline::new(&mut record, Stage::Stage2, 0);
    let loaded =
        load(region, &trust, key, &mut host, &mut Core, &Uncached, &Now, &mut memory, OS_LOAD, &mut timeline);
    let confirmed = loaded.and_then(|loaded| loaded.confirm(&trust, &mut memory, OS_LOAD));
    confirmed.map(|_| ()).map_err(|error| Error::Refused {
        what: format!("the {} is not loaded", error.kind().map_or("OS slot", Kind::name)),
        code: error.code(),
        slots: Vec::new(),
    })
}

/// What is known of one image.
fn facts(image: &ImageInfo) -> Vec<(&'static str, Value)> {
    vec![
        ("kind", json!(image.kind.name())),
        ("board", json!(image.board)),
        ("version", json!(image.version.to_string())),
        ("rollback index", json!(image.rollback_index)),
        ("manifest", json!(hex(&image.digest))),
    ]
}
