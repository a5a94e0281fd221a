use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::{Agent, Events, Frame, eventually};

struct Watcher<'a> {
    agent: &'a Agent,
    id: Value,
}

impl<'a> Watcher<'a> {
    async fn of(agent: &'a Agent, path: &Path, options: Value) -> Self {
        let mut message = json!({ "path": path });
        message.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let created = agent.call("filesystem.Filesystem/CreateWatcher", message).await.unwrap();
        Self { agent, id: created["watcherId"].clone() }
    }

    async fn try_events(&self) -> Result<Vec<Value>, Value> {
        let message = json!({ "watcherId": self.id });
        let mut answer = self.agent.call("filesystem.Filesystem/GetWatcherEvents", message).await?;
        Ok(answer["events"].as_array_mut().unwrap().drain(..).collect())
    }

    async fn events(&self) -> Vec<String> {
        self.try_events().await.unwrap().iter().map(short).collect()
    }

    async fn remove(&self) -> Result<Value, Value> {
        let message = json!({ "watcherId": self.id });
        self.agent.call("filesystem.Filesystem/RemoveWatcher", message).await
    }
}

/// Such as `CREATE sub/file`.
fn short(event: &Value) -> String {
    let kind = event["type"].as_str().unwrap().strip_prefix("EVENT_TYPE_").unwrap();
    format!("{kind} {}", event["name"].as_str().unwrap())
}

async fn upload(agent: &Agent, path: &Path, body: &str) {
    let request = agent.post("/files").query(&[("path", path)]);
    let request = request.header("Content-Type", "application/octet-stream").body(body.to_owned());
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_upload_is_a_file_that_is_made_changed_and_written_and_nothing_else() {
    let agent = Agent::start().await;
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({})).await;
    upload(&agent, &agent.path("plain"), "text").await;
    assert_eq!(watcher.events().await, ["CREATE plain", "CHMOD plain", "WRITE plain"]);
    upload(&agent, &agent.path("plain"), "other text").await;
    assert_eq!(watcher.events().await, ["WRITE plain"]);

    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&[7; 3_000_000]).unwrap();
    let request = agent.post("/files").query(&[("path", agent.path("packed"))]);
    let request = request.header("Content-Type", "application/octet-stream");
    let request = request.header("Content-Encoding", "gzip").header("X-Metadata-Key", "value");
    let response = request.body(packed.finish().unwrap()).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(watcher.events().await, ["CREATE packed", "CHMOD packed", "WRITE packed"]);

    let part = |name: &str| {
        let name = agent.path(name).to_str().unwrap().to_owned();
        reqwest::multipart::Part::bytes(&b"x"[..]).file_name(name)
    };
    let form = reqwest::multipart::Form::new().part("file", part("a")).part("file", part("b"));
    assert_eq!(agent.post("/files").multipart(form).send().await.unwrap().status(), 200);
    let both = ["CREATE a", "CHMOD a", "WRITE a", "CREATE b", "CHMOD b", "WRITE b"];
    assert_eq!(watcher.events().await, both);
}

#[tokio::test]
async fn an_upload_that_fails_is_no_event() {
    let agent = Agent::start().await;
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({})).await;
    let request = agent.post("/files").query(&[("path", agent.path("file"))]);
    let request = request.header("Content-Type", "application/octet-stream");
    let response = request.header("Content-Encoding", "gzip").body("no gzip").send().await.unwrap();
    assert_eq!(response.status(), 400);
    assert!(watcher.events().await.is_empty());
}

#[tokio::test]
async fn a_stream_starts_and_tells_each_change_with_the_file_as_it_is() {
    let agent = Agent::start().await;
    let message = json!({ "path": agent.folder.path(), "includeEntry": true });
    let request = agent.stream_of("filesystem.Filesystem/WatchDir", message);
    let mut events = Events::open(request).await;
    assert_eq!(events.event().await, json!({ "start": {} }));
    let file = agent.path("file");
    fs::write(&file, "four").unwrap();
    let made = events.event().await["filesystem"].take();
    assert_eq!(short(&made), "CREATE file");
    assert_eq!(made["entry"]["path"], file.to_str().unwrap());
    assert_eq!(short(&events.event().await["filesystem"]), "WRITE file");
    fs::rename(&file, agent.path("new")).unwrap();
    let old = events.event().await["filesystem"].take();
    assert_eq!((short(&old).as_str(), &old["entry"]), ("RENAME file", &Value::Null));
    let new = events.event().await["filesystem"].take();
    assert_eq!((short(&new).as_str(), &new["entry"]["size"]), ("CREATE new", &json!("4")));
    fs::remove_file(agent.path("new")).unwrap();
    assert_eq!(short(&events.event().await["filesystem"]), "REMOVE new");
}

