use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Agent, Events, answer, shell};

fn with_input(script: &str) -> Value {
    json!({ "process": { "cmd": "/bin/sh", "args": ["-c", script] } })
}

fn input(pid: u64, bytes: &[u8]) -> Value {
    json!({ "process": { "pid": pid }, "input": { "stdin": STANDARD.encode(bytes) } })
}

#[tokio::test]
async fn input_reaches_the_process_until_it_is_closed() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.stream("Start", with_input("cat; echo over"))).await;
    let pid = events.pid().await;
    agent.call("process.Process/SendInput", input(pid, b"one\n")).await.unwrap();
    events.until("one\n").await;
    agent.call("process.Process/SendInput", input(pid, b"two\n")).await.unwrap();
    let close = json!({ "process": { "pid": pid } });
    agent.call("process.Process/CloseStdin", close.clone()).await.unwrap();
    assert_eq!(events.collect().await.text(), "two\nover\n");
    let error = agent.call("process.Process/CloseStdin", close).await.unwrap_err();
    assert_eq!(error["code"], "not_found");
}

#[tokio::test]
async fn without_input_a_process_reads_nothing() {
    let agent = Agent::start().await;
    assert_eq!(agent.run("cat; readlink /proc/self/fd/0").await.text(), "/dev/null\n");
}

#[tokio::test]
async fn input_to_a_closed_stdin_is_refused() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.sh("sleep 1000")).await;
    let pid = events.pid().await;
    let error = agent.call("process.Process/SendInput", input(pid, b"x")).await.unwrap_err();
    assert_eq!(error["code"], "failed_precondition");
    let terminal = json!({ "process": { "pid": pid }, "input": { "pty": "eA==" } });
    let error = agent.call("process.Process/SendInput", terminal).await.unwrap_err();
    assert_eq!(error["code"], "failed_precondition");
}

#[tokio::test]
async fn input_that_nobody_reads_holds_up_nobody_else() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.stream("Start", with_input("sleep 1000"))).await;
    let pid = events.pid().await;
    let waiting = tokio::spawn(answer(
        agent.post("/process.Process/SendInput").json(&input(pid, &vec![b'x'; 1_000_000])),
    ));
    assert_eq!(agent.run("echo free").await.text(), "free\n");
    assert!(!waiting.is_finished());
    let kill = json!({ "process": { "pid": pid }, "signal": "SIGNAL_SIGKILL" });
    agent.call("process.Process/SendSignal", kill).await.unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn a_megabyte_of_input_arrives_whole() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.stream("Start", with_input("sleep 0.1; wc -c"))).await;
    let pid = events.pid().await;
    agent.call("process.Process/SendInput", input(pid, &vec![b'x'; 1_000_000])).await.unwrap();
    let close = json!({ "process": { "pid": pid } });
    agent.call("process.Process/CloseStdin", close).await.unwrap();
    assert_eq!(events.collect().await.text().trim(), "1000000");
}

#[tokio::test]
async fn input_can_come_as_plain_bytes_of_any_length() {
    let agent = Agent::start().await;
    let process = json!({ "cmd": "/usr/bin/wc", "args": ["-c"] });
    let mut events = Events::open(agent.stream("Start", json!({ "process": process }))).await;
    let pid = events.pid().await;
    let send = |pid: u64, bytes: Vec<u8>| {
        answer(agent.post(&format!("/perch.Commands/Input?pid={pid}")).body(bytes))
    };
    assert_eq!(send(pid, vec![0; 10_000_000]).await, Ok(json!({})));
    assert_eq!(send(pid, vec![1; 5]).await, Ok(json!({})));
    let close = json!({ "process": { "pid": pid } });
    agent.call("process.Process/CloseStdin", close).await.unwrap();
    assert_eq!(events.collect().await.text(), "10000005\n");
    assert_eq!(send(pid, vec![1]).await.unwrap_err()["code"], "not_found");
    let unnamed = answer(agent.post("/perch.Commands/Input").body("x")).await;
    assert_eq!(unnamed.unwrap_err()["code"], "invalid_argument");
}

#[tokio::test]
async fn output_can_come_as_the_bytes_that_they_are() {
    let agent = Agent::start().await;
    let mut message = shell("cat; echo err >&2");
    message["stdin"] = true.into();
    let start = agent.stream("Start", message).header("Perch-Raw-Output", "1");
    let mut response = start.send().await.unwrap();
    let mut bytes = Vec::new();
    // The start is a message as ever.
    while bytes.len() < 5 || bytes.len() < 5 + usize::from(bytes[4]) {
        bytes.extend(response.chunk().await.unwrap().unwrap());
    }
    let first = bytes.split_off(5 + usize::from(bytes[4]));
    let start: serde_json::Value = serde_json::from_slice(&bytes[5..]).unwrap();
    let pid = start["event"]["start"]["pid"].as_u64().unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    let input = async {
        let call = agent.post(&format!("/perch.Commands/Input?pid={pid}")).body(sent.clone());
        assert_eq!(call.send().await.unwrap().status(), 200);
        let close = json!({ "process": { "pid": pid } });
        agent.call("process.Process/CloseStdin", close).await.unwrap();
    };
    let output = async { [first.into(), response.bytes().await.unwrap()].concat() };
    let ((), output) = tokio::join!(input, output);
    let (mut rest, mut out, mut err, mut last) = (&output[..], Vec::new(), Vec::new(), 0);
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        match head[0] {
            0x10 => out.extend_from_slice(&after[..length]),
            0x20 => err.extend_from_slice(&after[..length]),
            flags => last = flags,
        }
        rest = &after[length..];
    }
    assert!(out == sent);
    assert_eq!((&err[..], last), (&b"err\n"[..], 2));
}
