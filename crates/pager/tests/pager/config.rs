use std::{
    fs::File,
    os::{fd::AsRawFd, unix::net::UnixListener},
};

use perch_pager::metrics::BYTES;

use crate::support::{chain::TestChain, pager, random::Random};

/// The end of a program whose configuration, of right parts, was changed.
fn refusal(change: impl FnOnce(String) -> String) -> String {
    let dir = tempfile::tempdir().unwrap();
    let chain = TestChain::flat(&mut Random::new(10), 4);
    let (header, memfiles) = chain.files(&dir, 0);
    let memfile = &memfiles[0].1;
    let socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    let metrics = tempfile::tempfile().unwrap();
    metrics.set_len(BYTES as u64).unwrap();
    let writable =
        File::options().read(true).write(true).open(dir.path().join("memfile-0")).unwrap();
    let short = tempfile::tempfile().unwrap();
    let numbers = [
        header.as_raw_fd(),
        memfile.as_raw_fd(),
        socket.as_raw_fd(),
        metrics.as_raw_fd(),
        writable.as_raw_fd(),
        short.as_raw_fd(),
    ];
    let id = "01".repeat(16);
    let config = change(format!(
        r#"{{"header":HEADER,"memfiles":{{"{id}":MEMFILE}},"socket":SOCKET,"metrics":METRICS}}"#
    ));
    let names = ["HEADER", "MEMFILE", "SOCKET", "METRICS", "WRITABLE", "SHORT"];
    let config = names
        .iter()
        .zip(numbers)
        .fold(config, |config, (name, number)| config.replace(name, &number.to_string()));
    let ended = pager::ended(&mut pager::spawn(&config, numbers.to_vec()));
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    ended.stderr
}

fn replaced(what: &str, by: &str) -> String {
    refusal(|config| config.replace(what, by))
}

#[test]
fn a_configuration_that_is_not_right_is_refused_with_the_fault() {
    assert!(refusal(|_| "{".into()).contains("the configuration is wrong"));
    assert!(
        refusal(|config| format!("{config}{}", " ".repeat(300_000)))
            .contains("more than 262144 bytes")
    );
    assert!(replaced("}", "},\"path\":1").contains("unknown field `path`"));
    assert!(replaced("METRICS}", "METRICS,\"window_kib\":48}").contains("the window has 48 KiB"));
    assert!(replaced("METRICS}", "METRICS,\"window_kib\":512}").contains("the window has 512 KiB"));
}

#[test]
fn descriptors_are_open_each_taken_once_and_memory_can_only_be_read() {
    assert!(replaced("HEADER", "1000").contains("descriptor 1000: Bad file descriptor"));
    assert!(replaced("HEADER", "2").contains("descriptor 2: Bad file descriptor"));
    assert!(replaced("METRICS", "SOCKET").contains("Bad file descriptor"));
    assert!(replaced("MEMFILE", "WRITABLE").contains("can be written to"));
    assert!(replaced("METRICS", "SHORT").contains("the metrics are no file of 512 bytes"));
}

#[test]
fn the_memfiles_are_those_of_the_header() {
    assert!(replaced("0101", "0201").contains("the memfile of build 01010101"));
    assert!(replaced("0101", "x101").contains("is no build id"));
    assert!(replaced("MEMFILE", "HEADER").contains("Bad file descriptor"));
    assert!(replaced("\"header\":HEADER", "\"header\":MEMFILE").contains("the header is damaged"));
}
