//! What an image is, who may sign it, and its version.

/// The kind of an image, as written in manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The provisioning stage.
    Stage1 = 1,
    /// The production stage.
    Stage2 = 2,
    /// Operating system kernel.
    Kernel = 3,
    /// Device tree blob.
    DeviceTree = 4,
    /// Initial RAM file system.
    Initramfs = 5,
    /// Trusted execution environment: reserved.
    Tee = 6,
    /// Customer key or certificate.
    Secret = 7,
    /// Plan for fuses: reserved.
    FusePlan = 8,
    /// The list of the objects of one release, with the kernel command line.
    Bundle = 9,
    /// The index of an update.
    Update = 10,
    /// The index of a provisioning package.
    Package = 11,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 11] = [
        Self::Stage1,
        Self::Stage2,
        Self::Kernel,
        Self::DeviceTree,
        Self::Initramfs,
        Self::Tee,
        Self::Secret,
        Self::FusePlan,
        Self::Bundle,
        Self::Update,
        Self::Package,
    ];

    /// Returns the number in manifests.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Finds a kind by its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.number() == number)
    }

    /// Returns the role that signs this kind; `None` for the kinds that are reserved.
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Stage1 | Self::Secret | Self::Package => Some(Role::Provision),
            Self::Stage2 => Some(Role::Boot),
            Self::Kernel | Self::DeviceTree | Self::Initramfs | Self::Bundle | Self::Update => Some(Role::Os),
            Self::Tee | Self::FusePlan => None,
        }
    }

    /// Tells whether the payload is code, and so has an entry point.
    pub const fn executable(self) -> bool {
        matches!(self, Self::Stage1 | Self::Stage2 | Self::Kernel | Self::Tee)
    }

    /// Tells whether the payload is a stage of Kiln itself: those are signed with ES256 only.
    pub const fn stage(self) -> bool {
        matches!(self, Self::Stage1 | Self::Stage2)
    }

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stage1 => "stage1",
            Self::Stage2 => "stage2",
            Self::Kernel => "kernel",
            Self::DeviceTree => "device-tree",
            Self::Initramfs => "initramfs",
            Self::Tee => "tee",
            Self::Secret => "secret",
            Self::FusePlan => "fuse-plan",
            Self::Bundle => "bundle",
            Self::Update => "update",
            Self::Package => "package",
        }
    }
}

/// What the owner root delegates to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Signs the production stage.
    Boot = 1,
    /// Signs the provisioning stage, packages and secret objects.
    Provision = 2,
    /// Signs the operating system's objects, bundles and updates.
    Os = 3,
    /// Signs the authority's answers: tickets, receipts, releases of certificates.
    Authority = 4,
    /// Unlocks debugging.
    Debug = 5,
    /// Hands a device to another owner.
    Transfer = 6,
}

impl Role {
    /// Every role, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Boot, Self::Provision, Self::Os, Self::Authority, Self::Debug, Self::Transfer];

    /// Returns the number in delegations.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Finds a role by its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.number() == number)
    }

    /// Returns the name in configurations and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Provision => "provision",
            Self::Os => "os",
            Self::Authority => "authority",
            Self::Debug => "debug",
            Self::Transfer => "transfer",
        }
    }
}

/// A release version: orders as major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

impl Version {
    /// The lowest version.
    pub const MIN: Self = Self(0);
    /// The highest version.
    pub const MAX: Self = Self(u64::MAX);

    /// Packs a version.
    pub const fn new(major: u16, minor: u16, patch: u32) -> Self {
        Self((major as u64) << 48 | (minor as u64) << 32 | patch as u64)
    }

    /// Returns the major number.
    pub const fn major(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// Returns the minor number.
    pub const fn minor(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// Returns the patch number.
    pub const fn patch(self) -> u32 {
        self.0 as u32
    }
}

impl core::fmt::Display for Version {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{}.{}", self.major(), self.minor(), self.patch())
    }
}

impl core::str::FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let mut parts = text.split('.');
        let (Some(major), Some(minor), Some(patch), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidVersion);
        };
        match (major.parse(), minor.parse(), patch.parse()) {
            (Ok(major), Ok(minor), Ok(patch)) => Ok(Self::new(major, minor, patch)),
            _ => Err(InvalidVersion),
        }
    }
}

/// A text is no version: `major.minor.patch`, the first two up to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidVersion;

impl core::fmt::Display for InvalidVersion {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("a version is MAJOR.MINOR.PATCH, for instance 1.4.0")
    }
}

impl core::error::Error for InvalidVersion {}
