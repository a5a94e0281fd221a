//! These need root, and pass without looking when they are run by anybody else.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::{Agent, Events, is_root, shell};

/// Every system has it.
const USER: &str = "nobody";

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("{USER}:")))
}

#[tokio::test]
async fn an_unknown_user_is_named() {
    let agent = Agent::start().await;
    let basic = format!("Basic {}", STANDARD.encode("perch-nobody:"));
    let start = agent.sh("true").header("Authorization", basic);
    let error = Events::open(start).await.collect().await.error;
    let message = "invalid username: 'perch-nobody'";
    assert_eq!(error, json!({ "code": "unauthenticated", "message": message }));
}

#[tokio::test]
async fn a_command_runs_as_its_user_with_that_users_groups() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let script = "id -un; id -G; echo $USER $LOGNAME; grep CapEff /proc/self/status; pwd";
    let start = agent.sh(script).header("Authorization", basic());
    let output = Events::open(start).await.collect().await;
    let group = primary_group();
    let expected = format!("{USER}\n{group}\n{USER} {USER}\nCapEff:\t0000000000000000\n/\n");
    assert_eq!(output.text(), expected, "{:?}", String::from_utf8_lossy(&output.stderr));
}

/// The primary group in /etc/passwd.
fn primary_group() -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with(&format!("{USER}:"))).unwrap();
    line.split(':').nth(3).unwrap().to_owned()
}

#[tokio::test]
async fn a_terminal_belongs_to_its_user() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let mut message = shell("echo writable > $(tty)");
    message["pty"] = json!({});
    message["stdin"] = true.into();
    let start = agent.stream("Start", message).header("Authorization", basic());
    let output = Events::open(start).await.collect().await;
    assert_eq!(output.text(), "writable\r\n");
}

/// Opening a standard stream by its name opens what it leads to anew, with the user's own rights.
#[tokio::test]
async fn standard_streams_can_be_opened_by_name() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; echo both | tee /dev/stderr; cat < /dev/stdin";
    let mut message = shell(script);
    let start = agent.stream("Start", message.clone()).header("Authorization", basic());
    let output = Events::open(start).await.collect().await;
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert_eq!(texts, ["out\nboth\n", "err\nboth\n"]);
    assert_eq!(output.end["exitCode"], 0);
    message["pty"] = json!({});
    message["stdin"] = true.into();
    message["process"]["args"][1] =
        "echo a > /dev/stdout; echo b > /dev/stderr; exec 3< /dev/stdin".into();
    let start = agent.stream("Start", message).header("Authorization", basic());
    let output = Events::open(start).await.collect().await;
    assert_eq!((output.text(), &output.end["exitCode"]), ("a\r\nb\r\n", &0.into()));
}

#[tokio::test]
async fn input_can_be_read_by_the_name_of_its_stream() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let mut message = shell("cat < /dev/stdin");
    message["stdin"] = true.into();
    let start = agent.stream("Start", message).header("Authorization", basic());
    let mut events = Events::open(start).await;
    let process = json!({ "pid": events.pid().await });
    let input = json!({ "process": process, "input": { "stdin": STANDARD.encode("given") } });
    agent.call("process.Process/SendInput", input).await.unwrap();
    agent.call("process.Process/CloseStdin", json!({ "process": process })).await.unwrap();
    let output = events.collect().await;
    assert_eq!((output.text(), &output.end["exitCode"]), ("given", &0.into()));
}

#[tokio::test]
async fn uploaded_files_and_their_directories_belong_to_the_user() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let path = agent.path("a/b/file");
    let url = format!("/files?path={}&username={USER}", path.display());
    let request = agent.post(&url).header("Content-Type", "application/octet-stream").body("x");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let uid = std::fs::metadata(&path).unwrap().uid();
    assert_ne!(uid, 0);
    for (path, mode) in [("a", 0o40755), ("a/b", 0o40755), ("a/b/file", 0o100_644)] {
        let status = std::fs::metadata(agent.path(path)).unwrap();
        assert_eq!((status.uid(), status.mode()), (uid, mode), "{path}");
    }
    assert_eq!(agent.folder.path().metadata().unwrap().uid(), 0);
}

#[tokio::test]
async fn a_file_that_is_written_over_keeps_owner_group_and_mode() {
    if !is_root() {
        return;
    }
    let agent = Agent::start().await;
    let path = agent.path("sudoers");
    let url = format!("/files?path={}&username={USER}", path.display());
    for (owner, group, mode) in [(0, 0, 0o440), (12, 34, 0o4750)] {
        std::fs::write(&path, "earlier").unwrap();
        std::os::unix::fs::chown(&path, Some(owner), Some(group)).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let request = agent.post(&url).header("Content-Type", "application/octet-stream");
        assert_eq!(request.body("later").send().await.unwrap().status(), 200);
        let status = std::fs::metadata(&path).unwrap();
        assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (owner, group, mode));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "later");
    }
}
