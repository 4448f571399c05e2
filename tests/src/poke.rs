//! Writing to memory of the secure world, as nothing in the machine can: through the emulator's debugger.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use emulator::Machine;
use serde_json::json;

/// Longest answer of the debugger in time.
const WITHIN: Duration = Duration::from_secs(10);

/// Stops the machine and writes `bytes` to `address` as `core` sees it, which must be at EL3. The machine stays stopped.
///
/// # Panics
/// If the emulator does not do it.
pub fn poke(machine: &mut Machine, core: usize, address: u64, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder for a socket");
    let socket = folder.path().join("debugger");
    let command = format!("gdbserver unix:{},server=on,wait=off", socket.display());
    machine.qmp.execute("human-monitor-command", json!({"command-line": command})).expect("a debugger");
    let mut line = UnixStream::connect(&socket).expect("the debugger listens");
    line.set_read_timeout(Some(WITHIN)).expect("a time limit");
    // Threads are numbered from 1.
    assert_eq!(ask(&mut line, &format!("Hg{:x}", core + 1)), "OK", "the debugger knows no core {core}");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ask(&mut line, &format!("M{address:x},{:x}:{hex}", bytes.len())), "OK", "nothing is written");
    assert_eq!(ask(&mut line, &format!("m{address:x},{:x}", bytes.len())), hex, "something else is written");
    machine
        .qmp
        .execute("human-monitor-command", json!({"command-line": "gdbserver none"}))
        .expect("no debugger");
    machine.qmp.execute("stop", json!(null)).expect("the machine stops");
}

/// Sends a packet of the remote serial protocol and returns what the answer holds.
fn ask(line: &mut UnixStream, packet: &str) -> String {
    let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
    line.write_all(format!("${packet}#{sum:02x}").as_bytes()).expect("the debugger takes packets");
    let mut byte = || {
        let mut byte = [0];
        line.read_exact(&mut byte).expect("the debugger answers");
        byte[0]
    };
    while byte() != b'$' {}
    let mut answer = String::new();
    loop {
        match byte() {
            b'#' => break,
            other => answer.push(other.into()),
        }
    }
    let _sum = [byte(), byte()];
    line.write_all(b"+").expect("the debugger takes packets");
    answer
}
