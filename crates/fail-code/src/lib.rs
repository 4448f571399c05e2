//! Stable refusal codes, each with its cause and its cure.
//!
//! A code never changes its number or its name once released, and is never used for a second reason. A stage
//! prints one as `K0302 signature-invalid: <cause>`; `cargo xtask explain K0302` adds the cure. Detailed errors
//! stay inside the crates; a code appears only where something is printed or returned.
#![no_std]
#![forbid(unsafe_code)]

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $cause:literal $cure:literal;)*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum FailCode {
            $(#[doc = $cause] $variant = $number,)*
        }

        impl FailCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// A line for each code: number, name and cause. One text is smaller in a stage than a table of
            /// pointers, or than a `match`.
            const LINES: &'static str = concat!($(stringify!($number), " ", $name, ":", $cause, "\n"),*);

            /// Returns the cure: what a person does next. For hosts; a stage does not print it.
            pub const fn cure(self) -> &'static str {
                match self { $(Self::$variant => $cure,)* }
            }
        }
    };
}

impl FailCode {
    /// Returns the stable number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Returns the code as printed: `K` and four decimal digits.
    pub const fn text(self) -> [u8; 5] {
        let n = self.number();
        [b'K', digit(n / 1000), digit(n / 100), digit(n / 10), digit(n)]
    }

    /// Returns the stable name, in kebab case.
    pub fn name(self) -> &'static str {
        self.texts().0
    }

    /// Returns the cause: one line without a full stop.
    pub fn cause(self) -> &'static str {
        self.texts().1
    }

    fn texts(self) -> (&'static str, &'static str) {
        let mut rest = Self::LINES;
        while let Some((line, after)) = cut(rest, b'\n') {
            rest = after;
            if let Some((number, texts)) = cut(line, b' ')
                && number.bytes().fold(0, |n, digit| n * 10 + u16::from(digit & 15)) == self.number()
            {
                return cut(texts, b':').unwrap_or_default();
            }
        }
        // Not reached: the macro writes each code and its line from one row.
        ("", "")
    }

    /// Finds a code by number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.number() == number)
    }

    /// Finds a code by name (`signature-invalid`) or by its printed form (`K0302`, case-insensitive; the bare
    /// number too).
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(['K', 'k']).unwrap_or(text);
        match digits.parse() {
            Ok(number) => Self::from_number(number),
            Err(_) => Self::ALL.iter().copied().find(|code| code.name() == text),
        }
    }
}

/// Cuts `text` at the first `at`, an ASCII character, which goes to neither side. Free of panics, which the
/// pattern methods of `str` are not.
fn cut(text: &str, at: u8) -> Option<(&str, &str)> {
    let (before, after) = text.split_at_checked(text.bytes().position(|byte| byte == at)?)?;
    Some((before, after.split_at_checked(1)?.1))
}

const fn digit(n: u16) -> u8 {
    b'0' + (n % 10) as u8
}

impl core::fmt::Display for FailCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = self.text();
        // ASCII letters and digits are UTF-8.
        for part in [core::str::from_utf8(&text).unwrap_or_default(), " ", self.name(), ": ", self.cause()] {
            f.write_str(part)?;
        }
        Ok(())
    }
}

