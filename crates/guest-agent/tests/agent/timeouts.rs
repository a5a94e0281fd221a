use std::time::Instant;

use serde_json::json;

use crate::support::{Agent, Events, alive, eventually, pid_in};

#[tokio::test]
async fn a_timeout_kills_the_whole_process_group() {
    let agent = Agent::start().await;
    let child = agent.path("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
    let start = agent.sh(&script).header("Connect-Timeout-Ms", "300");
    let output = Events::open(start).await.collect().await;
    assert_eq!(output.error["code"], "deadline_exceeded");
    assert!(output.end.is_null());
    let child = pid_in(&child).await;
    eventually("the child is dead", || !alive(child) && !alive(output.pid)).await;
}

#[tokio::test]
async fn output_before_the_timeout_is_delivered() {
    let agent = Agent::start().await;
    let start = agent.sh("echo early; sleep 1000").header("Connect-Timeout-Ms", "300");
    let output = Events::open(start).await.collect().await;
    assert_eq!(output.text(), "early\n");
}

#[tokio::test]
async fn a_command_that_is_quicker_is_not_touched() {
    let agent = Agent::start().await;
    let start = agent.sh("exit 4").header("Connect-Timeout-Ms", "60000");
    let begun = Instant::now();
    let output = Events::open(start).await.collect().await;
    assert_eq!(output.end["exitCode"], 4);
    assert!(begun.elapsed().as_secs() < 30);
}

#[tokio::test]
async fn the_timeout_of_a_connection_leaves_the_process_alone() {
    let agent = Agent::start().await;
    let mut first = Events::open(agent.sh("sleep 1000")).await;
    let pid = first.pid().await;
    let connect = agent.stream("Connect", json!({ "process": { "pid": pid } }));
    let second = Events::open(connect.header("Connect-Timeout-Ms", "50")).await.collect().await;
    assert_eq!(second.error["code"], "deadline_exceeded");
    assert!(alive(pid));
}
