//! These need root, and pass without looking when they are run by anybody else.

use std::os::unix::fs::MetadataExt;

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
