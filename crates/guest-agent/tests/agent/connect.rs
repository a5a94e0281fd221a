use serde_json::json;

use crate::support::{Agent, Events};

#[tokio::test]
async fn all_clients_of_a_process_get_its_output() {
    let agent = Agent::start().await;
    let process = json!({ "cmd": "/bin/sh", "args": ["-c", "read x; yes $x | head -c 3000000"] });
    let start = agent.stream("Start", json!({ "process": process, "tag": "job" }));
    let mut first = Events::open(start).await;
    let pid = first.pid().await;
    let by_pid = agent.stream("Connect", json!({ "process": { "pid": pid } }));
    let by_tag = agent.stream("Connect", json!({ "process": { "tag": "job" } }));
    let (mut second, mut third) = (Events::open(by_pid).await, Events::open(by_tag).await);
    assert_eq!((second.pid().await, third.pid().await), (pid, pid));
    let input = json!({ "process": { "pid": pid }, "input": { "stdin": "Z28K" } });
    agent.call("process.Process/SendInput", input).await.unwrap();
    let outputs = tokio::join!(first.collect(), second.collect(), third.collect());
    for output in [outputs.0, outputs.1, outputs.2] {
        assert_eq!(output.stdout.len(), 3_000_000);
        assert!(output.stdout.starts_with(b"go\ngo\n"));
        assert_eq!(output.end["exitCode"], 0);
    }
}

#[tokio::test]
async fn the_end_can_be_had_after_the_end() {
    let agent = Agent::start().await;
    let pid = agent.run("exit 9").await.pid;
    let connect = agent.stream("Connect", json!({ "process": { "pid": pid } }));
    let output = Events::open(connect).await.collect().await;
    assert_eq!((output.pid, &output.end["exitCode"]), (pid, &9.into()));
}

#[tokio::test]
async fn what_never_was_is_not_found() {
    let agent = Agent::start().await;
    for selector in [json!({ "pid": 999_999_999 }), json!({ "tag": "none" })] {
        let connect = agent.stream("Connect", json!({ "process": selector }));
        let output = Events::open(connect).await.collect().await;
        assert_eq!(output.error["code"], "not_found");
    }
}

#[tokio::test]
async fn the_list_shows_what_lives_and_how_it_was_started() {
    let agent = Agent::start().await;
    agent.run("true").await;
    let config = json!({ "cmd": "sleep", "args": ["1000"], "envs": { "A": "1" }, "cwd": "/" });
    let start = agent.stream("Start", json!({ "process": config, "tag": "nap" }));
    let mut events = Events::open(start).await;
    let pid = events.pid().await;
    let list = agent.call("process.Process/List", json!({})).await.unwrap();
    assert_eq!(list, json!({ "processes": [{ "config": config, "pid": pid, "tag": "nap" }] }));
}
