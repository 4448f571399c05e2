//! Whole provisionings on the host simulator.

mod device;
mod happy;
mod judge;
mod lot;
mod mapped;
mod power;
mod stage0;
mod station;
