use serde_json::{Value, json};

use crate::support::{Agent, Events, alive, eventually, pid_in};

fn signal(pid: u64, name: &str) -> Value {
    json!({ "process": { "pid": pid }, "signal": name })
}

#[tokio::test]
async fn a_killed_process_says_so() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.sh("sleep 1000")).await;
    let pid = events.pid().await;
    agent.call("process.Process/SendSignal", signal(pid, "SIGNAL_SIGKILL")).await.unwrap();
    let text = "signal: killed";
    let end =
        json!({ "exitCode": -1, "exited": false, "status": text, "error": text, "signal": 9 });
    assert_eq!(events.collect().await.end, end);
    let again = agent.call("process.Process/SendSignal", signal(pid, "SIGNAL_SIGKILL")).await;
    assert_eq!(again.unwrap_err()["code"], "not_found");
}

#[tokio::test]
async fn a_signal_reaches_the_whole_group() {
    let agent = Agent::start().await;
    let child = agent.path("child");
    let script = format!("sleep 1000 & echo $! > {}; wait; wait", child.display());
    let mut events = Events::open(agent.sh(&script)).await;
    let pid = events.pid().await;
    let child = pid_in(&child).await;
    agent.call("process.Process/SendSignal", signal(pid, "SIGNAL_SIGTERM")).await.unwrap();
    assert_eq!(events.collect().await.end["signal"], 15);
    eventually("the child is dead", || !alive(child)).await;
}

#[tokio::test]
async fn a_process_may_catch_a_signal() {
    let agent = Agent::start().await;
    let script = "trap 'echo caught; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let mut events = Events::open(agent.sh(script)).await;
    let pid = events.pid().await;
    events.until("ready").await;
    agent.call("process.Process/SendSignal", signal(pid, "SIGNAL_SIGTERM")).await.unwrap();
    let output = events.collect().await;
    assert_eq!((output.text(), &output.end["exitCode"]), ("caught\n", &7.into()));
}

#[tokio::test]
async fn what_is_no_signal_is_refused() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.sh("sleep 1000")).await;
    let pid = events.pid().await;
    let error = agent.call("process.Process/SendSignal", signal(pid, "SIGNAL_UNKNOWN")).await;
    assert_eq!(error.unwrap_err()["code"], "invalid_argument");
}
