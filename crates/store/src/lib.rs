#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

mod cursor;
mod error;
mod journal;
mod slot;
mod window;

pub use cursor::{ALIGN, Cursor, StoredImage};
pub use error::Error;
pub use journal::{Entry, Journal, JournalError, MAX_ENTRY};
pub use slot::{Slot, Slots};
pub use window::Window;
