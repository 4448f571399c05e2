//! From a blank die to a pre-provisioned one, and every reason not to.

mod bootable;
mod common;
mod fabricate;
mod package;
mod preprovision;
mod sealed_key;
mod update;
