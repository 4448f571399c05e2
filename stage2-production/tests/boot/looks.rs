//! The second look at what the first one has found to be right.

use memory_map::qemu_virt::KERNEL_LOAD;
use sealed_image::{Kind, Role, Root};
use stage2_production::load::{LoadError, Loaded, Trust};

use crate::device::Device;
use crate::release::{COMMAND_LINE, Release, WINDOW, fused_root, laid_out};

fn trust() -> Trust {
    Trust { roots: vec![fused_root()], floors: [0; 8], refuse_test_keys: true }
}

fn loaded() -> (Loaded, Vec<u8>) {
    Device::new(laid_out(&Release::new(1, 0).sealed()), Vec::new()).load(&trust())
}

#[test]
fn it_finds_the_same() {
    let (loaded, mut memory) = loaded();
    let os = loaded.confirm(&trust(), &mut memory, WINDOW).unwrap();
    assert_eq!((os.kernel.place.base, os.command_line.as_str()), (KERNEL_LOAD, COMMAND_LINE));
    let first = loaded.into_os();
    assert_eq!((first.kernel, first.command_line), (os.kernel, os.command_line));
    assert_eq!(os.images.as_slice(), first.images.as_slice());
}

/// What a fault made of the first look's roots, floors and lifecycle counts for nothing in the second one.
#[test]
fn it_has_a_trust_of_its_own() {
    let (loaded, mut memory) = loaded();
    let mut refused = |trust: Trust| loaded.confirm(&trust, &mut memory, WINDOW).unwrap_err();
    let of_bundle = |error| LoadError::Image { kind: Kind::Bundle, error };

    let stranger = Root { digest: [7; 32], revoked: false };
    let error = refused(Trust { roots: vec![stranger], ..trust() });
    assert_eq!(error, of_bundle(sealed_image::Error::RootUnknown));
    let revoked = Root { revoked: true, ..fused_root() };
    let error = refused(Trust { roots: vec![revoked], ..trust() });
    assert_eq!(error, of_bundle(sealed_image::Error::RootRevoked));
    let mut floors = [0; 8];
    floors[usize::from(Role::Os.number())] = 1;
    let error = refused(Trust { floors, ..trust() });
    assert!(matches!(error, LoadError::Image { kind: Kind::Bundle, .. }), "{error:?}");
}

/// The header of the kernel is read where the kernel lies.
#[test]
fn it_looks_at_the_kernel_in_memory() {
    let (loaded, mut memory) = loaded();
    memory[(KERNEL_LOAD - WINDOW.base) as usize + 56] ^= 1;
    let error = loaded.confirm(&trust(), &mut memory, WINDOW).unwrap_err();
    assert!(matches!(error, LoadError::Kernel(_)), "{error:?}");
}
