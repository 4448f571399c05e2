//! Whose code a function is, told from its name.

/// Crates whose functions panic on behalf of whoever calls them: the Rust toolchain's, and `subtle`, which has an
/// `Option` and its `unwrap` of its own.
const TOOLCHAIN: &[&str] = &["core", "alloc", "std", "compiler_builtins", "core_arch", "core_simd", "subtle"];

/// Where every panic ends: the panic handler, and all that leads only there.
const PANICS: &[&str] = &[
    "core::panicking::",
    "core::option::unwrap_failed",
    "core::option::expect_failed",
    "core::result::unwrap_failed",
    "core::slice::index::slice_",
    "core::slice::copy_from_slice_impl::",
    "core::str::slice_error_fail",
    "core::cell::panic_already",
    "alloc::alloc::handle_alloc_error",
    "rust_begin_unwind",
    "__rustc::rust_begin_unwind",
];

/// Tells whether calling this function is a panic.
pub(super) fn is_panic(name: &str) -> bool {
    PANICS.iter().any(|prefix| name.starts_with(prefix))
}

/// Tells whether this is code that panics on behalf of its caller, as the toolchain's does.
pub(super) fn is_toolchain(name: &str) -> bool {
    TOOLCHAIN.contains(&owner(name))
}

/// Returns the crate that a demangled name belongs to: of `<a::B as c::D>::e` that is `a`; where the type is a
/// primitive, it is the trait's crate.
pub(super) fn owner(name: &str) -> &str {
    let mut rest = name;
    loop {
        let shorter = rest
            .trim_start_matches(['<', '&', '*', '[', '(', ' '])
            .trim_start_matches("mut ")
            .trim_start_matches("const ")
            .trim_start_matches("dyn ")
            .trim_start_matches("impl ");
        if shorter == rest {
            break;
        }
        rest = shorter;
    }
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    if after.starts_with("::") || rest == name {
        return word;
    }
    // A primitive or a type parameter: the trait says whose code it is.
    match name.find(" as ") {
        Some(at) => owner(&name[at + 4..]),
        None => "core",
    }
}

/// Returns the name as line tables would give it, crate and function: of `a::b::<impl a::C>::d.345` that is `a::d`.
pub(super) fn short(name: &str) -> String {
    let plain = plain(name);
    let Some((_, last)) = plain.rsplit_once("::") else { return name.to_owned() };
    let last = last.split('.').next().unwrap_or(last);
    format!("{}::{last}", owner(name))
}

/// Returns the crate that a source file belongs to: the folder around its `src`, without a version.
pub(super) fn crate_of(file: &str) -> String {
    let folder = file.rsplit_once("/src/").map_or(file, |(before, _)| before);
    let name = folder.rsplit('/').next().unwrap_or(folder);
    let name = match name.rsplit_once('-') {
        Some((name, version)) if version.starts_with(|c: char| c.is_ascii_digit()) => name,
        _ => name,
    };
    name.replace('-', "_")
}

/// Returns the path of a function without generic arguments, closures kept: `<a::B<4> as c::D<u8>>::e` becomes
/// `<a::B as c::D>::e`.
pub(super) fn plain(name: &str) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut before = ' ';
    for c in name.chars() {
        // A `<` after a word or `::` opens arguments; elsewhere it opens a qualified path, which is kept.
        let opens = c == '<' && (depth > 0 || before.is_alphanumeric() || before == '_' || before == ':');
        match c {
            _ if opens => depth += 1,
            '>' if depth > 0 && before != '-' => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
        before = c;
    }
    out.replace("::::", "::").trim_end_matches("::").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_crate_and_function() {
        for (name, wanted) in [
            (
                "crypto_bigint::slice::<impl crypto_bigint::UintRef>::leading_mut.345",
                "crypto_bigint::leading_mut",
            ),
            ("wnaf::get", "wnaf::get"),
            ("<p256::Foo as elliptic_curve::Invert<u8>>::invert", "p256::invert"),
            ("kiln_main", "kiln_main"),
        ] {
            assert_eq!(short(name), wanted);
        }
    }

    #[test]
    fn the_owner_is_read_from_every_shape_of_name() {
        for (name, crate_name) in [
            ("stage0::choose::slot", "stage0"),
            ("<p256::arithmetic::field::FieldElement>::invert", "p256"),
            ("<p256::Foo as elliptic_curve::ops::Invert>::invert", "p256"),
            ("<&mut sealed_image::Reader as core::fmt::Debug>::fmt", "sealed_image"),
            ("<[u8; 32] as hybrid_array::AsArrayRef<u8>>::as_array_ref", "hybrid_array"),
            ("<u64 as subtle::ConditionallySelectable>::conditional_select", "subtle"),
            ("core::slice::<impl [T]>::copy_from_slice", "core"),
            ("<core::iter::Map<I, boot_crypto::f::{closure#0}> as Iterator>::next", "core"),
            ("memcpy", "memcpy"),
            ("_start", "_start"),
        ] {
            assert_eq!(owner(name), crate_name, "{name}");
        }
        assert!(is_toolchain("core::slice::<impl [T]>::swap") && !is_toolchain("coreutils::x"));
    }

    #[test]
    fn the_crate_is_read_from_the_path_of_a_file() {
        for (file, crate_name) in [
            (
                "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/crypto-bigint-0.7.10/src/uint/shr.rs",
                "crypto_bigint",
            ),
            ("/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/core/src/option.rs", "core"),
            ("/home/x/kiln/crates/boot-crypto/src/signature.rs", "boot_crypto"),
            ("/home/x/kiln/stage0/src/main.rs", "stage0"),
        ] {
            assert_eq!(crate_of(file), crate_name, "{file}");
        }
    }

    #[test]
    fn panics_are_known_by_name() {
        assert!(is_panic("core::panicking::panic_bounds_check"));
        assert!(is_panic("core::slice::index::slice_index_fail"));
        assert!(is_panic("rust_begin_unwind"));
        assert!(!is_panic("core::slice::sort::heapsort") && !is_panic("stage0::panicking::x"));
    }

    #[test]
    fn generic_arguments_are_left_out_of_plain_names() {
        assert_eq!(plain("<a::B<4> as c::D<u8>>::e"), "<a::B as c::D>::e");
        assert_eq!(plain("<crypto_bigint::uint::Uint<4>>::shl::<X>"), "<crypto_bigint::uint::Uint>::shl");
        assert_eq!(plain("a::f::<fn(u8) -> b::C<u8>>"), "a::f");
        assert_eq!(plain("a::f::{closure#0}"), "a::f::{closure#0}");
    }
}
