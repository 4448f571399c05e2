//! `kiln keys`: the keys of an owner.

use crate::{Failure, output};
use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use clap::{Args, Subcommand};
use memory_map::qemu_virt::BOARD;
use release::{
    Delegation, KeptIn, KeyAlgorithm, KeyName, KeyPlace, KeyState, Limits, OwnerKeys, Passphrase, Profile,
    PublicPart, Revocations, TokenUri, create_keys, hex, list_keys, open_root_key, revoked_file, unhex,
};
use sealed_image::{Kind, KindSet, Role, Version};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Makes, delegates, lists and revokes the keys of a firmware owner.
///
/// The root delegates, and does nothing else; a key for each of the roles boot, provision and os signs releases, within the
/// limits of its delegation. With --pkcs11 keys are made on a token and never leave it. The PIN comes from KILN_PIN, the
/// passphrase of key files from KILN_PASSPHRASE, or both are asked for.
#[derive(Subcommand, Debug)]
pub(crate) enum Keys {
    Create(Create),
    Delegate(Delegate),
    List(List),
    Revoke(Revoke),
}

/// Makes keys: a whole owner, or those of --role
///
/// Without --role: a root, and a key for each of the roles boot, provision and os, to which the root delegates all of it. The root of
/// a product belongs on a machine of its own: make it there with --role root, the others where releases are signed, and have
/// `kiln keys delegate` bring them together. Without --pkcs11 keys lie in encrypted files, for development: a production
/// profile refuses them. Keys that are there already are never replaced.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The folder for the keys, made if it is not there
    folder: PathBuf,
    /// Make this key only; may be given several times
    #[arg(long = "role", value_name = "ROLE", value_parser = key_name())]
    names: Vec<KeyName>,
    /// How the keys sign; devices take RSA from the role os only
    #[arg(long, value_name = "ALGORITHM", value_parser = algorithm(), default_value = "es256", requires = "names")]
    algorithm: KeyAlgorithm,
    /// The token for the keys: pkcs11:token=LABEL?module-path=/path/of/the/module.so (RFC 7512)
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Has the root let a key act in a role, within limits
///
/// This is run where the root is, with the public key that `kiln keys create` wrote elsewhere; what it writes goes back into the
/// folder of that key as owner-ROLE.delegation, together with owner-root.pub.pem. Devices refuse what a delegation does not cover.
#[derive(Args, Debug)]
pub(crate) struct Delegate {
    /// The folder with the root's key
    folder: PathBuf,
    /// The role
    #[arg(long, value_name = "ROLE", value_parser = role())]
    role: Role,
    /// The public key: owner-ROLE.pub.pem
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the delegation here
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A kind of image that the key may sign; all that the role signs if there is none
    #[arg(long = "kind", value_name = "KIND", value_parser = kind())]
    kinds: Vec<Kind>,
    /// A board that it may sign for; may be given up to eight times
    #[arg(long = "board", value_name = "NAME", default_value = BOARD)]
    boards: Vec<String>,
    /// The lowest version that it may sign
    #[arg(long, value_name = "VERSION")]
    from_version: Option<Version>,
    /// The highest version that it may sign: a delegation ends with a version, as devices have no clock
    #[arg(long, value_name = "VERSION")]
    to_version: Option<Version>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists the keys of a folder, and what the root delegates to each
///
/// No private key is opened, so nobody is asked for a PIN.
#[derive(Args, Debug)]
pub(crate) struct List {
    /// The folder with the keys
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Has the root take a key back
///
/// The list of revoked keys, owner-revoked, is signed by the root. Whoever has it refuses what such a key signed: `kiln release`
/// with it in the owner's folder, `kiln verify --revoked-keys`. Devices do not read it: for what they believe, revoke the root.
#[derive(Args, Debug)]
pub(crate) struct Revoke {
    /// The folder with the root's key, and with the list
    folder: PathBuf,
    /// The key: its file owner-ROLE.pub.pem, or its thumbprint
    #[arg(long, value_name = "FILE|THUMBPRINT")]
    key: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Create(command) => command.json,
            Self::Delegate(command) => command.json,
            Self::List(command) => command.json,
            Self::Revoke(command) => command.json,
        }
    }