#[tokio::test]
async fn a_stream_ends_at_its_time_out_and_says_before_that_it_lives() {
    let agent = Agent::start().await;
    let watch = || {
        let message = json!({ "path": agent.folder.path() });
        agent.stream_of("filesystem.Filesystem/WatchDir", message)
    };
    let mut silent = Events::open(watch().header("Keepalive-Ping-Interval", "1")).await;
    assert_eq!(silent.event().await, json!({ "start": {} }));
    assert_eq!(silent.event().await, json!({ "keepalive": {} }));
    let mut short = Events::open(watch().header("Connect-Timeout-Ms", "50")).await;
    assert_eq!(short.event().await, json!({ "start": {} }));
    let Some(Frame::Close(end)) = short.next().await else { panic!("the stream goes on") };
    assert_eq!(end["error"]["code"], "deadline_exceeded");
}

#[tokio::test]
async fn a_tree_is_watched_with_the_directories_that_come_later() {
    let agent = Agent::start().await;
    fs::create_dir_all(agent.path("old/deep")).unwrap();
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({ "recursive": true })).await;
    fs::write(agent.path("old/deep/file"), "").unwrap();
    assert_eq!(watcher.events().await, ["CREATE old/deep/file"]);
    let path = agent.path("new/deep");
    agent.call("filesystem.Filesystem/MakeDir", json!({ "path": path })).await.unwrap();
    upload(&agent, &path.join("file"), "text").await;
    let events = watcher.events().await;
    for expected in ["CREATE new", "CREATE new/deep", "CREATE new/deep/file", "WRITE new/deep/file"]
    {
        let found = events.iter().filter(|event| *event == expected).count();
        assert!(found >= 1 && (found == 1 || expected.starts_with("WRITE")), "{events:?}");
    }
    upload(&agent, &path.join("second"), "text").await;
    let second = ["CREATE new/deep/second", "CHMOD new/deep/second", "WRITE new/deep/second"];
    assert_eq!(watcher.events().await, second);
    fs::remove_dir_all(agent.path("new")).unwrap();
    let removed =
        ["REMOVE new/deep/file", "REMOVE new/deep/second", "REMOVE new/deep", "REMOVE new"];
    let mut events = watcher.events().await;
    events.sort_by_key(|event| removed.iter().position(|each| each == event));
    assert_eq!(events, removed);
}

#[tokio::test]
async fn without_recursion_what_lies_deeper_is_no_event() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("sub")).unwrap();
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({})).await;
    fs::write(agent.path("sub/file"), "x").unwrap();
    fs::create_dir(agent.path("other")).unwrap();
    fs::write(agent.path("other/file"), "x").unwrap();
    assert_eq!(watcher.events().await, ["CREATE other"]);
}

#[tokio::test]
async fn directories_that_move_are_followed_within_the_tree_and_not_beyond_it() {
    let agent = Agent::start().await;
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(agent.path("a/deep")).unwrap();
    fs::create_dir(agent.path("b")).unwrap();
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({ "recursive": true })).await;
    fs::rename(agent.path("a"), agent.path("b/c")).unwrap();
    fs::write(agent.path("b/c/deep/file"), "").unwrap();
    let within = ["RENAME a", "CREATE b/c", "CREATE b/c/deep/file"];
    assert_eq!(watcher.events().await, within);
    fs::rename(agent.path("b/c"), outside.path().join("c")).unwrap();
    assert_eq!(watcher.events().await, ["RENAME b/c"]);
    fs::write(outside.path().join("c/deep/other"), "").unwrap();
    assert!(watcher.events().await.is_empty());
    fs::rename(outside.path().join("c"), agent.path("d")).unwrap();
    let back = ["CREATE d", "CREATE d/deep", "CREATE d/deep/file", "CREATE d/deep/other"];
    let mut events = watcher.events().await;
    events.sort();
    assert_eq!(events, back);
    fs::write(agent.path("d/deep/last"), "").unwrap();
    assert_eq!(watcher.events().await, ["CREATE d/deep/last"]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_watched_is_refused_before_the_start() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "").unwrap();
    for (name, code) in [("missing", "not_found"), ("file", "invalid_argument")] {
        let message = json!({ "path": agent.path(name) });
        let stream = agent.stream_of("filesystem.Filesystem/WatchDir", message.clone());
        let output = Events::open(stream).await.collect().await;
        assert_eq!(output.error["code"], code);
        let error = agent.call("filesystem.Filesystem/CreateWatcher", message).await.unwrap_err();
        assert_eq!(error["code"], code);
    }
}

