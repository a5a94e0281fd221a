use std::fs;
use std::os::unix::ffi::OsStrExt;
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

#[tokio::test]
async fn a_large_directory_comes_in_pages_and_only_what_is_shown_is_looked_at() {
    let agent = Agent::start().await;
    let root = text(agent.folder.path().to_owned());
    fs::create_dir(agent.path("many")).unwrap();
    for number in 0..5000 {
        fs::write(agent.path(&format!("many/{number:04}")), "").unwrap();
    }
    let list = async |limit: u32, cursor: Value| {
        let message = json!({ "path": format!("{root}/many"), "limit": limit, "cursor": cursor });
        agent.call("perch.Files/List", message).await.unwrap()
    };
    let first = list(100, Value::Null).await;
    let names = |page: &Value| -> Vec<String> {
        let entries = page["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first), (0..100).map(|n| format!("{n:04}")).collect::<Vec<_>>());
    assert_eq!(first["entries"][0]["permissions"], "-rw-r--r--");
    let second = list(100, first["nextCursor"].clone()).await;
    assert_eq!(names(&second)[0], "0100");
    let mut seen = 0;
    let mut cursor = Value::Null;
    loop {
        // More than a page may have.
        let page = list(100_000, cursor).await;
        seen += names(&page).len();
        assert!(names(&page).len() <= 1000);
        cursor = page["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(seen, 5000);
    let missing = json!({ "path": format!("{root}/no"), "limit": 1 });
    assert_eq!(agent.call("perch.Files/List", missing).await.unwrap_err()["code"], "not_found");
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_listed_described_read_written_moved_and_removed() {
    let agent = Agent::start().await;
    let folder = agent.folder.path().canonicalize().unwrap();
    let odd = folder.join(std::ffi::OsStr::from_bytes(b"caf\xe9 \xff"));
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(std::ffi::OsStr::from_bytes(b"\x80")), "content").unwrap();
    let listed = call(&agent, "ListDir", json!({ "path": folder, "depth": 2 })).await.unwrap();
    let path = listed["entries"][1]["path"].as_str().unwrap().to_owned();
    assert_eq!(listed["entries"][1]["name"], "\u{10FE80}");
    assert!(path.ends_with("/caf\u{10FEE9} \u{10FEFF}/\u{10FE80}"), "{path}");
    let found = call(&agent, "Stat", json!({ "path": path })).await.unwrap();
    assert_eq!(found["entry"]["size"], "7");
    let url = reqwest::Url::parse_with_params("http://x/files", [("path", &path)]).unwrap();
    let target = format!("{}?{}", url.path(), url.query().unwrap());
    let read = agent.get(&target).send().await.unwrap();
    assert_eq!(read.text().await.unwrap(), "content");
    let write = agent.post(&target).header("Content-Type", "application/octet-stream").body("new");
    let written: Value = write.send().await.unwrap().json().await.unwrap();
    assert_eq!(written[0]["path"], path);
    assert_eq!(fs::read(odd.join(std::ffi::OsStr::from_bytes(b"\x80"))).unwrap(), b"new");
    let moved = format!("{path}\u{10FE81}");
    call(&agent, "Move", json!({ "source": path, "destination": moved })).await.unwrap();
    assert!(odd.join(std::ffi::OsStr::from_bytes(b"\x80\x81")).exists());
    let directory = path.rsplit_once('/').unwrap().0;
    let mut message = crate::support::shell("pwd");
    message["process"]["cwd"] = directory.into();
    let output = crate::support::Events::open(agent.stream("Start", message)).await.collect().await;
    assert_eq!(output.stdout, [odd.as_os_str().as_bytes(), b"\n"].concat());
    call(&agent, "Remove", json!({ "path": directory })).await.unwrap();
    assert!(!odd.exists());
}
