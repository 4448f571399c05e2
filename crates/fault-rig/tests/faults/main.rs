//! One fault while a stage looks at what it must refuse.
#![forbid(unsafe_code)]

mod bad_slots;
mod bad_stages;
mod control;
mod keys;
mod owners;
mod scenes;
mod stage0;
mod stage2;
mod vouched;
