//! Why a FIT is not taken.

/// Everything that can be wrong with a FIT. Nodes are named by their paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is something else.
    #[error("it is no FIT: it does not begin as a device tree does")]
    NoTree,
    /// The file has another size than its header says.
    #[error("its header says {said} bytes, and the file has {found}: it was {}",
        if said > found { "cut off" } else { "added to" })]
    Size {
        /// The size in the header, in bytes.
        said: usize,
        /// The size of the file, in bytes.
        found: usize,
    },
    /// The tree is not in the one form that `mkimage` gives it.
    #[error("the tree is malformed at offset {offset:#x}: {reason}")]
    Malformed {
        /// Where in the file.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// A node has a unit address, which some readers look at and some do not (CVE-2021-27138).
    #[error("{node} has a unit address (`@`): readers that leave it out would take it for another node")]
    UnitAddress {
        /// The node.
        node: String,
    },
    /// A node or a property is there twice, and readers differ in which they take.
    #[error("{what} is there twice")]
    Twice {
        /// Which.
        what: String,
    },
    /// A node that has to be there is not.
    #[error("there is no {node}")]
    NoNode {
        /// The node.
        node: String,
    },
    /// A property that has to be there is not.
    #[error("{node} has no `{property}`")]
    Missing {
        /// The node.
        node: String,
        /// The property.
        property: &'static str,
    },
    /// A property has a value that cannot be used.
    #[error("`{property}` of {node}: {reason}")]
    Property {
        /// The node.
        node: String,
        /// The property.
        property: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no configuration of that name.
    #[error("there is no configuration `{name}`; there are: {}", found.join(", "))]
    NoConfiguration {
        /// The name.
        name: String,
        /// Those that there are.
        found: Vec<String>,
    },
    /// The FIT asks for what Kiln does not do.
    #[error("{node} has {what}, which Kiln does not take")]
    Unsupported {
        /// The node.
        node: String,
        /// What it has.
        what: String,
    },
    /// An image's data lies outside of the tree, where no check of the tree reaches.
    #[error("the data of {node} lies outside of the tree (`{property}`)")]
    External {
        /// The image.
        node: String,
        /// The property that says so.
        property: String,
    },
    /// The configuration is not signed.
    #[error("{configuration} is not signed{}", if *image_signed {
        ": signatures of single images do not say which belong together (CVE-2020-10648)"
    } else {
        ""
    })]
    Unsigned {
        /// The configuration.
        configuration: String,
        /// Whether an image of it is.
        image_signed: bool,
    },
    /// A signature does not cover a node that is used.
    #[error("{signature} does not cover {node}, so that anybody could exchange it")]
    NotCovered {
        /// The signature.
        signature: String,
        /// The node.
        node: String,
    },
    /// A signature covers a node that the configuration does not use.
    #[error(
        "{signature} covers `{node}`, which is no part of the configuration: it was made for another one"
    )]
    CoversOther {
        /// The signature.
        signature: String,
        /// The path.
        node: String,
    },
    /// A signature or a hash is of an algorithm that is not taken.
    #[error("{node} is `{found}`: only {taken} is taken")]
    Algorithm {
        /// The node.
        node: String,
        /// What it says.
        found: String,
        /// What is taken.
        taken: &'static str,
    },
    /// The key is of another length than the signature.
    #[error("{node} says `{said}`, and the key has {bits} bits")]
    KeyLength {
        /// The node.
        node: String,
        /// What it says.
        said: String,
        /// The key's length.
        bits: usize,
    },
    /// A signature is not one of the key over these bytes.
    #[error("{node} does not hold: it is of another key, or what it covers was altered")]
    Signature {
        /// The signature.
        node: String,
    },
    /// An image has no hash, so that the signature does not cover its data.
    #[error("{node} has no hash: the signature of the configuration does not cover its data")]
    NoHash {
        /// The image.
        node: String,
    },
    /// An image's data is another than was signed.
    #[error("{node} does not hold: the data of the image was altered")]
    Hash {
        /// The hash.
        node: String,
    },
    /// An image cannot be decompressed.
    #[error("{node} is no gzip file from its first byte to its last: {reason}")]
    Gzip {
        /// The image.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// An image decompresses to more than is taken.
    #[error("{node} decompresses to more than {limit} bytes")]
    TooLarge {
        /// The image.
        node: String,
        /// How much is taken.
        limit: u64,
    },
    /// An image that should be a device tree is none.
    #[error("{node} is no device tree: {reason}")]
    DeviceTree {
        /// The image.
        node: String,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Says what to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::NoTree => "Give the .itb file that `mkimage` wrote.",
            Self::Size { .. } | Self::Malformed { .. } | Self::Twice { .. } | Self::Hash { .. } => {
                "Take the FIT from its source again; if it is the same, make it anew with `mkimage -f`, and ask who \
                 altered this one."
            }
            Self::UnitAddress { .. } => {
                "Write `kernel-1`, not `kernel@1`, in the .its file, and make it anew."
            }
            Self::NoNode { .. } | Self::Missing { .. } | Self::Property { .. } => {
                "Correct the .its file: docs/migration.md lists what Kiln reads of a FIT."
            }
            Self::NoConfiguration { .. } => "Name one of them with --fit-config.",
            Self::Unsupported { .. } => {
                "Give Kiln a configuration of one kernel, one device tree and one ramdisk: docs/migration.md says \
                 what takes the place of the rest."
            }
            Self::External { .. } => "Make it without `mkimage -E`, so that the data lies in the tree.",
            Self::Unsigned { .. } => {
                "Put a signature node into the configuration in the .its file, and sign it: `mkimage -F -k KEYS -r`."
            }
            Self::NotCovered { .. } | Self::NoHash { .. } => {
                "Give every image a hash node with sha256, name them all in `sign-images`, and sign it anew."
            }
            Self::CoversOther { .. } | Self::Signature { .. } => {
                "Give --fit-key the certificate that it was signed with; if that is this one, do not use the FIT, and \
                 ask who altered it."
            }
            Self::Algorithm { .. } => {
                "Say `sha256` in hashes and `sha256,rsa2048` in signatures, and sign it anew."
            }
            Self::KeyLength { .. } => "Give --fit-key the certificate that it was signed with.",
            Self::Gzip { .. } | Self::DeviceTree { .. } => "Make the FIT anew from whole files.",
            Self::TooLarge { .. } => "Make the image smaller: a device has no room for it.",
        }
    }
}

/// Why a file is no key that signatures can be verified with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file is no PEM.
    #[error("it holds no certificate or public key in PEM")]
    Pem,
    /// The file holds a private key.
    #[error("it holds a private key, which has no business here")]
    Private,
    /// The file holds something else than a certificate or a public key.
    #[error("it holds `{label}`, not one certificate or public key")]
    Label {
        /// What it says that it holds.
        label: String,
    },
    /// The certificate cannot be read.
    #[error("its certificate cannot be read")]
    Certificate,
    /// The key is none of RSA's.
    #[error("its key is no RSA key")]
    NoRsa,
    /// The key is of a length that is not taken.
    #[error("its key has {bits} bits: RSA with 2048, 3072 or 4096 is taken")]
    Length {
        /// Its length.
        bits: usize,
    },
    /// The exponent is not the one that everybody uses.
    #[error("its key has another exponent than 65537")]
    Exponent,
}

impl KeyError {
    /// Says what to do about it.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Private => "Give the certificate (.crt), and keep the private key where it signs.",
            _ => "Give the certificate that lies next to the key that `mkimage -k` signs with, in PEM.",
        }
    }
}
