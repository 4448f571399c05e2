//! What both halves of the protocol take and refuse.

mod common;
mod session;
