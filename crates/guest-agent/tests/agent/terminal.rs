use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Agent, Events};

fn terminal(script: &str) -> Value {
    let process = json!({ "cmd": "/bin/sh", "args": ["-c", script] });
    json!({ "process": process, "pty": { "size": { "cols": 91, "rows": 17 } } })
}

#[tokio::test]
async fn a_terminal_has_the_size_that_was_asked_for_and_can_be_resized() {
    let agent = Agent::start().await;
    let script = "test -t 0 && test -t 2 && stty size; read x; stty size";
    let mut events = Events::open(agent.stream("Start", terminal(script))).await;
    let pid = events.pid().await;
    events.until("17 91").await;
    let selector = json!({ "pid": pid });
    let update = json!({ "process": selector, "pty": { "size": { "cols": 50, "rows": 9 } } });
    agent.call("process.Process/Update", update).await.unwrap();
    let input = json!({ "process": selector, "input": { "pty": STANDARD.encode("\n") } });
    agent.call("process.Process/SendInput", input).await.unwrap();
    events.until("9 50").await;
    assert_eq!(events.collect().await.end["exitCode"], 0);
}

#[tokio::test]
async fn a_terminal_controls_its_process() {
    let agent = Agent::start().await;
    let script = "trap 'echo caught; exit 2' INT; echo ready; while :; do sleep 0.01; done";
    let mut events = Events::open(agent.stream("Start", terminal(script))).await;
    let pid = events.pid().await;
    events.until("ready").await;
    let input = json!({ "pty": STANDARD.encode(b"\x03") });
    let interrupt = json!({ "process": { "pid": pid }, "input": input });
    agent.call("process.Process/SendInput", interrupt).await.unwrap();
    events.until("caught").await;
    assert_eq!(events.collect().await.end["exitCode"], 2);
}

#[tokio::test]
async fn only_a_terminal_can_be_resized_and_its_input_not_closed() {
    let agent = Agent::start().await;
    let mut pipes = Events::open(agent.sh("sleep 1000")).await;
    let selector = json!({ "pid": pipes.pid().await });
    let update = json!({ "process": selector, "pty": { "size": { "cols": 1, "rows": 1 } } });
    let error = agent.call("process.Process/Update", update).await.unwrap_err();
    assert_eq!(error["code"], "failed_precondition");
    let mut events = Events::open(agent.stream("Start", terminal("sleep 1000"))).await;
    let close = json!({ "process": { "pid": events.pid().await } });
    let error = agent.call("process.Process/CloseStdin", close).await.unwrap_err();
    assert_eq!(error["code"], "failed_precondition");
}
