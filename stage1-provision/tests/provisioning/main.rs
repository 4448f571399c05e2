//! Whole provisionings on the host simulator.

mod agreement;
mod answers;
#[path = "../../../crates/release/tests/factory/bootable.rs"]
mod bootable;
mod case;
mod cuts;
mod device;
mod happy;
mod judge;
mod lot;
mod malformed;
mod mapped;
mod ordered;
mod package;
mod parts;
mod power;
mod stage0;
mod stored;
