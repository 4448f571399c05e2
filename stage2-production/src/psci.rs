//! Power State Coordination Interface 1.1 (Arm DEN0022) as a pure state machine.
//!
//! [`Psci`] decides, the monitor at EL3 acts: it hands every call in, executes the [`Outcome`], and reports
//! with [`Psci::started`] and [`Psci::stopped`] what a core has really done. Nothing here touches hardware, so
//! all of it is tested on the host. Two cores may call at the same moment; one lock orders them.

mod power_level;
#[cfg(test)]
mod tests;

use arm_psci::{
    AffinityInfo, ArchitecturalResetType, Cookie, EntryPoint, ErrorCode, FeatureFlagsCpuSuspend, Function,
    FunctionId, MigrateInfoType, Mpidr, PowerState, PsciFeature, ResetType, Version,
};
use memory_map::Region;
use memory_map::qemu_virt::MAX_CORES;
use power_level::shares_node;
use spin::Mutex;

/// The version that PSCI_VERSION reports.
pub const VERSION: Version = Version { major: 1, minor: 1 };

/// The `power_state` of standby in CPU_SUSPEND: a core waits for an interrupt and carries on after the call.
/// Extended format, StateID as DEN0022 recommends it: core level, standby.
pub const POWER_STATE_STANDBY: u32 = 0x0000_0001;

/// The `power_state` of power-down in CPU_SUSPEND: a core waits for an interrupt and starts anew at the entry
/// address. Extended format, StateID as DEN0022 recommends it: core level, power down.
pub const POWER_STATE_POWER_DOWN: u32 = 0x4000_0003;

/// Where a core enters the normal world, and with what in `x0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Physical address of the first instruction: 4-byte aligned, in normal-world RAM.
    pub entry: u64,
    /// The value of `x0`, which means something to the caller only.
    pub context_id: u64,
}

/// What the monitor does about a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Return to the caller with these values in `x0` to `x3`.
    Return([u64; 4]),
    /// Release parked core `core`, then return [`Outcome::SUCCESS`] to the caller. The released core asks
    /// [`Psci::started`] where to go.
    TurnOn {
        /// Which core, counted from 0.
        core: usize,
    },
    /// Never return: clean up, report with [`Psci::stopped`] as the last step and park.
    TurnOff,
    /// Wait for an interrupt; what comes after it depends on the state.
    Suspend(Suspend),
    /// Power the system off.
    SystemOff,
    /// Reset the system.
    SystemReset,
}

impl Outcome {
    /// What a call that succeeded leaves in `x0` to `x3`.
    pub const SUCCESS: [u64; 4] = [0; 4];
}

/// What a suspended core does when an interrupt arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// Return [`Outcome::SUCCESS`] to the caller, its registers as they were.
    Standby,
    /// Start anew, as a core that was turned on does.
    PowerDown(Start),
}

/// What a core is doing, as PSCI sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Parked.
    Off,
    /// Released, and not there yet.
    OnPending(Start),
    /// In the normal world.
    On,
    /// On its way to park. For everybody else still on: whoever saw it off would turn it on before it parks.
    Stopping,
}

/// One core of the system.
#[derive(Clone, Copy, Debug)]
struct Core {
    /// The affinity fields of its `MPIDR_EL1`, as PSCI arguments carry them.
    affinity: u64,
    state: State,
}

/// The power states of all cores.
pub struct Psci {
    /// `None` where the system has no core.
    cores: Mutex<[Option<Core>; MAX_CORES]>,
    ram: Region,
}

impl Psci {
    /// Makes the state of a system that has just started: core `boot` is on, all others are off.
    ///
    /// `affinities` holds the affinity fields of each core's `MPIDR_EL1`, all other bits zero; what comes after
    /// [`MAX_CORES`] is left out and cannot be turned on. Entry addresses must lie in `ram`.
    pub fn new(affinities: &[u64], boot: usize, ram: Region) -> Self {
        let mut cores = [None; MAX_CORES];
        for (index, (core, affinity)) in cores.iter_mut().zip(affinities).enumerate() {
            let state = if index == boot { State::On } else { State::Off };
            *core = Some(Core { affinity: *affinity, state });
        }
        Self { cores: Mutex::new(cores), ram }
    }

    /// Decides a call of `function` (`w0`) with `args` (`x1` to `x3`), made by core `core` from the normal world.
    ///
    /// Arguments of SMC32 calls are read from the lower halves; results are sign-extended to 64 bits.
    pub fn call(&self, core: usize, function: u64, args: [u64; 3]) -> Outcome {
        self.decide(core, function, args).unwrap_or_else(|error| Outcome::Return(results(error.into())))
    }

    /// Tells a core that left its parking place where to go, and counts it as on. `None` if nobody turned it
    /// on: it parks again.
    pub fn started(&self, core: usize) -> Option<Start> {
        let mut cores = self.cores.lock();
        let core = cores.get_mut(core)?.as_mut()?;
        let State::OnPending(start) = core.state else { return None };
        core.state = State::On;
        Some(start)
    }

    /// Counts a core that was told to [`Outcome::TurnOff`] as off: from now on another one may release it, so
    /// the next thing that it does is park.
    pub fn stopped(&self, core: usize) {
        if let Some(Some(core)) = self.cores.lock().get_mut(core)
            && core.state == State::Stopping
        {
            core.state = State::Off;
        }
    }

