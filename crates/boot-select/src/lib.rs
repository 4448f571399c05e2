//! Which stage a die may boot, and opening it. stage0 boots by this policy, and the provisioning stage runs it before
//! it closes a device: what it finds bootable then is what stage0 will boot.
//!
//! | lifecycle | kind | sealed under | which one |
//! |---|---|---|---|
//! | `Secured` | stage1 | the provisioning key | any; once the closing measurement is burned, that one only |
//! | `Closing` | stage1 | the provisioning key | the one with the closing measurement |
//! | `Production`, `Development` | stage2 | the die's storage key of the boot slots | any |
//! | `Blank`, `Returned` | none | | |
//!
//! # Threats
//! Whoever owns the flash writes every byte of both boot slots. So: every byte is read once, into memory of the
//! caller's, and judged there; a header bounds what is read, and nothing else is parsed before the signature over it
//! was verified. Kind, key, role, rollback floor and measurement come from the fuses, never from the image.
//!
//! Whoever pre-provisions knows the provisioning key, and may sign nothing with it: it hides stage1, it does not admit
//! it. A provisioning stage that would leave a device open cannot be put into a device that another has begun to close.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod roots;
mod selection;
mod stage;

pub use selection::{Selection, device_root, stage_key};
pub use stage::{BOOT_SLOTS, Found, METADATA_ROOM, Stage};
