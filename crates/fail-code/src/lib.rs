//! Stable refusal codes, each with its cause and its cure.
//!
//! A code never changes its number or its name once released, and is never used for a second reason. A stage
//! prints one as `K0302 signature-invalid: <cause>`; `cargo xtask explain K0302` adds the cure. Detailed errors
//! stay inside the crates; a code appears only where something is printed or returned.
#![no_std]
#![forbid(unsafe_code)]

macro_rules! codes {
    ($($($feature:literal)+ => { $($number:literal $variant:ident $name:literal $cause:literal $cure:literal;)* })*) => {
        /// Why something was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum FailCode {
            $($(#[doc = $cause] $variant = $number,)*)*
        }

        impl FailCode {
            /// Every code, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// The groups, and whether a program knows their codes by the numbers: stage0 has no room, and knows its own only.
            const GROUPS: &'static [(&'static [Self], bool)] = &[$((
                &[$(Self::$variant,)*],
                cfg!(any(feature = "os", feature = "factory", $(feature = $feature),*)),
            ),)*];

            /// A line for each code: number, name and cause. One text is smaller in a stage than a table of
            /// pointers, or than a `match`; and a stage links the texts of its own codes only, by feature.
            const LINES: &'static [&'static str] = &[$(
                #[cfg(any($(feature = $feature),*))]
                concat!($(stringify!($number), " ", $name, ":", $cause, "\n"),*),
            )*];

            /// Returns the cure: what a person does next. For hosts; a stage does not print it.
            pub const fn cure(self) -> &'static str {
                match self { $($(Self::$variant => $cure,)*)* }
            }
        }
    };
}

impl FailCode {
    /// One list of what is known: it is made while compiling, so that a program holds nothing else.
    const KNOWN: [Self; Self::known_count()] = Self::known();

    const fn known_count() -> usize {
        let (mut count, mut groups) = (0, Self::GROUPS);
        while let Some(((codes, known), rest)) = groups.split_first() {
            count += if *known { codes.len() } else { 0 };
            groups = rest;
        }
        count
    }