    fn decide(&self, core: usize, function: u64, args: [u64; 3]) -> Result<Outcome, ErrorCode> {
        // The identifier alone first: an unsupported function is NOT_SUPPORTED whatever its arguments are.
        let id = FunctionId::try_from(function as u32)?;
        features(id)?;
        let [x1, x2, x3] = args;
        Ok(match Function::try_from(&[function, x1, x2, x3])? {
            Function::Version => value(u32::from(VERSION)),
            Function::Features { psci_func_id: PsciFeature::SmcccVersion } => value(0),
            Function::Features { psci_func_id: PsciFeature::PsciFunction(id) } => value(features(id)?),
            Function::MigrateInfoType => value(MigrateInfoType::MigrationNotRequired.into()),
            Function::CpuOn { target_cpu, entry } => self.turn_on(target_cpu, self.start(entry))?,
            Function::CpuOff => self.turn_off(core)?,
            Function::CpuSuspend { state, entry } => Outcome::Suspend(self.suspend(state, entry)?),
            Function::AffinityInfo { mpidr, lowest_affinity_level } => {
                value(self.affinity_info(mpidr, lowest_affinity_level)?.into())
            }
            Function::SystemOff => Outcome::SystemOff,
            Function::SystemReset => Outcome::SystemReset,
            Function::SystemReset2 {
                reset_type: ResetType::Architectural(ArchitecturalResetType::SystemWarmReset),
                cookie: Cookie::Cookie32(0) | Cookie::Cookie64(0),
            } => Outcome::SystemReset,
            Function::SystemReset2 { .. } => return Err(ErrorCode::InvalidParameters),
            _ => return Err(ErrorCode::NotSupported),
        })
    }

    /// Checks an entry point: aligned like an instruction, and in the normal world's RAM.
    fn start(&self, entry: EntryPoint) -> Result<Start, ErrorCode> {
        let start = Start { entry: entry.entry_point_address(), context_id: entry.context_id() };
        if start.entry.is_multiple_of(4) && self.ram.contains(start.entry, 4) {
            Ok(start)
        } else {
            Err(ErrorCode::InvalidAddress)
        }
    }

    fn turn_on(&self, target: Mpidr, start: Result<Start, ErrorCode>) -> Result<Outcome, ErrorCode> {
        let affinity = u64::from(target);
        let mut cores = self.cores.lock();
        let (index, core) = cores
            .iter_mut()
            .enumerate()
            .find_map(|(index, core)| Some((index, core.as_mut().filter(|core| core.affinity == affinity)?)))
            .ok_or(ErrorCode::InvalidParameters)?;
        let start = start?;
        match core.state {
            State::Off => {
                core.state = State::OnPending(start);
                Ok(Outcome::TurnOn { core: index })
            }
            State::OnPending(_) => Err(ErrorCode::OnPending),
            State::On | State::Stopping => Err(ErrorCode::AlreadyOn),
        }
    }

    /// Turns the caller off, unless it is the last one: then nobody would be left to turn a core on again.
    fn turn_off(&self, caller: usize) -> Result<Outcome, ErrorCode> {
        let mut cores = self.cores.lock();
        let others_left = cores.iter().enumerate().any(|(index, core)| {
            index != caller && core.is_some_and(|core| matches!(core.state, State::On | State::OnPending(_)))
        });
        let core = cores.get_mut(caller).and_then(Option::as_mut).ok_or(ErrorCode::InternalFailure)?;
        if !others_left {
            return Err(ErrorCode::Denied);
        }
        core.state = State::Stopping;
        Ok(Outcome::TurnOff)
    }

    fn suspend(&self, state: PowerState, entry: EntryPoint) -> Result<Suspend, ErrorCode> {
        match u32::from(state) {
            POWER_STATE_STANDBY => Ok(Suspend::Standby),
            POWER_STATE_POWER_DOWN => Ok(Suspend::PowerDown(self.start(entry)?)),
            _ => Err(ErrorCode::InvalidParameters),
        }
    }

    /// Tells the state of a core (level 0) or of all cores below a node: on if one is, pending if one will be.
    fn affinity_info(&self, target: Mpidr, level: u32) -> Result<AffinityInfo, ErrorCode> {
        let target = u64::from(target);
        let cores = self.cores.lock();
        let infos =
            cores.iter().flatten().filter(|core| shares_node(core.affinity, target, level)).map(|core| {
                match core.state {
                    State::On | State::Stopping => AffinityInfo::On,
                    State::OnPending(_) => AffinityInfo::OnPending,
                    State::Off => AffinityInfo::Off,
                }
            });
        infos
            .min_by_key(|info| match info {
                AffinityInfo::On => 0,
                AffinityInfo::OnPending => 1,
                AffinityInfo::Off => 2,
            })
            .ok_or(ErrorCode::InvalidParameters)
    }
}

/// Returns what PSCI_FEATURES says of a function.
///
/// # Errors
/// [`ErrorCode::NotSupported`] for those that Kiln does not have.
fn features(id: FunctionId) -> Result<u32, ErrorCode> {
    match id {
        FunctionId::CpuSuspend32 | FunctionId::CpuSuspend64 => {
            Ok(FeatureFlagsCpuSuspend::EXTENDED_POWER_STATE.into())
        }
        FunctionId::PsciVersion
        | FunctionId::PsciFeatures
        | FunctionId::CpuOff
        | FunctionId::CpuOn32
        | FunctionId::CpuOn64
        | FunctionId::AffinityInfo32
        | FunctionId::AffinityInfo64
        | FunctionId::MigrateInfoType
        | FunctionId::SystemOff
        | FunctionId::SystemReset
        | FunctionId::SystemReset232
        | FunctionId::SystemReset264 => Ok(0),
        _ => Err(ErrorCode::NotSupported),
    }
}

/// Returns `x0` to `x3` of a call that has one result: nothing of the secure world is left in the others.
pub(crate) const fn results(x0: u64) -> [u64; 4] {
    [x0, 0, 0, 0]
}

fn value(w0: u32) -> Outcome {
    Outcome::Return(results(w0.into()))
}
