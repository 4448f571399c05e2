//! What the machine is made of, as QEMU arguments.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What happens to the guest's writes to flash and disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// They reach the files.
    #[default]
    Keep,
    /// They are gone when the emulator ends; several machines can share the files.
    Discard,
}

/// Where the guest's entropy source gets its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Entropy {
    /// There is no such device.
    Absent,
    /// From the emulator's own generator.
    #[default]
    Random,
    /// From a file: what a dishonest owner of the source would have it say.
    File(PathBuf),
}

/// A QEMU `virt` machine. The default is a Kiln device: TrustZone, two cores, 512 MiB, an entropy source.
#[derive(Clone, Debug)]
pub struct MachineConfig {
    program: PathBuf,
    cpu: String,
    cores: u32,
    memory_mib: u32,
    secure: bool,
    entropy: Entropy,
    flash0: Option<PathBuf>,
    flash1: Option<PathBuf>,
    disk: Option<PathBuf>,
    writes: Writes,
    icount_shift: Option<u8>,
    lifetime: Option<Duration>,
    extra: Vec<OsString>,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            program: "qemu-system-aarch64".into(),
            cpu: "cortex-a57".into(),
            cores: 2,
            memory_mib: 512,
            secure: true,
            entropy: Entropy::default(),
            flash0: None,
            flash1: None,
            disk: None,
            writes: Writes::Keep,
            icount_shift: None,
            lifetime: Some(Duration::from_secs(600)),
            extra: Vec::new(),
        }
    }
}

impl MachineConfig {
    /// Makes a Kiln device from a folder that holds `flash0.img`, `flash1.img` and `disk.img`.
    pub fn device(folder: &Path) -> Self {
        Self::default()
            .flash0(folder.join("flash0.img"))
            .flash1(folder.join("flash1.img"))
            .disk(folder.join("disk.img"))
    }

    /// Uses another emulator than the first `qemu-system-aarch64` of `PATH`.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Uses another CPU than `cortex-a57`.
    pub fn cpu(mut self, cpu: impl Into<String>) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// Sets the number of cores.
    pub fn cores(mut self, cores: u32) -> Self {
        self.cores = cores;
        self
    }

    /// Sets the DRAM in MiB.
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Chooses between TrustZone with UART1 as station link (Kiln) and neither (U-Boot).
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Chooses the virtio entropy source.
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Sets the file of the first flash bank (64 MiB): secure where the machine is, and what it starts from.
    pub fn flash0(mut self, file: impl Into<PathBuf>) -> Self {
        self.flash0 = Some(file.into());
        self
    }

    /// Sets the file of the second flash bank (64 MiB).
    pub fn flash1(mut self, file: impl Into<PathBuf>) -> Self {
        self.flash1 = Some(file.into());
        self
    }

    /// Attaches a raw disk image as virtio block device.
    pub fn disk(mut self, file: impl Into<PathBuf>) -> Self {
        self.disk = Some(file.into());
        self
    }

    /// Takes the disk away.
    pub fn no_disk(mut self) -> Self {
        self.disk = None;
        self
    }

    /// Sets what happens to the guest's writes.
    pub fn writes(mut self, writes: Writes) -> Self {
        self.writes = writes;
        self
    }

    /// Counts instructions instead of time: each takes 2^`shift` ns of guest time, and guest time does not
    /// depend on the host. One thread emulates all cores then.
    pub fn icount(mut self, shift: u8) -> Self {
        self.icount_shift = Some(shift);
        self
    }

