//! Who may panic in stage0: nobody of Kiln's, and of its dependencies only those that are named here.

use super::names;

/// Kiln's crates that stage0 may link.
const KILN: &[&str] = &[
    "board_qemu_virt",
    "boot_crypto",
    "boot_info",
    "boot_select",
    "bulk_crypto",
    "drivers",
    "el3",
    "fail_code",
    "hal",
    "lifecycle",
    "memory_map",
    "sealed_image",
    "stage0",
    "store",
];

/// The only crates of Kiln from which a panicking dependency may be called.
const GATES: &[&str] = &["boot_crypto", "bulk_crypto"];

/// Functions of dependencies that keep a panic which the compiler cannot remove. All of them work on arrays of a
/// length that their types fix, or on values that were checked before; the gates give them nothing else.
pub(super) const ALLOWED: &[&str] = &[
    "aes::expand_key",
    "crypto_bigint::lincomb_int_reduce_shift_mod",
    "crypto_bigint::shl_vartime",
    "crypto_bigint::shr_in_place_wide",
    "crypto_bigint::shr_vartime",
    "hkdf::expand_multi_info",
];

/// A rule that a call breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// The function that panics is not on the list.
    NotAllowed(String),
    /// Kiln's code calls a dependency that can panic without going through a gate.
    PastTheGate(String),
}

/// Tells whether this is Kiln's code; that includes every name without a path, which assembly calls by.
pub(super) fn is_kiln(name: &str) -> bool {
    KILN.contains(&names::owner(name)) || !name.contains("::")
}

fn is_gate(name: &str) -> bool {
    GATES.contains(&names::owner(name))
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&name)
}

/// Judges one call. `frames` are the functions that the call lies in, the innermost inlined one first and the
/// symbol last; `callee` is a function that can reach a panic.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn judge(frames: &[String], callee: &str) -> Result<(), Broken> {
    if names::is_panic(callee) || names::is_toolchain(callee) {
        // The first frame that is not the toolchain's is the one that wrote the panic.
        let Some(culprit) = frames.iter().find(|frame| !names::is_toolchain(frame)) else { return Ok(()) };
        if !is_allowed(culprit) {
            return Err(Broken::NotAllowed(culprit.clone()));
        }
    } else if is_kiln(callee) {
        // What Kiln's own code does is judged at its own calls.
        return Ok(());
    }
    match frames.iter().find(|frame| is_kiln(frame)) {
        Some(first) if !frames.iter().any(|frame| is_gate(frame)) => Err(Broken::PastTheGate(first.clone())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    const PANIC: &str = "core::panicking::panic_bounds_check";

    #[test]
    fn a_named_dependency_behind_the_gate_may_panic() {
        assert_eq!(judge(&frames(&["crypto_bigint::shl_vartime"]), PANIC), Ok(()));
        let inlined =
            ["core::expect", "subtle::unwrap", "crypto_bigint::shr_vartime", "boot_crypto::verify_p256"];
        assert_eq!(judge(&frames(&inlined), PANIC), Ok(()));
        assert_eq!(judge(&frames(&["boot_crypto::verify_p256"]), "p256::ecdsa::verify"), Ok(()));
        assert_eq!(judge(&frames(&["stage0::boot"]), "boot_crypto::verify_p256"), Ok(()));
    }

    #[test]
    fn kilns_own_panic_is_refused_even_inside_the_gate() {
        for name in ["stage0::boot", "boot_crypto::verify_p256", "sealed_image::next", "stage_main"] {
            let got = judge(&frames(&["core::unwrap", name]), PANIC);
            assert_eq!(got, Err(Broken::NotAllowed(name.into())), "{name}");
        }
    }

    #[test]
    fn an_unnamed_dependency_may_not_panic() {
        for name in ["minicbor::decode", "aes::expand_key_elsewhere"] {
            let got = judge(&frames(&[name, "boot_crypto::verify_p256"]), PANIC);
            assert_eq!(got, Err(Broken::NotAllowed(name.into())));
        }
    }

    #[test]
    fn a_named_dependency_may_not_be_called_past_the_gate() {
        let got = judge(&frames(&["stage0::boot"]), "p256::ecdsa::verify");
        assert_eq!(got, Err(Broken::PastTheGate("stage0::boot".into())));
        for outer in ["stage0::boot", "stage_main"] {
            let got = judge(&frames(&["aes::expand_key", outer]), PANIC);
            assert_eq!(got, Err(Broken::PastTheGate(outer.into())));
        }
        assert_eq!(judge(&frames(&["_start"]), "stage_main"), Ok(()));
    }

    #[test]
    fn toolchain_code_is_judged_where_it_is_called() {
        assert_eq!(judge(&frames(&["core::slice::copy_from_slice"]), PANIC), Ok(()));
        let got = judge(&frames(&["stage0::boot"]), "core::slice::copy_from_slice");
        assert_eq!(got, Err(Broken::NotAllowed("stage0::boot".into())));
    }
}
