use perch_pager::{
    confinement::{Stage, confine},
    metrics::{Metric, State},
};
use rustix::process::{WaitOptions, waitpid};

use crate::support::{
    chain::TestChain,
    client::{Memory, hand_over, in_child, succeeds},
    pager::Pager,
    random::Random,
};

/// A system call with these arguments, whatever comes of it.
fn call(number: i64, arguments: [usize; 6]) {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: it is never made: the filter ends the process before. Else it is one that fails, or
    // that harms a child only which does nothing else.
    unsafe { libc::syscall(number, a, b, c, d, e, f) };
}

/// The signal that ends a process which makes the call in the stage.
fn end_by(stage: Stage, number: i64, arguments: [usize; 6]) -> Option<i32> {
    let child = in_child(|| {
        confine(Stage::HandOff).unwrap();
        if stage == Stage::Serving {
            confine(Stage::Serving).unwrap();
        }
        call(number, arguments);
    });
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().expect("it has ended");
    status.terminating_signal()
}

const NOTHING: [usize; 6] = [0; 6];
const EXECUTABLE: usize = (libc::PROT_READ | libc::PROT_EXEC) as usize;
const ANONYMOUS: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;

#[test]
fn a_call_that_opens_runs_reaches_or_looks_into_anything_ends_it() {
    let path = c"/dev/null".as_ptr() as usize;
    let calls: &[(&str, i64, [usize; 6])] = &[
        #[cfg(target_arch = "x86_64")]
        ("open", libc::SYS_open, [path, 0, 0, 0, 0, 0]),
        ("openat", libc::SYS_openat, [libc::AT_FDCWD as usize, path, 0, 0, 0, 0]),
        (
            "socket",
            libc::SYS_socket,
            [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, 0, 0, 0],
        ),
        ("connect", libc::SYS_connect, NOTHING),
        ("sendmsg", libc::SYS_sendmsg, NOTHING),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0, 0]),
        #[cfg(target_arch = "x86_64")]
        ("fork", libc::SYS_fork, NOTHING),
        ("clone", libc::SYS_clone, NOTHING),
        ("ptrace", libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, NOTHING),
        ("process_vm_readv", libc::SYS_process_vm_readv, NOTHING),
        ("userfaultfd", libc::SYS_userfaultfd, NOTHING),
        ("mprotect", libc::SYS_mprotect, [0, 0, EXECUTABLE, 0, 0, 0]),
        ("mmap of a program", libc::SYS_mmap, [0, 4096, EXECUTABLE, ANONYMOUS, usize::MAX, 0]),
        ("ioctl of a terminal", libc::SYS_ioctl, [0, libc::TIOCSTI as usize, 0, 0, 0, 0]),
        (
            "prctl that makes it dumpable",
            libc::SYS_prctl,
            [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0],
        ),
    ];
    for stage in [Stage::HandOff, Stage::Serving] {
        for &(name, number, arguments) in calls {
            assert_eq!(end_by(stage, number, arguments), Some(libc::SIGSYS), "{name}, {stage:?}");
        }
    }
}

#[test]
fn the_calls_of_a_hand_off_end_it_once_it_serves() {
    let fionbio = [usize::MAX, libc::FIONBIO as usize, 0, 0, 0, 0];
    let calls: &[(&str, i64, [usize; 6])] = &[
        ("accept4", libc::SYS_accept4, [usize::MAX, 0, 0, 0, 0, 0]),
        ("recvmsg", libc::SYS_recvmsg, [usize::MAX, 0, 0, 0, 0, 0]),
        ("getsockopt", libc::SYS_getsockopt, [usize::MAX, 0, 0, 0, 0, 0]),
        #[cfg(target_arch = "x86_64")]
        ("readlink", libc::SYS_readlink, NOTHING),
        #[cfg(not(target_arch = "x86_64"))]
        ("readlinkat", libc::SYS_readlinkat, NOTHING),
        ("fcntl", libc::SYS_fcntl, [usize::MAX, libc::F_GETFL as usize, 0, 0, 0, 0]),
        ("ioctl of a socket", libc::SYS_ioctl, fionbio),
    ];
    for &(name, number, arguments) in calls {
        assert_eq!(end_by(Stage::HandOff, number, arguments), None, "{name}");
        assert_eq!(end_by(Stage::Serving, number, arguments), Some(libc::SIGSYS), "{name}");
    }
}

#[test]
fn memory_and_time_are_left_to_it() {
    let child = in_child(|| {
        confine(Stage::HandOff).unwrap();
        confine(Stage::Serving).unwrap();
        let large = vec![1_u8; 8 << 20];
        assert!(std::hint::black_box(large).iter().all(|byte| *byte == 1));
        assert!(std::time::Instant::now().elapsed() < std::time::Duration::MAX);
    });
    assert!(succeeds(child));
}

#[test]
fn the_program_is_behind_one_filter_while_it_waits_and_behind_two_while_it_serves() {
    let Some((memory, uffd)) = Memory::new(4, 0) else { return };
    let chain = TestChain::flat(&mut Random::new(11), 4);
    let mut pager = Pager::start(&chain);
    pager.reaches(Metric::State, State::Waiting as u64);
    assert_eq!(filters(&pager), ("2".into(), "1".into()));
    let connection = pager.connect();
    hand_over(&connection, &memory.whole(), &uffd);
    pager.reaches(Metric::State, State::Serving as u64);
    assert_eq!(filters(&pager), ("2".into(), "2".into()));
    assert_eq!(memory.page(3), chain.page(3));
    drop(connection);
    let ended = pager.end();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

/// The mode of system calls, 2 for filters, and how many there are beyond those of this process.
fn filters(pager: &Pager) -> (String, String) {
    let of = |process: &str| {
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(String::new(), |value| value.trim().to_owned())
        };
        (field("Seccomp:"), field("Seccomp_filters:").parse::<u32>().unwrap())
    };
    let (mode, all) = of(&pager.id().to_string());
    let (_, ours) = of("self");
    (mode, (all - ours).to_string())
}
