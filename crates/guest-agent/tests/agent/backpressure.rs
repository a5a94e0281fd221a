use std::time::Duration;

use crate::support::{Agent, Events, Frame};

const MANY: usize = 200_000_000;
const MEMORY: u64 = 48 << 10;

#[tokio::test]
async fn much_output_passes_in_constant_memory() {
    let agent = Agent::start().await;
    let mut events = Events::open(agent.sh(&format!("head -c {MANY} /dev/zero"))).await;
    let mut encoded = 0;
    loop {
        match events.next().await.unwrap() {
            Frame::Close(close) => break assert!(close["error"].is_null()),
            Frame::Event(event) => {
                let text = event["data"]["stdout"].as_str().unwrap_or_default();
                encoded += text.trim_end_matches('=').len() * 3 / 4;
            }
        }
    }
    assert_eq!(encoded, MANY);
    assert!(agent.peak_memory() < MEMORY, "{} KiB", agent.peak_memory());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_process() {
    let agent = Agent::start().await;
    let marker = agent.path("marker");
    let script = format!("head -c 100000000 /dev/zero; echo > {}", marker.display());
    let mut events = Events::open(agent.sh(&script)).await;
    events.pid().await;
    // Far longer than the process needs when it is not held.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!marker.exists());
    assert!(agent.peak_memory() < MEMORY, "{} KiB", agent.peak_memory());
    let output = events.collect().await;
    assert_eq!(output.stdout.len(), 100_000_000);
    assert!(marker.exists());
}

#[tokio::test]
async fn a_client_that_leaves_without_reading_frees_the_process() {
    let agent = Agent::start().await;
    let marker = agent.path("marker");
    let script = format!("head -c 100000000 /dev/zero; echo > {}", marker.display());
    let mut events = Events::open(agent.sh(&script)).await;
    events.pid().await;
    drop(events);
    crate::support::eventually("the process went on", || marker.exists()).await;
}
