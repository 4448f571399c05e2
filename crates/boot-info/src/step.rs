//! Names of stages and of their steps, for timelines.

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])* $variant = $number,)* }

        impl $name {
            /// Returns the name used in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Finds a value by number.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

numbered! {
    /// A boot stage.
    Stage {
        /// The mask-ROM stand-in.
        Stage0 = 0 "stage0",
        /// The provisioning stage.
        Stage1 = 1 "stage1-provision",
        /// The production stage.
        Stage2 = 2 "stage2-production",
    }
}

numbered! {
    /// A step of a stage.
    Step {
        /// From reset to the first Rust code: MMU on, secure RAM cleared.
        Entry = 0 "entry: MMU on, secure RAM cleared",
        /// Reading and checking the fuses, deriving keys.
        Fuses = 1 "read fuses, derive keys",
        /// Verifying signatures and the delegation of the next stage.
        VerifyStage = 2 "verify next stage",
        /// Decrypting and checking the next stage.
        OpenStage = 3 "decrypt next stage",
        /// Wiping and jumping: from the end of the sending stage to the first Rust code of the next.
        Handoff = 4 "wipe and hand off",
        /// Setting up the running stage: handoff checked, heap, devices.
        Setup = 5 "set up",
        /// Reading and verifying the bundle and each object's metadata.
        VerifyObjects = 6 "verify bundle and objects",
        /// Reading the encrypted objects from the disk.
        ReadObjects = 7 "read objects",
        /// Decrypting the objects and checking each chunk, on all cores.
        OpenObjects = 8 "decrypt objects",
        /// Fixing up the device tree.
        DeviceTree = 9 "fix up device tree",
        /// Configuring the interrupt controller and the security state.
        SecurityState = 10 "GIC and security state",
        /// Testing memory, flash, entropy source, cryptography and timer.
        SelfTest = 11 "self-test",
        /// Checking stage0's evidence and the package's index.
        ProvePlace = 12 "prove-place",
        /// Asking the authority for a ticket.
        Ask = 13 "ask",
        /// Drawing the device seed.
        BeBorn = 14 "be-born",
        /// Re-keying the package for this device.
        ReKey = 15 "re-key",
        /// Having the certificate request acknowledged.
        Identity = 16 "identity",
        /// Writing the production stage over the provisioning stage.
        Replace = 17 "replace",
        /// Checking everything once more, and burning the closing fuses.
        CheckAndFuse = 18 "check-and-fuse",
        /// Proving to be closed.
        ProveClosed = 19 "prove-closed",
    }
}
