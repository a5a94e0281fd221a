//! The system calls that are left to this program once it has opened all that it reads and writes.
//! Any other ends it at once, and its machine with it.

use std::collections::BTreeMap;

use rustix::ioctl::Opcode;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use crate::{Error, Result, uffd::abi};

/// What the program is about to do. The stages come in this order, and each leaves less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To wait for the monitor, and to take what it hands over.
    HandOff,
    /// To serve faults until the machine ends.
    Serving,
}

/// Faults, memfiles, records and the log, by descriptors that are open; memory, time and the end.
const ALWAYS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_write,
    libc::SYS_close,
    // Elsewhere `poll` is `ppoll`, and `readlink` below `readlinkat`.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Where the processor's counter is no clock.
    libc::SYS_clock_gettime,
    libc::SYS_futex,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    // A panic names its thread.
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// One connection, who is at its other end, and what kind of descriptor it gave.
const HAND_OFF: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_geteuid,
    libc::SYS_recvmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_readlinkat,
    // The next filter.
    libc::SYS_seccomp,
];

/// Leaves this thread what it needs for `stage`, for good. The program has no other thread.
///
/// # Errors
/// When the kernel takes no filter.
pub fn confine(stage: Stage) -> Result<()> {
    let set_up = || -> std::result::Result<(), seccompiler::Error> {
        let filter = SeccompFilter::new(
            rules(stage)?,
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            std::env::consts::ARCH.try_into()?,
        )?;
        let program: BpfProgram = filter.try_into()?;
        apply_filter(&program)
    };
    set_up().map_err(|error| Error::new(format!("cannot give system calls up: {error}")))
}

/// By system call the arguments that it may have: any where there are no rules.
fn rules(
    stage: Stage,
) -> std::result::Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<_, _> = ALWAYS.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, vec![not_executable()?]);
    let mut controls = vec![abi::UFFDIO_COPY, abi::UFFDIO_ZEROPAGE, abi::UFFDIO_WAKE];
    // A standard library with checks looks at a descriptor before it closes it.
    let mut flags = vec![libc::F_GETFD];
    if stage == Stage::HandOff {
        rules.extend(HAND_OFF.iter().map(|&call| (call, Vec::new())));
        let no_new_privileges = libc::PR_SET_NO_NEW_PRIVS as u64;
        rules.insert(libc::SYS_prctl, vec![equals(0, no_new_privileges)?]);
        controls.push(libc::FIONBIO as Opcode);
        flags.extend([libc::F_GETFL, libc::F_SETFL]);
    }
    let flags = flags.into_iter().map(|flag| equals(1, flag as u64));
    rules.insert(libc::SYS_fcntl, flags.collect::<std::result::Result<_, _>>()?);
    let controls = controls.into_iter().map(|control| equals(1, u64::from(control)));
    rules.insert(libc::SYS_ioctl, controls.collect::<std::result::Result<_, _>>()?);
    Ok(rules)
}

fn equals(argument: u8, value: u64) -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let is = SeccompCmpOp::Eq;
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?])
}

fn not_executable() -> std::result::Result<SeccompRule, seccompiler::BackendError> {
    let without = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, without, 0)?])
}