    /// Sets after how long the emulator is killed whatever happens; `None` for a person at a console.
    pub fn lifetime(mut self, lifetime: Option<Duration>) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Adds an argument for QEMU.
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.extra.push(arg.into());
        self
    }

    pub(crate) fn emulator(&self) -> &Path {
        &self.program
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    pub(crate) fn longest_life(&self) -> Option<Duration> {
        self.lifetime
    }

    /// Returns QEMU's arguments, with its channels connecting to sockets that listen in `sockets`.
    pub(crate) fn arguments(&self, sockets: &Path) -> Vec<OsString> {
        let mut args = Arguments(Vec::new());
        let secure = if self.secure { "on" } else { "off" };
        args.pair("-machine", format!("virt,secure={secure},virtualization=on,gic-version=3,acpi=off"));
        args.pair("-cpu", self.cpu.as_str());
        args.pair("-smp", self.cores.to_string());
        args.pair("-m", format!("{}M", self.memory_mib));
        args.0.extend(["-nodefaults", "-no-user-config", "-S"].map(OsString::from));
        args.pair("-nic", "none");
        args.pair("-display", "none");
        args.pair("-global", "virtio-mmio.force-legacy=false");
        if let Some(shift) = self.icount_shift {
            args.pair("-icount", format!("shift={shift},sleep=off"));
        }
        let keep = match self.writes {
            Writes::Keep => "",
            Writes::Discard => ",snapshot=on",
        };
        for (unit, flash) in [&self.flash0, &self.flash1].into_iter().enumerate() {
            if let Some(file) = flash {
                let options = format!("if=pflash,unit={unit},format=raw{keep},file=");
                args.pair("-drive", with_path(options, file));
            }
        }
        if let Some(file) = &self.disk {
            args.pair("-drive", with_path(format!("if=none,id=disk,format=raw{keep},file="), file));
            args.pair("-device", "virtio-blk-device,drive=disk");
        }
        match &self.entropy {
            Entropy::Absent => {}
            Entropy::Random => args.pair("-device", "virtio-rng-device"),
            Entropy::File(file) => {
                args.pair("-object", with_path("rng-random,id=rng,filename=".into(), file));
                args.pair("-device", "virtio-rng-device,rng=rng");
            }
        }
        for channel in self.channels() {
            let options = format!("socket,id={channel},path=");
            args.pair("-chardev", with_path(options, &sockets.join(channel)));
            match *channel {
                "qmp" => args.pair("-mon", "chardev=qmp,mode=control"),
                uart => args.pair("-serial", format!("chardev:{uart}")),
            }
        }
        args.0.extend(self.extra.iter().cloned());
        args.0
    }

    /// Returns the names of the sockets in the order in which QEMU connects.
    pub(crate) fn channels(&self) -> &'static [&'static str] {
        if self.secure { &["uart0", "uart1", "qmp"] } else { &["uart0", "qmp"] }
    }
}

struct Arguments(Vec<OsString>);

impl Arguments {
    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }
}

/// Ends an option list with a path. QEMU splits options at commas; a doubled one stands for itself.
fn with_path(options: String, path: &Path) -> OsString {
    let mut joined = OsString::from(options);
    match path.to_str() {
        Some(text) => joined.push(text.replace(',', ",,")),
        None => joined.push(path),
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(config: &MachineConfig) -> String {
        let args = config.arguments(Path::new("/s"));
        args.iter().map(|arg| arg.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_kiln_device_has_trustzone_two_uarts_and_no_network() {
        let line = line(&MachineConfig::device(Path::new("/d")));
        for part in [
            "virt,secure=on,virtualization=on,gic-version=3,acpi=off",
            "-S ",
            "-nic none",
            "-display none",
            "-smp 2",
            "-m 512M",
            "if=pflash,unit=0,format=raw,file=/d/flash0.img",
            "if=pflash,unit=1,format=raw,file=/d/flash1.img",
            "if=none,id=disk,format=raw,file=/d/disk.img -device virtio-blk-device,drive=disk",
            "-device virtio-rng-device",
            "socket,id=uart0,path=/s/uart0 -serial chardev:uart0 -chardev socket,id=uart1,path=/s/uart1",
            "-mon chardev=qmp,mode=control",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("icount") && !line.contains("snapshot"));
    }

    #[test]
    fn options_reach_the_command_line() {
        let config = MachineConfig::device(Path::new("/a,b"))
            .secure(false)
            .entropy(Entropy::Absent)
            .no_disk()
            .cores(4)
            .icount(0)
            .writes(Writes::Discard)
            .arg("-semihosting");
        let line = line(&config);
        for part in ["secure=off", "-smp 4", "shift=0,sleep=off", "snapshot=on,file=/a,,b/flash0.img"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(!line.contains("uart1") && !line.contains("rng") && !line.contains("blk"));
        assert!(line.ends_with("-semihosting"));
    }

    #[test]
    fn entropy_can_come_from_a_file() {
        let line = line(&MachineConfig::default().entropy(Entropy::File("/dev/zero".into())));
        assert!(
            line.contains("-object rng-random,id=rng,filename=/dev/zero -device virtio-rng-device,rng=rng")
        );
    }
}
