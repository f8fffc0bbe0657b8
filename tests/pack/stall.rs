//! A runtime that stalls while its process lives.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::tool::tool;

/// Stops one thread of a process, and no other, until its standard input closes or the process ends: what a loop that
/// never yields or a call that never returns does to the runtime. By ptrace(2), which std has not.
const STOP: &str = r"
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
SEIZE, INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
tid = int(sys.argv[1])
for request in (SEIZE, INTERRUPT):
    if libc.ptrace(request, tid, 0, 0) != 0:
        sys.exit('ptrace: ' + os.strerror(ctypes.get_errno()))
os.waitpid(tid, WALL)
print('stopped', flush=True)
# A tracer hears of the end before the parent does, who has to hear of it too.
while not select.select([sys.stdin], [], [], 0.02)[0] and os.waitpid(tid, WALL | os.WNOHANG) == (0, 0):
    pass
";

pub struct Stalled(Child);

/// Stops the thread that runs vipd's runtime: the first, whose id is the process's.
pub fn stall(pid: u32) -> Stalled {
    let mut child = Command::new(tool("python3"))
        .args(["-c", STOP, &pid.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let stalled = Stalled(child);
    assert_eq!(line.trim(), "stopped");
    stalled
}

impl Drop for Stalled {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
