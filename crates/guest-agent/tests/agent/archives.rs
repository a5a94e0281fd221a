//! A directory as one tar stream.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::{Agent, TOKEN};

fn url(agent: &Agent, name: &str) -> String {
    format!("/files/archive?path={}", agent.path(name).display())
}

async fn bytes(agent: &Agent, name: &str) -> Vec<u8> {
    let response = agent.get(&url(agent, name)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-tar");
    response.bytes().await.unwrap().to_vec()
}

#[derive(Debug, PartialEq)]
struct Entry {
    kind: tar::EntryType,
    mode: u32,
    content: Vec<u8>,
    target: Vec<u8>,
    mtime: String,
}

fn entries(archive: &[u8]) -> BTreeMap<Vec<u8>, Entry> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mtime = entry.pax_extensions().unwrap().map_or_else(String::new, |records| {
            let records = records.map(|record| record.unwrap());
            records
                .map(|record| format!("{}={}", record.key().unwrap(), record.value().unwrap()))
                .collect()
        });
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let target = entry.link_name_bytes().unwrap_or_default().to_vec();
        let name = entry.path_bytes().to_vec();
        assert!(found.insert(name, Entry { kind, mode, content, target, mtime }).is_none());
    }
    found
}

#[tokio::test]
async fn a_directory_comes_with_modes_times_and_links() {
    let agent = Agent::start().await;
    let (long, odd) = ("n".repeat(255), OsStr::from_bytes(b"caf\xe9"));
    let deep = agent.path("tree").join(&long).join(odd);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("empty"), "").unwrap();
    let run = agent.path("tree/run");
    fs::write(&run, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&run, fs::Permissions::from_mode(0o4750)).unwrap();
    let time = UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    fs::File::open(&run).unwrap().set_modified(time).unwrap();
    symlink("../.././x//y/", agent.path("tree/link")).unwrap();
    let far = "t/".repeat(100);
    symlink(&far, agent.path("tree/far")).unwrap();
    assert!(Command::new("mkfifo").arg(agent.path("tree/pipe")).status().unwrap().success());
    let _socket = std::os::unix::net::UnixListener::bind(agent.path("tree/socket")).unwrap();
    let found = entries(&bytes(&agent, "tree").await);
    assert_eq!(found.len(), 9);
    let of = |name: &[u8]| &found[name];
    assert_eq!((of(b"./").kind, of(b"./").mode), (tar::EntryType::Directory, 0o755));
    let inner = [long.as_bytes(), b"/caf\xe9/"].concat();
    assert_eq!(of(&inner).kind, tar::EntryType::Directory);
    assert_eq!(of(&[&inner[..], b"empty"].concat()).content, b"");
    let file = of(b"run");
    assert_eq!((file.kind, file.mode), (tar::EntryType::Regular, 0o750));
    assert_eq!(
        (&file.content[..], &file.mtime[..]),
        (&b"#!/bin/sh\n"[..], "mtime=1000000000.123456789")
    );
    assert_eq!(
        (of(b"link").kind, &of(b"link").target[..]),
        (tar::EntryType::Symlink, &b"../.././x//y/"[..])
    );
    assert_eq!(of(b"far").target, far.as_bytes());
    for name in [&b"pipe"[..], b"socket"] {
        assert_eq!(of(name).kind, tar::EntryType::Fifo);
    }
}

#[tokio::test]
async fn files_of_every_length_come_whole_one_after_another() {
    let agent = Agent::start().await;
    let chunk = 256 << 10;
    let lengths = [0, 1, 511, 512, 513, chunk - 1, chunk, chunk + 1, 2 * chunk, 5 * chunk + 700];
    fs::create_dir(agent.path("tree")).unwrap();
    for length in lengths {
        let content: Vec<u8> = (0..length).map(|at| (at / 3) as u8).collect();
        fs::write(agent.path("tree").join(length.to_string()), content).unwrap();
    }
    let archive = bytes(&agent, "tree").await;
    let found = entries(&archive);
    for length in lengths {
        let content = &found[length.to_string().as_bytes()].content;
        assert!(
            content.len() == length
                && *content == fs::read(agent.path("tree").join(length.to_string())).unwrap()
        );
    }
    // As tar of the system reads it.
    let into = agent.path("into");
    fs::create_dir(&into).unwrap();
    fs::write(agent.path("archive"), &archive).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(agent.path("archive"))
        .arg("-C")
        .arg(&into)
        .output()
        .unwrap();
    assert!(unpacked.status.success() && unpacked.stderr.is_empty(), "{unpacked:?}");
    let same = Command::new("diff").arg("-r").arg(agent.path("tree")).arg(&into).status().unwrap();
    assert!(same.success());
}

