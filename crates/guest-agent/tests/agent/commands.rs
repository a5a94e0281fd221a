use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Agent, Events, alive, eventually, pid_in};

const KEPT: usize = 64 << 10;

async fn list(agent: &Agent) -> Vec<Value> {
    let answer = agent.call("perch.Commands/List", json!({})).await.unwrap();
    answer["commands"].as_array().unwrap().clone()
}

async fn get(agent: &Agent, pid: u64) -> Result<Value, Value> {
    agent.call("perch.Commands/Get", json!({ "process": { "pid": pid } })).await
}

fn text(answer: &Value, stream: &str) -> Vec<u8> {
    STANDARD.decode(answer["outputs"][stream]["data"].as_str().unwrap()).unwrap()
}

/// Starts a script whose client leaves at once.
async fn leave(agent: &Agent, script: &str) -> u64 {
    Events::open(agent.sh(script)).await.pid().await
}

/// The description of a command once it has ended.
async fn ended(agent: &Agent, pid: u64) -> Value {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let answer = get(agent, pid).await.unwrap();
        if !answer["command"]["endedAt"].is_null() {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "never ended: {answer}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn output_and_exit_code_of_a_command_that_nobody_followed_are_kept() {
    let agent = Agent::start().await;
    let marker = agent.path("marker");
    let script = format!(
        "until [ -e {0} ]; do sleep 0.01; done; echo out; echo err >&2; exit 7",
        marker.display()
    );
    let pid = leave(&agent, &script).await;
    let running = get(&agent, pid).await.unwrap();
    assert_eq!((&running["command"]["end"], &running["outputs"]), (&Value::Null, &json!({})));
    std::fs::write(&marker, "").unwrap();
    let answer = ended(&agent, pid).await;
    assert_eq!(answer["command"]["end"]["exitCode"], 7);
    assert_eq!(
        (text(&answer, "stdout"), text(&answer, "stderr")),
        (b"out\n".into(), b"err\n".into())
    );
    assert_eq!(answer["outputs"]["stdout"]["truncated"], false);
    assert!(answer["command"]["startedAt"].as_u64() <= answer["command"]["endedAt"].as_u64());
}

#[tokio::test]
async fn of_much_output_the_end_is_kept() {
    let agent = Agent::start().await;
    let pid = leave(&agent, "yes | head -c 1000000; echo last").await;
    let answer = ended(&agent, pid).await;
    let kept = text(&answer, "stdout");
    assert_eq!(kept.len(), KEPT);
    assert!(kept.ends_with(b"y\nlast\n"));
    assert_eq!(answer["outputs"]["stdout"]["truncated"], true);
}

#[tokio::test]
async fn the_list_has_what_runs_and_what_has_ended() {
    let agent = Agent::start().await;
    let ended_pid = leave(&agent, "exit 3").await;
    ended(&agent, ended_pid).await;
    let live = leave(&agent, "sleep 1000").await;
    let mut commands = list(&agent).await;
    commands.sort_by_key(|command| command["end"].is_null());
    let told: Vec<_> =
        commands.iter().map(|one| (one["pid"].as_u64(), &one["end"]["exitCode"])).collect();
    assert_eq!(told, [(Some(ended_pid), &json!(3)), (Some(live), &Value::Null)]);
    assert_eq!(commands[1]["args"], json!(["-c", "sleep 1000"]));
}

#[tokio::test]
async fn commands_of_a_warm_up_are_in_no_list_afterwards() {
    let agent = Agent::start().await;
    for tag in ["perch-warm-up", "other"] {
        let process = json!({ "cmd": "/bin/true" });
        let start = json!({ "process": process, "stdin": false, "tag": tag });
        Events::open(agent.stream("Start", start)).await.collect().await;
    }
    assert_eq!(list(&agent).await.len(), 1);
}

#[tokio::test]
async fn one_that_nobody_followed_is_not_pushed_out_by_those_that_were() {
    let agent = Agent::start().await;
    // It must not end before its client has left.
    let marker = agent.path("marker");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; echo kept", marker.display());
    let pid = leave(&agent, &script).await;
    get(&agent, pid).await.unwrap();
    std::fs::write(&marker, "").unwrap();
    ended(&agent, pid).await;
    for _ in 0..300 {
        let process = json!({ "cmd": "/bin/true" });
        let start = agent.stream("Start", json!({ "process": process, "stdin": false }));
        Events::open(start).await.collect().await;
    }
    assert_eq!(text(&get(&agent, pid).await.unwrap(), "stdout"), b"kept\n");
    assert_eq!(list(&agent).await.len(), 256);
}

#[tokio::test]
async fn a_client_that_connects_again_gets_the_kept_output_and_then_the_rest() {
    let agent = Agent::start().await;
    let marker = agent.path("marker");
    let script = format!(
        "echo before; echo > {0}.said; until [ -e {0} ]; do sleep 0.01; done; echo after; exit 4",
        marker.display()
    );
    let pid = leave(&agent, &script).await;
    let said = agent.path("marker.said");
    eventually("the script has said it", || said.exists()).await;
    let connect = || agent.stream("Connect", json!({ "process": { "pid": pid }, "replay": true }));
    let mut events = Events::open(connect()).await;
    let start = events.event().await;
    let replay = json!({ "stdin": false, "truncated": [] });
    assert_eq!(start["start"], json!({ "pid": pid, "replay": replay }));
    events.until("before\n").await;
    std::fs::write(&marker, "").unwrap();
    let output = events.collect().await;
    assert_eq!((output.text(), &output.end["exitCode"]), ("after\n", &json!(4)));
    let whole = Events::open(connect()).await.collect().await;
    assert_eq!((whole.text(), &whole.end["exitCode"]), ("before\nafter\n", &json!(4)));
}

#[tokio::test]
async fn a_command_is_told_of_until_it_is_killed_and_after() {
    let agent = Agent::start().await;
    let file = agent.path("pid");
    let pid = leave(&agent, &format!("echo $$ > {}; sleep 1000", file.display())).await;
    assert_eq!(pid_in(&file).await, pid);
    let kill = json!({ "process": { "pid": pid }, "signal": "SIGNAL_SIGKILL" });
    agent.call("process.Process/SendSignal", kill).await.unwrap();
    let answer = ended(&agent, pid).await;
    assert_eq!(answer["command"]["end"]["signal"], 9);
    assert!(!alive(pid));
}

#[tokio::test]
async fn what_never_was_has_no_output() {
    let agent = Agent::start().await;
    let error = get(&agent, 999_999_999).await.unwrap_err();
    assert_eq!((&error["code"], &error["status"]), (&json!("not_found"), &json!(404)));
}
