use serde_json::json;

use crate::support::{Agent, Events};

#[tokio::test]
async fn a_silent_stream_says_that_it_lives() {
    let agent = Agent::start().await;
    let start = agent.sh("sleep 1000").header("Keepalive-Ping-Interval", "1");
    let mut events = Events::open(start).await;
    events.pid().await;
    assert_eq!(events.event().await, json!({ "keepalive": {} }));
    assert_eq!(events.event().await, json!({ "keepalive": {} }));
}