#[tokio::test]
async fn files_that_only_say_they_are_empty_come_whole() {
    let agent = Agent::start().await;
    symlink("/proc/self/net/dev_snmp6", agent.path("snmp")).unwrap();
    let found = entries(&bytes(&agent, "snmp").await);
    assert!(found.iter().all(|(name, entry)| name == b"./" || !entry.content.is_empty()));
}

#[tokio::test]
async fn many_files_are_packed_in_constant_memory_and_a_link_that_goes_round_is_a_link() {
    let agent = Agent::start().await;
    for directory in 0..4 {
        fs::create_dir_all(agent.path("tree").join(directory.to_string())).unwrap();
        symlink("..", agent.path("tree").join(directory.to_string()).join("up")).unwrap();
        for file in 0..500 {
            fs::write(agent.path("tree").join(format!("{directory}/{file}")), [b'x'; 3000])
                .unwrap();
        }
    }
    fs::File::create(agent.path("tree/large")).unwrap().set_len(64 << 20).unwrap();
    let before = agent.peak_memory();
    let archive = bytes(&agent, "tree").await;
    assert_eq!(entries(&archive).len(), 1 + 4 * 502 + 1);
    assert!(agent.peak_memory() - before < 8 << 10, "{} KiB", agent.peak_memory() - before);
}

/// What is sent to a client that takes trailers, and to one that does not, when `then` has happened after its beginning.
fn sent(agent: &Agent, name: &str, takes: bool, then: impl FnOnce()) -> Vec<u8> {
    let mut stream = TcpStream::connect(&agent.address).unwrap();
    let te = if takes { "TE: trailers\r\n" } else { "" };
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n{te}Connection: close\r\n\r\n",
        url(agent, name)
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut sent = vec![0; 1000];
    stream.read_exact(&mut sent).unwrap();
    then();
    stream.read_to_end(&mut sent).unwrap();
    sent
}

/// The error in the trailer.
fn why(sent: &[u8]) -> Option<serde_json::Value> {
    let tail = String::from_utf8_lossy(&sent[sent.len().saturating_sub(16 << 10)..]);
    let (_, told) = tail.split_once("\r\n0\r\nperch-error: ")?;
    Some(serde_json::from_str(told.strip_suffix("\r\n\r\n").unwrap()).unwrap())
}

fn has_end(sent: &[u8]) -> bool {
    sent.ends_with(b"\r\n0\r\n\r\n")
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_packed_breaks_the_stream_which_says_why() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("tree")).unwrap();
    let path = agent.path("tree/gro\u{df}");
    let file = fs::File::create(&path).unwrap();
    for takes in [true, false] {
        file.set_len(200 << 20).unwrap();
        let sent = sent(&agent, "tree", takes, || file.set_len(1000).unwrap());
        let head = String::from_utf8_lossy(&sent[..400]).to_ascii_lowercase();
        assert_eq!(head.contains("trailer: perch-error"), takes);
        let told = why(&sent);
        assert!(told.is_some() == takes && !has_end(&sent));
        if let Some(told) = told {
            assert_eq!(told["path"], path.to_str().unwrap());
            assert_eq!(told["message"], "it became shorter while it was read");
            assert_eq!((&told["reason"], &told["code"]), (&"io".into(), &500.into()));
        }
    }
}

#[tokio::test]
async fn directories_are_packed_256_deep_and_one_deeper_is_an_error_that_names_it() {
    let agent = Agent::start().await;
    let deep = "d/".repeat(256);
    fs::create_dir_all(agent.path("tree").join(&deep)).unwrap();
    assert_eq!(entries(&bytes(&agent, "tree").await).len(), 257);
    let whole = sent(&agent, "tree", true, || {});
    assert!(why(&whole).is_none() && has_end(&whole));
    fs::create_dir(agent.path("tree").join(&deep).join("last")).unwrap();
    let told = why(&sent(&agent, "tree", true, || {})).unwrap();
    let message = told["message"].as_str().unwrap();
    assert!(message.starts_with("it lies more than 256 directories deep: /"), "{message}");
    assert_eq!(told["reason"], "invalid");
    assert!(agent.get(&url(&agent, "tree")).send().await.unwrap().bytes().await.is_err());
}

#[tokio::test]
async fn what_is_no_directory_is_refused_before_anything_is_packed() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "").unwrap();
    for (name, status, reason) in [("missing", 404, "missing"), ("file", 400, "not_directory")] {
        let response = agent.get(&url(&agent, name)).send().await.unwrap();
        assert_eq!(response.status(), status);
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["reason"], reason);
    }
    let unknown = format!("{}&username=perch-no-such-user", url(&agent, ""));
    assert_eq!(agent.get(&unknown).send().await.unwrap().status(), 401);
    assert_eq!(agent.post(&url(&agent, "")).send().await.unwrap().status(), 405);
    let stranger = agent.client.get(agent.url(&url(&agent, ""))).header("X-Access-Token", "other");
    assert_eq!(stranger.send().await.unwrap().status(), 401);
}
