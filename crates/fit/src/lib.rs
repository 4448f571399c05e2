//! U-Boot's flattened image trees (FIT): verified as U-Boot verifies them, or more strictly, and taken apart.
//!
//! A FIT is a device tree that holds kernels, device trees and ramdisks, and configurations that say which of them belong
//! together. `mkimage` signs a configuration; a hash in each image ties its data to the signature. [`verify`] returns the
//! parts of one configuration, and nothing of a FIT that does not hold.
//!
//! ```text
//!  /                                description, timestamp         ┐
//!  ├─ images                                                       │
//!  │   ├─ kernel-1                  type, os, arch, compression    │ a signature covers
//!  │   │   │                        data                           │ all but `data`
//!  │   │   └─ hash-1                algo, value = SHA-256(data)    │
//!  │   ├─ fdt-1, ramdisk-1 …                                       │
//!  └─ configurations                default: no signature covers it
//!      └─ conf-1                    kernel, fdt, ramdisk           ┘
//!          └─ signature-1           algo, value, hashed-nodes, hashed-strings: nothing covers them
//! ```
//!
//! # Threats
//! *Whoever can write the file* and has no key wants something of theirs to be released. U-Boot was broken here more than
//! once, always by metadata that nothing signs, or by two readings of one tree:
//!
//! - `hashed-nodes` and `hashed-strings` choose what is verified, and are not signed (CVE-2020-10648, CVE-2026-46728). What
//!   a configuration uses decides here what has to be covered, and the strings have to hold every name that counts.
//! - A node with a unit address is taken for another (CVE-2021-27138), a second root or a second node of the same name for
//!   the first (CVE-2021-27097). The tree is read in one strict form; every other is refused.
//! - Sizes are used before they are verified (CVE-2018-18439, CVE-2018-18440). All sizes are held against the file before
//!   anything is read by them, and what is decompressed has a bound.
//! - Images with a signature each can be mixed. Only a signed configuration is taken.
//! - Data outside of the tree (`mkimage -E`) is found by a property that is not signed. It is refused.
//! - A weak hash lets another image have the same one. Only SHA-256 is taken, also next to a better one.
//!
//! What a signature does not say is which of several signed configurations is meant, nor that it is the newest: `default`
//! can be altered by anybody, and an old FIT is as well signed as a new one. Whoever calls this names the configuration, or
//! looks at which one it was.
//!
//! Nothing in here panics on any input: a test feeds it altered FITs by the thousand.
#![forbid(unsafe_code)]

mod error;
mod image;
mod key;
mod signature;
mod tree;

pub use error::{Error, KeyError};
pub use image::Image;
pub use key::Key;

use image::Use;
use tree::{Node, Tree, texts};

/// The parts of a configuration, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The name of the configuration.
    pub configuration: String,
    /// What the FIT says about itself.
    pub description: String,
    /// The path of the signature that holds.
    pub signature: String,
    /// Its algorithm, such as `sha256,rsa2048`.
    pub algorithm: String,
    /// The kernel, decompressed.
    pub kernel: Image,
    /// The device tree, decompressed.
    pub device_tree: Option<Image>,
    /// The ramdisk, as Linux gets it.
    pub ramdisk: Option<Image>,
}

/// Verifies a FIT and takes one of its configurations, the default one where none is named.
///
/// # Errors
/// Whatever does not hold, or is not understood.
pub fn verify(untrusted: &[u8], key: &Key, configuration: Option<&str>) -> Result<System, Error> {
    let tree = Tree::parse(untrusted)?;
    let root = tree.root()?;
    // U-Boot wants both; `mkimage` writes the second.
    let description = root.text("description")?;
    if root.value("timestamp")?.len() != 4 {
        return Err(root.odd("timestamp", "it is not one number"));
    }
    if let Some(other) = tree.children(root).find(|node| !["images", "configurations"].contains(&node.name)) {
        return Err(image::unsupported(root, &format!("a node `{}`", other.name)));
    }
    let part =
        |name: &str| tree.child(root, name).ok_or_else(|| Error::NoNode { node: format!("node /{name}") });
    let (images, configurations) = (part("images")?, part("configurations")?);
    let configuration = choose(&tree, configurations, configuration)?;

    let mut used = Vec::new();
    let mut parts = Vec::new();
    for wanted in [Use::Kernel, Use::DeviceTree, Use::Ramdisk] {
        let Some(image) = named(&tree, images, configuration, wanted)? else { continue };
        let hashes = image::hashes(&tree, image)?;
        used.push(image);
        used.extend(&hashes);
        parts.push((wanted, image, hashes));
    }
    for node in [root, configuration].iter().chain(&used) {
        image::refuse_uncovered(node, parts.iter().any(|(_, image, _)| image.path == node.path))?;
    }
    let (signature, algorithm) = signature::verify(&tree, configuration, &used, key)?;

    // From here on every node that is read is signed, and the data is as soon as its hashes hold.
    let taken: Vec<(Use, Image)> = parts
        .into_iter()
        .map(|(wanted, image, hashes)| Ok((wanted, image::take(image, &hashes, wanted)?)))
        .collect::<Result<_, Error>>()?;
    let part = |wanted| taken.iter().find(|(found, _)| *found == wanted).map(|(_, image)| image.clone());
    Ok(System {
        configuration: configuration.name.into(),
        description: description.into(),
        signature,
        algorithm,
        kernel: part(Use::Kernel)
            .ok_or_else(|| Error::Missing { node: configuration.path.clone(), property: "kernel" })?,
        device_tree: part(Use::DeviceTree),
        ramdisk: part(Use::Ramdisk),
    })
}

/// Finds a configuration, in which there is nothing that is not understood.
fn choose<'t, 'a>(
    tree: &'t Tree<'a>,
    configurations: &'t Node<'a>,
    name: Option<&str>,
) -> Result<&'t Node<'a>, Error> {
    let name = match name {
        Some(name) => name,
        None => configurations.text("default")?,
    };
    let found = tree.child(configurations, name).ok_or_else(|| Error::NoConfiguration {
        name: name.into(),
        found: tree.children(configurations).map(|node| node.name.to_owned()).collect(),
    })?;
    let known = ["description", "compatible", "kernel", "fdt", "ramdisk"];
    match found.properties.iter().find(|property| !known.contains(&property.name)) {
        Some(other) => Err(image::unsupported(found, &format!("`{}`", other.name))),
        None => Ok(found),
    }
}

/// Finds the image that a configuration names for a use.
fn named<'t, 'a>(
    tree: &'t Tree<'a>,
    images: &'t Node<'a>,
    configuration: &Node<'a>,
    wanted: Use,
) -> Result<Option<&'t Node<'a>>, Error> {
    let (property, _) = wanted.names();
    let names = match configuration.property(property) {
        Some(said) => texts(said.value)
            .ok_or_else(|| configuration.odd(property, "it is not one text that a NUL ends"))?,
        None if wanted == Use::Kernel => {
            return Err(Error::Missing { node: configuration.path.clone(), property });
        }
        None => return Ok(None),
    };
    let [name] = names.as_slice() else {
        return Err(image::unsupported(configuration, &format!("more than one image as `{property}`")));
    };
    let image = tree.child(images, name);
    image
        .map(Some)
        .ok_or_else(|| Error::NoNode { node: format!("image `{name}`, which {} names", configuration.path) })
}