    pub(crate) fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(command) => command.run(),
            Self::Delegate(command) => command.run(),
            Self::List(command) => command.run(),
            Self::Revoke(command) => command.run(),
        }
    }
}

impl Create {
    fn run(&self) -> Result<(), Failure> {
        let token = self.pkcs11.as_deref().map(TokenUri::parse).transpose()?;
        let passphrase;
        let place = match &token {
            Some(token) => KeyPlace::Token(token),
            None => {
                passphrase = Passphrase::for_new(&self.folder)?;
                KeyPlace::Files(&passphrase)
            }
        };
        let kept = token.as_ref().map_or_else(|| "encrypted files".into(), ToString::to_string);
        if self.names.is_empty() {
            let owner = OwnerKeys::found_in(&self.folder, place, BOARD)?.owner()?;
            let facts = [
                ("folder", json!(self.folder)),
                ("keys", json!(kept)),
                ("root digest", json!(hex(&owner.root_digest()))),
                ("roles", json!(["boot", "provision", "os"])),
            ];
            output::print(self.json, "A new owner:", &facts);
            return Ok(());
        }
        let made = create_keys(&self.folder, &self.names, self.algorithm, place)?;
        let mut facts = vec![("folder", json!(self.folder)), ("keys", json!(kept))];
        facts.push(("algorithm", json!(self.algorithm.name())));
        for (name, public) in &made {
            facts.push((name.name(), json!(hex(&public.key().thumbprint()))));
        }
        output::print(self.json, "New keys, which the root has still to delegate to:", &facts);
        Ok(())
    }
}

impl Delegate {
    fn run(&self) -> Result<(), Failure> {
        let public = PublicPart::read(&self.key)?;
        let limits = Limits {
            kinds: match self.kinds.as_slice() {
                [] => Limits::of_role(self.role, BOARD).kinds,
                kinds => KindSet::new(kinds),
            },
            boards: self.boards.clone(),
            min_version: self.from_version.unwrap_or(Version::MIN),
            max_version: self.to_version.unwrap_or(Version::MAX),
        };
        // Whoever knows the test keys would sign for the owner.
        Profile::Production.admit(&public.key().thumbprint(), &self.key.display().to_string())?;
        let root = open_root_key(&self.folder)?;
        Profile::Production.admit(&root.public().key().thumbprint(), "the owner root key")?;
        let delegation = Delegation::sign(&root, self.role, &public.key(), &limits)?;
        delegation.write(&self.out)?;
        let facts = [
            ("role", json!(self.role.name())),
            ("key", json!(hex(delegation.key()))),
            ("may sign", json!(limits.to_string())),
            ("file", json!(self.out)),
        ];
        output::print(self.json, "Delegated:", &facts);
        Ok(())
    }
}

impl List {
    fn run(&self) -> Result<(), Failure> {
        let keys = list_keys(&self.folder)?;
        if self.json {
            let keys: Vec<Value> = keys.iter().map(described).collect();
            output::print(true, "", &[("folder", json!(self.folder)), ("keys", json!(keys))]);
            return Ok(());
        }
        println!("The keys in {}:", self.folder.display());
        for key in &keys {
            let (public, name) = (&key.public, key.name.name());
            println!("  {name:<10} {:<10} {}", public.algorithm().name(), hex(&public.key().thumbprint()));
            println!("  {:10} kept in   {}", "", kept(&key.kept));
            match &key.delegation {
                Some(Ok(delegation)) => println!("  {:10} may sign  {}", "", delegation.limits()),
                Some(Err(why)) => println!("  {:10} may sign  nothing: {why}", ""),
                None => println!("  {:10} may sign  delegations", ""),
            }
            if key.revoked {
                println!("  {:10} revoked", "");
            }
        }
        Ok(())
    }
}

