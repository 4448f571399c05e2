//! One image of a FIT: what it says it is, whether its data is what was signed, and the data itself.

use crate::Error;
use crate::signature::NOT_COVERED;
use crate::tree::{Node, Tree};
use dtoolkit::fdt::Fdt;
use flate2::bufread::GzDecoder;
use sha2::{Digest as _, Sha256};
use std::io::Read as _;

/// What a kernel may decompress to, in bytes: what U-Boot takes on the same board (`CONFIG_SYS_BOOTM_LEN`).
const MAX_KERNEL: u64 = 64 << 20;
/// How many times its size a device tree may decompress to, as in U-Boot.
const MAX_GROWTH: u64 = 20;
/// How many hashes an image may have, and how many signatures: U-Boot has room for no more pieces than these make.
const MAX_NODES: usize = 8;

/// An image, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The name of its node.
    pub name: String,
    /// What it says about itself.
    pub description: Option<String>,
    /// Its data; kernels and device trees decompressed.
    pub data: Vec<u8>,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Kernel,
    DeviceTree,
    Ramdisk,
}

impl Use {
    /// Returns the property of a configuration that names it, and the type that the image must have.
    pub(crate) const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Kernel => ("kernel", "kernel"),
            Self::DeviceTree => ("fdt", "flat_dt"),
            Self::Ramdisk => ("ramdisk", "ramdisk"),
        }
    }
}

/// Returns the hashes of an image, after looking that there is nothing in it that is not understood.
pub(crate) fn hashes<'t, 'a>(tree: &'t Tree<'a>, image: &'t Node<'a>) -> Result<Vec<&'t Node<'a>>, Error> {
    let mut hashes = Vec::new();
    let mut signatures = 0;
    for node in tree.children(image) {
        match node.name {
            name if name.starts_with("hash") && hashes.len() < MAX_NODES => hashes.push(node),
            // Of one image alone: not what is verified here, and harmless.
            name if name.starts_with("signature") && signatures < MAX_NODES => signatures += 1,
            "cipher" => return Err(unsupported(image, "encrypted data")),
            name => return Err(unsupported(image, &format!("a node `{name}`"))),
        }
    }
    if hashes.is_empty() {
        return Err(Error::NoHash { node: image.path.clone() });
    }
    Ok(hashes)
}

/// Refuses properties that no signature covers where they do not belong.
pub(crate) fn refuse_uncovered(node: &Node<'_>, is_image: bool) -> Result<(), Error> {
    let uncovered = |name: &&str| NOT_COVERED.contains(name) && !(is_image && *name == "data");
    match node.properties.iter().map(|property| property.name).find(uncovered) {
        Some(name) => Err(Error::External { node: node.path.clone(), property: name.into() }),
        None => Ok(()),
    }
}

/// Checks an image whose node is signed, and takes its data out.
pub(crate) fn take(image: &Node<'_>, hashes: &[&Node<'_>], wanted: Use) -> Result<Image, Error> {
    let (_, kind) = wanted.names();
    if image.text("type")? != kind {
        return Err(image.odd("type", "an image of another type is named in its place"));
    }
    // A device tree is for no system, and says of what architecture it is or does not.
    let says = |name| image.property(name).map(|_| image.text(name)).transpose();
    if wanted != Use::DeviceTree && image.text("os")? != "linux" {
        return Err(image.odd("os", "it is not `linux`"));
    }
    let architecture = match wanted {
        Use::Kernel => Some(image.text("arch")?),
        Use::DeviceTree | Use::Ramdisk => says("arch")?,
    };
    if architecture.is_some_and(|name| name != "arm64") {
        return Err(image.odd("arch", "it is not `arm64`"));
    }
    let compression = match wanted {
        Use::Kernel => Some(image.text("compression")?),
        Use::DeviceTree | Use::Ramdisk => says("compression")?,
    };
    if wanted == Use::Kernel {
        check_places(image)?;
    }
    let packed = image.value("data")?;
    let digest: [u8; 32] = Sha256::digest(packed).into();
    for hash in hashes {
        check_hash(hash, &digest)?;
    }
    let data = match (compression.unwrap_or("none"), wanted) {
        ("none", _) => packed.to_vec(),
        // Linux unpacks its initramfs itself, and U-Boot leaves that to it.
        ("gzip", Use::Ramdisk) => packed.to_vec(),
        ("gzip", Use::Kernel) => gunzip(image, packed, MAX_KERNEL)?,
        ("gzip", Use::DeviceTree) => gunzip(image, packed, packed.len() as u64 * MAX_GROWTH)?,
        (other, _) => return Err(unsupported(image, &format!("the compression `{other}`"))),
    };
    if data.is_empty() {
        return Err(image.odd("data", "it is empty"));
    }
    if wanted == Use::DeviceTree {
        Fdt::new(&data)
            .map_err(|error| Error::DeviceTree { node: image.path.clone(), reason: error.to_string() })?;
    }
    let description = says("description")?.map(str::to_owned);
    Ok(Image { name: image.name.into(), description, data })
}

/// Checks where a kernel says that it is loaded and entered: U-Boot wants to know, and Kiln enters its first byte.
fn check_places(kernel: &Node<'_>) -> Result<(), Error> {
    let (load, entry) = (kernel.value("load")?, kernel.value("entry")?);
    if !matches!(load.len(), 4 | 8) {
        return Err(kernel.odd("load", "it is no address"));
    }
    if load != entry {
        return Err(kernel.odd("entry", "it is not `load`: Kiln enters a kernel at its first byte"));
    }
    Ok(())
}

fn check_hash(hash: &Node<'_>, digest: &[u8; 32]) -> Result<(), Error> {
    let algorithm = hash.text("algo")?;
    if algorithm != "sha256" {
        let taken = "sha256";
        return Err(Error::Algorithm { node: hash.path.clone(), found: algorithm.into(), taken });
    }
    if hash.property("uboot-ignore").is_some() {
        return Err(hash.odd("uboot-ignore", "a hash that is not to be looked at protects nothing"));
    }
    if hash.value("value")? != digest {
        return Err(Error::Hash { node: hash.path.clone() });
    }
    Ok(())
}

fn gunzip(image: &Node<'_>, packed: &[u8], limit: u64) -> Result<Vec<u8>, Error> {
    let refuse = |reason: String| Error::Gzip { node: image.path.clone(), reason };
    let mut decoder = GzDecoder::new(packed);
    let mut data = Vec::new();
    let size =
        decoder.by_ref().take(limit + 1).read_to_end(&mut data).map_err(|error| refuse(error.to_string()))?;
    if size as u64 > limit {
        return Err(Error::TooLarge { node: image.path.clone(), limit });
    }
    if !decoder.into_inner().is_empty() {
        return Err(refuse("something follows it".into()));
    }
    Ok(data)
}

pub(crate) fn unsupported(node: &Node<'_>, what: &str) -> Error {
    Error::Unsupported { node: node.path.clone(), what: what.into() }
}
