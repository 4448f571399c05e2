//! A station between a device and an authority, both played here.

mod common;
mod https;
mod relay;