fn described(key: &KeyState) -> Value {
    let delegation = key.delegation.as_ref().map(|delegation| match delegation {
        Ok(delegation) => {
            let limits = delegation.limits();
            let kinds: Vec<_> = limits.kinds.iter().map(Kind::name).collect();
            json!({
                "kinds": kinds,
                "boards": limits.boards,
                "from_version": (limits.min_version != Version::MIN).then(|| limits.min_version.to_string()),
                "to_version": (limits.max_version != Version::MAX).then(|| limits.max_version.to_string()),
            })
        }
        Err(why) => json!({ "unusable": why.to_string() }),
    });
    json!({
        "name": key.name.name(),
        "algorithm": key.public.algorithm().name(),
        "thumbprint": hex(&key.public.key().thumbprint()),
        "kept_in": kept(&key.kept),
        "delegation": delegation,
        "revoked": key.revoked,
    })
}

fn kept(kept: &KeptIn) -> String {
    let place = match kept {
        KeptIn::EncryptedFile => "an encrypted file",
        KeptIn::OpenFile => "a file that is not encrypted",
        KeptIn::Token(uri) => return uri.to_string(),
        KeptIn::Unnamed => "a place that its file does not name: it holds no URI of a key on a token",
        KeptIn::Elsewhere => "another place",
    };
    place.into()
}

impl Revoke {
    fn run(&self) -> Result<(), Failure> {
        let key = match unhex::<32>(&self.key) {
            Some(thumbprint) => thumbprint,
            None => PublicPart::read(Path::new(&self.key))?.key().thumbprint(),
        };
        let root = open_root_key(&self.folder)?;
        if root.public().key().thumbprint() == key {
            return Err(Failure::new(
                "this is the root, which cannot take itself back",
                "Devices know roots by their fuses: a root is revoked there, by its bit.",
            ));
        }
        let what = format!("The key {} will be revoked; a list of revoked keys only grows.", hex(&key));
        output::confirm(&what, "revoke", self.yes)?;
        let path = revoked_file(&self.folder);
        let list = Revocations::add(&path, &root, key)?;
        let facts = [
            ("key", json!(hex(&key))),
            ("list", json!(path)),
            ("number", json!(list.number())),
            ("revoked keys", json!(list.keys().len())),
            ("devices", json!("do not read the list: see docs/release.md")),
        ];
        output::print(self.json, "Revoked:", &facts);
        Ok(())
    }
}

fn key_name() -> impl clap::builder::TypedValueParser<Value = KeyName> {
    let named = |text: String| KeyName::ALL.into_iter().find(|name| name.name() == text);
    PossibleValuesParser::new(KeyName::ALL.map(KeyName::name))
        .map(move |text| named(text).expect("clap takes these names only"))
}

fn role() -> impl clap::builder::TypedValueParser<Value = Role> {
    // The authority makes its own key: `kiln authority delegation sign` delegates to that.
    let roles = || Role::ALL.into_iter().filter(|role| *role != Role::Authority);
    PossibleValuesParser::new(roles().map(Role::name))
        .map(move |text| roles().find(|role| role.name() == text).expect("clap takes these names only"))
}

fn kind() -> impl clap::builder::TypedValueParser<Value = Kind> {
    let kinds = || Kind::ALL.into_iter().filter(|kind| kind.role().is_some());
    PossibleValuesParser::new(kinds().map(Kind::name))
        .map(move |text| kinds().find(|kind| kind.name() == text).expect("clap takes these names only"))
}

fn algorithm() -> impl clap::builder::TypedValueParser<Value = KeyAlgorithm> {
    let named = |text: String| KeyAlgorithm::ALL.into_iter().find(|one| one.name() == text);
    PossibleValuesParser::new(KeyAlgorithm::ALL.map(KeyAlgorithm::name))
        .map(move |text| named(text).expect("clap takes these names only"))
}