    #[expect(clippy::indexing_slicing, reason = "it runs while compiling, where it would not compile")]
    const fn known<const N: usize>() -> [Self; N] {
        let (mut list, mut count, mut groups) = ([Self::Panic; N], 0, Self::GROUPS);
        while let Some(((codes, known), rest)) = groups.split_first() {
            let mut codes = *codes;
            while let (Some((code, others)), true) = (codes.split_first(), *known) {
                list[count] = *code;
                count += 1;
                codes = others;
            }
            groups = rest;
        }
        list
    }

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
        self.name_and_cause().0
    }

    /// Returns the cause: one line without a full stop.
    pub fn cause(self) -> &'static str {
        self.name_and_cause().1
    }

    /// Returns both, which takes no longer than one.
    pub fn name_and_cause(self) -> (&'static str, &'static str) {
        for lines in Self::LINES {
            let mut rest = *lines;
            while let Some((line, after)) = cut(rest, b'\n') {
                rest = after;
                if let Some((number, texts)) = cut(line, b' ')
                    && number.bytes().fold(0, |n, digit| n * 10 + u16::from(digit & 15)) == self.number()
                {
                    return cut(texts, b':').unwrap_or_default();
                }
            }
        }
        // A code of another stage, whose texts this one does not link: its number says what it is.
        ("", "")
    }

    /// Finds a code by number; stage0 finds its own only.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::KNOWN.iter().copied().find(|code| code.number() == number)
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
    "boot" "host" => {
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
        314 NotClosingImage "not-closing-image"
            "the provisioning stage is not the one whose measurement was burned when closing began"
            "Write the provisioning stage that began to close this die into a boot slot: it alone can finish.";

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
            "Blank dies are pre-provisioned first; Secured dies boot the provisioning stage only, Production dies the production stage only; a returned die never boots.";
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
    }
    "os" "host" => {

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
    }
    "boot" "host" => {

        // 07xx: handing over
        700 BootInfoInvalid "boot-info-invalid"
            "the handoff from the stage before is not valid"
            "The two stages are of releases that do not fit together: write both from one release.";
    }
    "os" "host" => {
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
    }
    "os" "factory" "host" => {

        // 08xx: hardware
        800 DiskMissing "disk-missing"
            "no block device answers"
            "Attach the device's disk; `cargo xtask run` does so by itself.";
    }
    "boot" "host" => {
        801 DiskRead "disk-read"
            "the block device or the flash reports a read error"
            "The storage is damaged or too small: look at the device's disk file and flash images.";
    }
    "os" "factory" "host" => {
        802 EntropyMissing "entropy-missing"
            "no entropy source answers"
            "Attach one (`-device virtio-rng-device`); `cargo xtask run` does so by itself.";
    }
    "boot" "host" => {

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
        903 LooksDiffer "looks-differ"
            "two looks at the same image differ"
            "The flash reads differently each time, or somebody disturbs the device while it decides: see the threat model.";
    }
    "factory" "host" => {

        // 10xx: provisioning, on the device
        1000 SelfTestMemory "self-test-memory"
            "the memory that provisioning works in does not hold what is written to it"
            "The die or its memory is faulty: take the next one, and look at the socket if it happens again.";
        1001 SelfTestFlash "self-test-flash"
            "the flash does not identify itself as the one that this board has"
            "The flash is missing, faulty or of another type: compare it with the board's part list.";
        1002 EntropyHealth "entropy-health"
            "the entropy source fails its health tests"
            "The source is stuck or not random (SP 800-90B section 4.4): replace it; the device can be tried again.";
        1003 SelfTestCrypto "self-test-crypto"
            "a known-answer test of the cryptography fails"
            "The die computes wrongly: it is scrap.";
        1004 SelfTestTimer "self-test-timer"
            "the system counter does not run as it should"
            "The die's clock is missing or faulty: look at the board's clock.";
        1010 PackageMissing "package-missing"
            "there is no provisioning package on the disk"
            "Write the package to the disk first; `cargo xtask flash` does so by itself.";
        1011 PackageMixed "package-mixed"
            "an object of the package is not the one that its index names"
            "Parts of two packages were mixed, or the disk is damaged: write the package again.";
        1012 PackageIncomplete "package-incomplete"
            "the package lacks an object without which the device cannot boot"
            "A package names a stage2, a bundle and all objects of the bundle: make it again.";
        1013 PackageMalformed "package-malformed"
            "the index of the package is not the one canonical encoding of objects in their order"
            "The package was made by a tool that is not Kiln's: make it again.";
        1020 TicketInvalid "ticket-invalid"
            "the ticket is not signed by an authority that the owner root delegated to"
            "The station relays to a wrong authority, or the answer was altered on its way: look at the station's connection.";
        1021 TicketMismatch "ticket-mismatch"
            "the ticket was made for another request, die or package"
            "The answer belongs to another session: try again; if it happens again, the station mixes up its devices.";
        1022 NoAnswer "no-answer"
            "nobody answers on the station link"
            "Start the station, or look at the serial cable; the device can be tried again.";
        1023 AnswerMalformed "answer-malformed"
            "the answer on the station link is not a message of this protocol"
            "Station and device are of releases that do not fit together, or the line is too noisy.";
        1030 JournalFull "journal-full"
            "the provisioning journal is full"
            "The device was started very often without an end: erase its flash and pre-provision a new die.";
        1031 JournalInvalid "journal-invalid"
            "the provisioning journal is damaged or was not written by this die and stage"
            "If no fuse was burned at closing, write the flash anew and try again; otherwise the die is scrap.";
        1040 FlashWrite "flash-write"
            "the flash or the disk does not take what is written"
            "The storage is worn, damaged or too small: replace it; the device can be tried again.";
        1041 ReadBack "read-back"
            "what was written does not read back as it should"
            "The storage is damaged, or somebody writes to it meanwhile: replace it and try again.";
        1050 FuseForeign "fuse-foreign"
            "a fuse row holds bits that this session did not plan"
            "The die was burned by somebody else, or its journal was lost: it is scrap.";
        1051 FuseBurn "fuse-burn"
            "a fuse does not read back as it was burned"
            "The fuses or their supply are faulty: the die is scrap.";
        1052 FusePlan "fuse-plan"
            "the planned fuses do not make a device that boots"
            "This is a defect of the release: the die is untouched; report it with the console output.";
        1053 FinalCheck "final-check"
            "what was written would not boot once the fuses are burned"
            "The fuses are untouched: read the code that was printed before, mend that cause and try again.";
        1060 ReceiptInvalid "receipt-invalid"
            "the authority's receipt for the certificate request does not verify"
            "The answer was altered on its way or belongs to another device: try again.";
        1061 CertificateInvalid "certificate-invalid"
            "the certificate that the authority released is not for this device"
            "The answer was altered on its way or belongs to another device: try again.";

        // 11xx: what the authority refuses
        1100 VendorUnknown "vendor-unknown"
            "the die's certificate does not lead to a vendor of the lot"
            "The die is not of a vendor that the lot names, or its certificate is forged: add the vendor to the lot, or reject the dies.";
        1101 VendorIssuer "vendor-issuer"
            "an issuer in the die's certificate chain may not issue certificates"
            "The chain is forged or made wrongly: take the vendor's own certificates.";
        1102 VendorPathLength "vendor-path-length"
            "the die's certificate chain is longer than its issuers allow"
            "The chain is forged or made wrongly: take the vendor's own certificates.";
        1103 VendorKeyUsage "vendor-key-usage"
            "a certificate of the die's chain is not meant for this use"
            "The chain is forged or made wrongly: take the vendor's own certificates.";
        1104 VendorExpired "vendor-expired"
            "a certificate of the die's chain is not valid at this time"
            "Look at the authority's clock, or ask the vendor for current certificates.";
        1105 VendorMalformed "vendor-malformed"
            "the die's certificate is not one that can be read"
            "The die was fabricated wrongly, or the request was altered: reject the die.";
        1110 StatementInvalid "statement-invalid"
            "the boot stage's statement is not signed by the die's key"
            "The device did not boot securely, or the request was altered: reject the die.";
        1111 LifecycleWrong "lifecycle-wrong"
            "the die is not in the lifecycle state that this step needs"
            "Only a die in Secured is provisioned, and only one in Production proves that it is closed.";
        1112 MeasurementWrong "measurement-wrong"
            "the stage that asks is not the one that the lot allows"
            "Write the lot's own package to the device, or add the stage's measurement to the lot.";
        1113 FuseDigestWrong "fuse-digest-wrong"
            "the fuses that the device reports are not those that the die's key signed"
            "The request was altered: reject the die.";
        1114 SecondOwnerRoot "second-owner-root"
            "the die holds an owner root that the lot does not name"
            "Somebody burned another owner into the die: reject it.";
        1115 FloorRaised "floor-raised"
            "a rollback floor of the die is not the one of the lot"
            "Somebody burned the floor of the die: reject it.";
        1116 DebugNotLocked "debug-not-locked"
            "the debug lock of the die is not burned"
            "Pre-provision the dies as the lot says, and reject this one.";
        1117 FusePolicyWrong "fuse-policy-wrong"
            "the die's fuses are not those of the lot's fuse policy"
            "Pre-provision the dies as the lot says, and reject this one.";
        1120 NonceReplayed "nonce-replayed"
            "the request uses a nonce that another request used before"
            "Somebody sends old requests again, or the device's entropy is dead: start the device again.";
        1121 QuotaExhausted "quota-exhausted"
            "every install of the lot is taken"
            "The order is complete: raise the lot's quota if more devices were ordered.";
        1122 LotRevoked "lot-revoked"
            "the lot is revoked"
            "Ask the owner why; dies that have not begun can be used for another lot.";
        1123 DieClosed "die-closed"
            "the die was provisioned and closed before"
            "A die is provisioned once: take the next one.";
        1124 DieNotListed "die-not-listed"
            "the lot lists its dies, and this is not one of them"
            "The die was not delivered for this order: reject it.";
        1125 PackageNotOfLot "package-not-of-lot"
            "the package on the device is not the one of the lot"
            "Write the lot's package to the device.";
        1126 CsrUnbound "csr-unbound"
            "the certificate request does not belong to the session that sent it"
            "The request was altered or comes from another device: reject the die.";
        1127 InstallUnknown "install-unknown"
            "the authority knows no such install"
            "The device was provisioned by another authority, or the database was replaced: ask the owner.";
        1128 TicketsExhausted "tickets-exhausted"
            "this die has asked for more tickets than one die needs"
            "The die starts again and again: look at its power and its flash, or void it.";
        1129 RequestMalformed "request-malformed"
            "the request is not a message of this protocol"
            "Device and authority are of releases that do not fit together, or the request was altered.";
        1130 RequestSignature "request-signature"
            "the request is not signed by the key that the statement names"
            "The request was altered: reject the die if it happens again.";
        1131 LotUnknown "lot-unknown"
            "the authority has no such lot"
            "Correct the station's lot, or make the lot.";
        1132 StationUnauthorised "station-unauthorised"
            "the station's certificate may not work for this lot"
            "Give the station a certificate that the owner admitted for the lot.";
        1133 InstallVoid "install-void"
            "the install of this die was voided"
            "A voided die is scrap: take the next one.";
        1134 StorageFailed "storage-failed"
            "the authority cannot store what it would answer, and so does not answer"
            "Look at the authority's disk and log; the device can be tried again.";
        1135 DieOfOtherLot "die-of-other-lot"
            "the die has begun in another lot"
            "Provision it in the lot where it began, or take another die.";
        1136 DieConflict "die-conflict"
            "another die with this chip id or this key has an install"
            "Two dies claim to be one: reject both, and ask the vendor.";
        1137 ClosingUnbound "closing-unbound"
            "the device was closed for another install, or with another identity than was certified"
            "Its storage was set back between two sessions: void the install, the die is scrap.";
    }
    "host" => {

        // 12xx: the station
        1200 DeviceSilent "device-silent"
            "the device does not say anything on the station link"
            "Look at its power and its cable, and whether it was pre-provisioned.";
        1201 AuthorityUnreachable "authority-unreachable"
            "the authority does not answer the station"
            "Look at the network and at the authority's address; the device can be tried again.";
        1202 AuthorityUntrusted "authority-untrusted"
            "the authority's certificate or the station's own is not accepted"
            "Take the certificates that the owner gave for this station and this authority.";

        // 13xx: fabrication and pre-provisioning
        1300 DieNotBlank "die-not-blank"
            "the die is not blank"
            "Only a die that nobody has burned is taken: take a new one.";
        1301 FlashNotClear "flash-not-clear"
            "the flash is not erased"
            "Somebody wrote it before: erase it whole, and ask who did.";
        1302 DeviceOfOtherKind "device-of-other-kind"
            "the device was begun with another system, command line or machine than is asked for"
            "Go on without these options, or take another die.";

        // 14xx: release folders
        1400 ReleaseFileMissing "release-file-missing"
            "a file that the signed release manifest lists is not in the folder"
            "Take the whole folder as it was released.";
        1401 ReleaseFileAltered "release-file-altered"
            "a file of the release is not the one that the signed release manifest lists"
            "Take the folder from its source again, and ask who altered it.";
        1402 ReleaseFileUnlisted "release-file-unlisted"
            "the folder holds something that the signed release manifest does not list"
            "Take the folder from its source again: nothing may be added to a release.";
        1403 ReleaseManifestMalformed "release-manifest-malformed"
            "the release manifest is not the one encoding of its fields"
            "Take the folder from its source again, or use a matching release of Kiln.";
        1404 ReleaseMixed "release-mixed"
            "the parts of a release do not belong together"
            "Take the folder from its source again; if it stays so, ask the owner who signed it.";
        1405 ProvenanceUntrusted "provenance-untrusted"
            "the provenance is not signed by the key that the owner root delegates to, or is of another release"
            "Do not use the release: ask its owner where it was built.";
        1406 VersionNotRising "version-not-rising"
            "the version is not higher than that of the release before"
            "Raise `version`: each release has one of its own.";
        1407 RollbackIndexFalling "rollback-index-falling"
            "the rollback index is lower than that of the release before"
            "Keep `rollback-index`, or raise it: it never falls.";

        // 15xx: updates; no stage installs one yet, so none links these texts
        1500 UpdateMalformed "update-malformed"
            "the index of the update is not the one canonical encoding of objects in their order"
            "The update was made by a tool that is not Kiln's, or by a newer release: make it again.";
        1501 UpdateIncomplete "update-incomplete"
            "the update lacks an object that its index names, or without which the device cannot boot"
            "Take the update from its source again; if it stays so, make the release again.";
        1502 UpdateMixed "update-mixed"
            "an object of the update is not the one that its index or its bundle names, or of another version"
            "Parts of two updates were mixed: take the whole update of one release.";
        1503 UpdateTwice "update-object-twice"
            "the index of the update names two objects of one kind"
            "The update was made by a tool that is not Kiln's: make it again.";
        1504 UpdateNotNewer "update-not-newer"
            "the version of the update is not above the one that is installed"
            "The device has this release or a newer one already: there is nothing to install.";
        1505 InstalledTooOld "installed-too-old"
            "the installed version is below the lowest that the update can be installed over"
            "Install a release in between first: one that is at or above the minimum version of this update.";
        1506 ProductWrong "product-wrong"
            "the update was made for another product"
            "Give the device the update of its own product.";
        1507 RoleIndexWrong "role-index-wrong"
            "the update names another rollback index for a role than this role signed"
            "Whoever signs for one role wants to raise the floor of another: ask the owner who signed the update.";
    }
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
