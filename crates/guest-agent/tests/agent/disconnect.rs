use serde_json::json;

use crate::support::{Agent, Events, alive, eventually, pid_in};

#[tokio::test]
async fn a_process_outlives_its_client() {
    let agent = Agent::start().await;
    let marker = agent.path("marker");
    let wait =
        format!("until [ -e {0} ]; do sleep 0.01; done; yes | head -c 500000", marker.display());
    let mut events = Events::open(agent.sh(&wait)).await;
    let pid = events.pid().await;
    drop(events);
    std::fs::write(&marker, "").unwrap();
    let connect = agent.stream("Connect", json!({ "process": { "pid": pid } }));
    let output = Events::open(connect).await.collect().await;
    assert_eq!(output.end["exitCode"], 0);
}

#[tokio::test]
async fn a_process_on_a_leash_is_killed_with_its_group() {
    let agent = Agent::start().await;
    let child = agent.path("child");
    let script = format!("sleep 1000 & echo $! > {}; wait", child.display());
    let mut events = Events::open(agent.sh(&script).header("Perch-Kill-On-Disconnect", "1")).await;
    let pid = events.pid().await;
    let child = pid_in(&child).await;
    drop(events);
    eventually("both are dead", || !alive(pid) && !alive(child)).await;
}

#[tokio::test]
async fn a_leash_ends_with_the_process() {
    let agent = Agent::start().await;
    let child = agent.path("child");
    let script = format!("sleep 1000 & echo $! > {}", child.display());
    let start = agent.sh(&script).header("Perch-Kill-On-Disconnect", "1");
    let output = Events::open(start).await.collect().await;
    assert_eq!(output.end["exitCode"], 0);
    let child = pid_in(&child).await;
    // Two round trips: the agent has seen the first client go.
    agent.run("true").await;
    agent.run("true").await;
    assert!(alive(child));
}

#[tokio::test]
async fn a_client_that_knows_the_pid_leaves_a_process_behind_whose_leash_ends_at_the_start() {
    let agent = Agent::start().await;
    let start = agent.sh("sleep 1000").header("Perch-Kill-On-Disconnect", "start");
    let mut events = Events::open(start).await;
    let pid = events.pid().await;
    drop(events);
    // Two round trips: the agent has seen the first client go.
    agent.run("true").await;
    agent.run("true").await;
    assert!(alive(pid));
}
