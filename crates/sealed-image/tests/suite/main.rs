//! What the device side of a sealed image takes and refuses.

mod apart;
mod bundle;
mod by_hand;
mod common;
mod every_bit;
mod exact;
mod payload;
mod policy;
mod reseal;
mod signed_malformed;
mod update;
mod update_device;
mod update_index;
