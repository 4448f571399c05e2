//! An owner's keys: in a folder as files, or there as the names of keys on a token; what the root delegates to them; and
//! which of them it took back.
//!
//! ```text
//!  owner-root.pub.pem        the root, for everybody who verifies what the owner releases
//!  owner-root.key.*          its private half, where the root is: not needed to release
//!  owner-ROLE.key.pem        a role's private key, PKCS#8, encrypted; mode 0600
//!  owner-ROLE.key.uri        or the name of it on a token
//!  owner-ROLE.pub.pem        its public half, which goes to the root
//!  owner-ROLE.delegation     what the root says about it: a COSE_Sign1, which comes back
//!  owner-revoked             the keys that the root took back, if there are any
//! ```
//!
//! # Threats
//! *Whoever signs releases* every day, on a machine that is online, must not hold the root: with its delegations a role's key
//! signs what they cover, and nothing else. They are verified with the root's public key, and against what is to be
//! signed, before a key is used.
//!
//! *Whoever writes the folder* can take things away, but not put a key in place of another: each delegation names its key.

mod create;
mod delegation;
mod folder;
mod key;
mod list;
mod name;
mod passphrase;
mod revocation;
mod token;
mod token_uri;
mod wrapping_key;

pub use create::{KeyPlace, create_keys};
pub use delegation::{Beyond, Delegation, DelegationFault, Limits};
pub(crate) use delegation::{Use, certificate, check_use};
pub use folder::{OwnerKeys, ReleaseProfile, RoleKeys, open_root_key};
pub use key::{KeyAlgorithm, OwnerKey, PublicPart};
pub use list::{KeptIn, KeyState, list_keys};
pub use name::{KeyName, ROOT_PUBLIC, revoked_file};
pub use passphrase::{PASSPHRASE_VARIABLE, Passphrase, PassphraseFault};
pub use revocation::Revocations;
pub use token::{PIN_VARIABLE, TokenFault, TokenKey};
pub use token_uri::TokenUri;
pub(crate) use wrapping_key::{Wrapped, WrappingKey};
