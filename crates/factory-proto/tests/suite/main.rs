//! What both halves of the protocol take and refuse.

mod cddl;
mod common;
mod samples;
mod session;