#[tokio::test]
async fn a_watch_ends_with_its_directory() {
    let agent = Agent::start().await;
    for gone in ["removed", "moved"] {
        let path = agent.path(gone);
        fs::create_dir(&path).unwrap();
        let watcher = Watcher::of(&agent, &path, json!({})).await;
        let stream = agent.stream_of("filesystem.Filesystem/WatchDir", json!({ "path": path }));
        let mut stream = Events::open(stream).await;
        assert_eq!(stream.event().await, json!({ "start": {} }));
        match gone {
            "removed" => fs::remove_dir(&path).unwrap(),
            _ => fs::rename(&path, agent.path("elsewhere")).unwrap(),
        }
        let last = if gone == "removed" { "REMOVE ." } else { "RENAME ." };
        assert_eq!(watcher.events().await.last().unwrap(), last);
        assert_eq!(watcher.try_events().await.unwrap_err()["code"], "not_found");
        assert_eq!(stream.collect().await.error["code"], "not_found");
    }
}

#[tokio::test]
async fn a_watcher_that_is_removed_or_never_was_is_not_found() {
    let agent = Agent::start().await;
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({})).await;
    watcher.remove().await.unwrap();
    assert_eq!(watcher.try_events().await.unwrap_err()["code"], "not_found");
    assert_eq!(watcher.remove().await.unwrap_err()["code"], "not_found");
}

#[tokio::test]
async fn watches_are_so_many_and_no_more() {
    let agent = Agent::start().await;
    let message = json!({ "path": agent.folder.path() });
    let stream = agent.stream_of("filesystem.Filesystem/WatchDir", message.clone());
    let mut stream = Events::open(stream).await;
    stream.event().await;
    for _ in 1..64 {
        Watcher::of(&agent, agent.folder.path(), json!({})).await;
    }
    let create = || agent.call("filesystem.Filesystem/CreateWatcher", message.clone());
    let error = create().await.unwrap_err();
    assert_eq!((&error["code"], &error["status"]), (&json!("resource_exhausted"), &json!(429)));
    // A client that leaves makes room.
    drop(stream);
    let descriptors = format!("/proc/{}/fd", agent.pid());
    let queues = || {
        let links = fs::read_dir(&descriptors).unwrap().map_while(Result::ok);
        links
            .filter(|fd| {
                fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify"))
            })
            .count()
    };
    eventually("the queue of the stream is closed", || queues() < 64).await;
    create().await.unwrap();
}

#[tokio::test]
async fn events_wait_for_the_next_poll_in_bounded_memory_and_none_is_lost() {
    let agent = Agent::start().await;
    let watcher = Watcher::of(&agent, agent.folder.path(), json!({})).await;
    let name = |number: usize| format!("{number:0>240}");
    const FILES: usize = 8000;
    for number in 0..FILES {
        fs::write(agent.path(&name(number)), "").unwrap();
    }
    let mut seen = Vec::new();
    let mut polls = 0;
    while seen.len() < FILES {
        let events = watcher.events().await;
        assert!(
            !events.is_empty() && events.len() < FILES,
            "{} after {}",
            events.len(),
            seen.len()
        );
        seen.extend(events);
        polls += 1;
    }
    assert!(polls > 1);
    let expected: Vec<_> = (0..FILES).map(|number| format!("CREATE {}", name(number))).collect();
    assert!(seen == expected);
}
