use std::fs;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::support::Agent;

async fn call(agent: &Agent, method: &str, message: Value) -> Result<Value, Value> {
    agent.call(&format!("filesystem.Filesystem/{method}"), message).await
}

fn text(path: std::path::PathBuf) -> String {
    path.canonicalize().unwrap_or(path).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_entry_is_described_whole() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "12345").unwrap();
    let path = text(agent.path("file"));
    let entry = call(&agent, "Stat", json!({ "path": path })).await.unwrap()["entry"].take();
    assert_eq!(entry["name"], "file");
    assert_eq!(entry["type"], "FILE_TYPE_FILE");
    assert_eq!(entry["path"], path);
    assert_eq!(entry["size"], "5");
    assert_eq!(entry["mode"], 0o644);
    assert_eq!(entry["permissions"], "-rw-r--r--");
    assert!(entry["modifiedTime"].as_str().unwrap().ends_with('Z'));
    assert!(entry.get("symlinkTarget").is_none() && entry.get("metadata").is_none());
    if crate::support::is_root() {
        assert_eq!((&entry["owner"], &entry["group"]), (&"root".into(), &"root".into()));
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let agent = Agent::start().await;
    for method in ["Stat", "ListDir"] {
        let error = call(&agent, method, json!({ "path": agent.path("no") })).await.unwrap_err();
        assert_eq!((&error["code"], &error["status"]), (&"not_found".into(), &404.into()));
    }
    let moving = json!({ "source": agent.path("no"), "destination": agent.path("x") });
    assert_eq!(call(&agent, "Move", moving).await.unwrap_err()["code"], "not_found");
}

#[tokio::test]
async fn directories_are_made_listed_moved_and_removed() {
    let agent = Agent::start().await;
    let root = text(agent.folder.path().to_owned());
    let made = call(&agent, "MakeDir", json!({ "path": format!("{root}/a/b") })).await.unwrap();
    assert_eq!(made["entry"]["permissions"], "drwxr-xr-x");
    fs::write(agent.path("a/b/file"), "").unwrap();
    let moving = json!({ "source": format!("{root}/a/b"), "destination": format!("{root}/c/d") });
    let moved = call(&agent, "Move", moving).await.unwrap();
    assert_eq!(moved["entry"]["path"], format!("{root}/c/d"));
    let list = call(&agent, "ListDir", json!({ "path": root, "depth": 9 })).await.unwrap();
    let paths: Vec<&str> =
        list["entries"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    let expected = ["a", "c", "c/d", "c/d/file"].map(|name| format!("{root}/{name}"));
    assert_eq!(paths, expected);
    for _ in 0..2 {
        let removed = call(&agent, "Remove", json!({ "path": format!("{root}/c") })).await;
        assert_eq!(removed.unwrap(), json!({}));
    }
    assert!(!agent.path("c").exists());
}

#[tokio::test]
async fn making_what_is_there_is_an_error_of_its_own_kind() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "").unwrap();
    let error = call(&agent, "MakeDir", json!({ "path": agent.folder.path() })).await.unwrap_err();
    assert_eq!((&error["code"], &error["status"]), (&"already_exists".into(), &409.into()));
    let error = call(&agent, "MakeDir", json!({ "path": agent.path("file") })).await.unwrap_err();
    assert_eq!(error["code"], "invalid_argument");
}

#[tokio::test]
async fn listing_a_file_is_an_error() {
    let agent = Agent::start().await;
    let path = text(agent.path("file"));
    fs::write(&path, "").unwrap();
    let error = call(&agent, "ListDir", json!({ "path": path })).await.unwrap_err();
    assert_eq!(error["code"], "invalid_argument");
    assert_eq!(error["message"], format!("path is not a directory: {path}"));
}

#[tokio::test]
async fn removing_a_link_leaves_its_target() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("target")).unwrap();
    fs::write(agent.path("target/file"), "").unwrap();
    symlink("target", agent.path("link")).unwrap();
    call(&agent, "Remove", json!({ "path": agent.path("link") })).await.unwrap();
    assert!(!agent.path("link").is_symlink());
    assert!(agent.path("target/file").exists());
}

#[tokio::test]
async fn paths_that_cannot_be_are_refused() {
    let agent = Agent::start().await;
    for path in ["a\0b".to_owned(), "~root/x".to_owned(), "x/".repeat(3000)] {
        let error = call(&agent, "Stat", json!({ "path": path })).await.unwrap_err();
        assert_eq!(error["code"], "invalid_argument");
    }
    let error = call(&agent, "Remove", json!({ "path": "/a/.." })).await.unwrap_err();
    assert_eq!(error["code"], "invalid_argument");
}

#[tokio::test]
async fn links_in_a_circle_are_an_error_and_not_a_loop() {
    let agent = Agent::start().await;
    symlink("circle", agent.path("circle")).unwrap();
    let error = call(&agent, "ListDir", json!({ "path": agent.path("circle") })).await.unwrap_err();
    assert_eq!(error["code"], "invalid_argument");
}

#[tokio::test]
async fn a_deep_tree_is_removed() {
    let agent = Agent::start().await;
    let script = format!(
        "cd {} && i=0; while [ $i -lt 600 ]; do mkdir d && cd d || exit 1; i=$((i+1)); done",
        agent.folder.path().display()
    );
    assert_eq!(agent.run(&script).await.end["exitCode"], 0);
    call(&agent, "Remove", json!({ "path": agent.path("d") })).await.unwrap();
    assert!(!agent.path("d").exists());
}