codes! {
    // 01xx: choosing what to boot
    100 NoBootableSlot "no-bootable-slot"
        "no boot slot holds an image that may run on this device"
        "Read the codes that were printed for each slot and mend that cause; on a development die, `cargo xtask flash` writes both slots anew.";
    101 SlotEmpty "slot-empty"
        "the slot is erased"
        "Nothing was ever written here, or it was erased: write the slot (`cargo xtask flash`).";
    102 NoBootableOs "no-bootable-os"
        "no OS slot holds a bundle that may run on this device"
        "Read the codes that were printed for each slot; on a development die, `cargo xtask flash` writes both slots anew.";

    // 02xx: the shape of a sealed image
    200 HeaderMagic "header-magic"
        "the image does not start with the magic of a sealed image"
        "The slot holds something else, or its first bytes were altered: write the image again.";
    201 HeaderVersion "header-version"
        "the image has a format version that this stage does not know"
        "The image was made by a newer release of Kiln: update the device's stages first, or seal it with a matching release.";
    202 HeaderInvalid "header-invalid"
        "a length or a reserved field of the image header is out of bounds"
        "The header was altered or cut off: write the image again.";
    203 ImageTruncated "image-truncated"
        "the image ends before its header says"
        "The write was cut short, or the slot is too small: write the image again.";
    204 ManifestMalformed "manifest-malformed"
        "the manifest is not the one canonical encoding of known fields"
        "The image was altered or made by a tool that is not Kiln's: make and write it again.";
    205 DelegationMalformed "delegation-malformed"
        "the delegation is not the one canonical encoding of known fields"
        "The image was altered or made by a tool that is not Kiln's: make and write it again.";
    206 SealingMalformed "sealing-malformed"
        "the sealing record is not the one canonical encoding of known fields"
        "The image was altered or made by a tool that is not Kiln's: make and write it again.";
    207 PaddingNotZero "padding-not-zero"
        "bytes between the parts of the image are not zero"
        "The image was altered: write it again.";
    208 CompressionUnsupported "compression-unsupported"
        "the image is compressed, and this stage opens plain ones only"
        "Seal stage images without compression.";

    // 03xx: who signed, and for what
    300 RootUnknown "root-unknown"
        "the owner root key of the image is not one that this device's fuses hold"
        "The image belongs to another owner, or was signed with the wrong root: sign it under the owner whose root digest is fused.";
    301 DelegationSignature "delegation-signature"
        "the owner root's signature on the delegation does not verify"
        "The delegation was altered or forged: take it again from the key holder and sign the image again.";
    302 SignatureInvalid "signature-invalid"
        "the signature on the manifest does not verify"
        "The manifest or its signature was altered: write the image again; if it still fails, sign it again.";
    303 AlgorithmUnsupported "algorithm-unsupported"
        "the signature algorithm is not one that this stage verifies"
        "Sign stage images with ES256; PS256 is for the objects that later stages and hosts load.";
    304 RoleWrong "role-wrong"
        "the delegated role may not sign this kind of image"
        "Sign with the key of the role that owns the kind: boot for stage2, provision for stage1, os for the OS objects.";
    305 KindNotDelegated "kind-not-delegated"
        "the delegation does not cover this kind of image"
        "Ask the owner root for a delegation that lists the kind, or sign with another key of the role.";
    306 BoardNotDelegated "board-not-delegated"
        "the delegation does not cover this board"
        "Ask the owner root for a delegation that lists the board.";
    307 VersionNotDelegated "version-not-delegated"
        "the delegation does not cover this version"
        "Ask the owner root for a delegation whose version range holds this release.";
    308 KindWrong "kind-wrong"
        "the image is of another kind than its place calls for"
        "An image was written to the wrong slot, or two objects were swapped: write the slot again.";
    309 BoardWrong "board-wrong"
        "the image was made for another board"
        "Build the release for this board.";
    310 RolledBack "rolled-back"
        "the image's rollback index is below the fused floor"
        "The image is older than what this device accepts for ever: install a newer release.";
    311 TestKey "test-key"
        "a published test key or secret is in use on a device that is not a development die"
        "Sign with the product's own keys; a die with test secrets in its fuses is scrap outside development.";
    312 KindReserved "kind-reserved"
        "the kind of image is reserved and not supported yet"
        "Leave the object out; a TEE, among others, comes with a later release of Kiln.";
    313 RootRevoked "root-revoked"
        "the owner root key of the image has been revoked in the fuses"
        "Sign under the owner's current root.";

    // 04xx: decrypting, and what comes out
    400 KeyUnwrap "key-unwrap"
        "the data key does not unwrap under this device's key"
        "The image was sealed for another device or another key, or its sealing record was swapped or altered: seal it for this device.";
    401 ChunkTag "chunk-tag"
        "a payload chunk fails its authentication tag"
        "The stored payload was altered or damaged: write the image again.";
    402 ChunkDigest "chunk-digest"
        "a payload chunk, or the list of digests, does not match the signed digest"
        "The payload is not the one that was signed: make the image again from the signed release.";
    403 ChunkDecompress "chunk-decompress"
        "a payload chunk does not decompress to its signed size"
        "The payload was compressed wrongly: make the image again.";
    404 LoadAddress "load-address"
        "the load address, entry or size leaves the memory that this kind of image may use"
        "Correct the load address and entry in the release configuration, or make the payload smaller.";
    405 LoadOverlap "load-overlap"
        "two objects would be loaded over each other"
        "Correct the load addresses in the release configuration.";

    // 05xx: fuses and lifecycle
    500 OtpUnreadable "otp-unreadable"
        "a fuse row fails its check value"
        "A burn was torn, or the OTP image was altered: on a development die make a new one; a real die is scrap.";
    501 LifecycleUnknown "lifecycle-unknown"
        "the lifecycle fuses hold no known state"
        "A burn was torn, or the OTP image was altered: on a development die make a new one; a real die is scrap.";
    502 LifecycleForbids "lifecycle-forbids"
        "nothing may boot in this lifecycle state"
        "Blank dies are pre-provisioned first; Secured dies need the provisioning stage, which this release does not have yet; a returned die never boots.";
    503 PolicyUnsupported "policy-unsupported"
        "a boot policy fuse asks for something that this stage cannot do"
        "Use a stage that supports the policy (post-quantum signatures come later).";
    504 SecureBootOff "secure-boot-off"
        "the secure boot fuse is not burned"
        "Pre-provision the die: Kiln boots nothing without it.";
    505 FuseRowMissing "fuse-row-missing"
        "a fuse row that the lifecycle state needs is blank"
        "The die was not burned to the end: on a development die make a new OTP image; a real die goes back to the step that burns the row.";
    506 DebugOpen "debug-open"
        "the debug lock is not burned on a die that is past development"
        "Such a die gives its secrets to whoever attaches a debugger: it is scrap.";

    // 06xx: OS slots and bundles
    600 BundleMalformed "bundle-malformed"
        "the bundle is not the one canonical encoding of known fields"
        "The bundle was made by a tool that is not Kiln's: make the release again.";
    601 ObjectNotInBundle "object-not-in-bundle"
        "an object is not the one that the bundle names"
        "Parts of two releases were mixed: write the whole OS slot from one release.";
    602 ObjectMissing "object-missing"
        "the bundle lacks an object without which nothing can start"
        "A bundle names at least a kernel and a device tree: make the release again.";
    603 ObjectTwice "object-twice"
        "the bundle names two objects of one kind"
        "Make the release with one object of each kind.";

    // 07xx: handing over
    700 BootInfoInvalid "boot-info-invalid"
        "the handoff from the stage before is not valid"
        "The two stages are of releases that do not fit together: write both from one release.";
    701 DeviceTreeInvalid "device-tree-invalid"
        "the signed device tree cannot be used"
        "Compile it again with dtc, with /memory, /chosen and /cpus; see dts/.";
    702 DeviceTreeFull "device-tree-full"
        "the device tree has no room for what Kiln adds"
        "Make the signed device tree or the command line smaller: 1 MiB holds both.";
    703 HardwareTreeInvalid "hardware-tree-invalid"
        "the memory size that the machine reports cannot be used"
        "The machine's own device tree is damaged or reports too little memory: at least 256 MiB is needed.";
    704 KernelInvalid "kernel-invalid"
        "the kernel is not an arm64 Image, or needs more memory than there is"
        "Give an uncompressed arm64 Image (`--kernel`).";

    // 08xx: hardware
    800 DiskMissing "disk-missing"
        "no block device answers"
        "Attach the device's disk; `cargo xtask run` does so by itself.";
    801 DiskRead "disk-read"
        "the block device or the flash reports a read error"
        "The storage is damaged or too small: look at the device's disk file and flash images.";
    802 EntropyMissing "entropy-missing"
        "no entropy source answers"
        "Attach one (`-device virtio-rng-device`); `cargo xtask run` does so by itself.";

    // 09xx: things that must not happen
    900 Panic "panic"
        "a stage came to a point that its code rules out"
        "This is a defect of Kiln: report it with the console output.";
    901 Exception "exception"
        "a stage took an exception that it does not expect"
        "This is a defect of Kiln or of the hardware: report it with the console output.";
    902 OutOfMemory "out-of-memory"
        "a stage ran out of its own working memory"
        "The release is larger than this board's stages are built for: see the memory map in docs/.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_rise_and_names_are_unique_kebab_case() {
        assert!(FailCode::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        for code in FailCode::ALL {
            assert!(code.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code:?}");
            assert_eq!(FailCode::parse(code.name()), Some(*code));
            assert_eq!(FailCode::parse(core::str::from_utf8(&code.text()).unwrap()), Some(*code));
            assert_eq!(FailCode::from_number(code.number()), Some(*code));
            assert!(!code.cause().ends_with('.') && code.cure().ends_with(['.', ')']), "{code:?}");
        }
    }

    #[test]
    fn unknown_codes_are_not_found() {
        for text in ["", "K", "K0000", "K65536", "signature", "Z0302"] {
            assert_eq!(FailCode::parse(text), None, "{text}");
        }
    }
}
