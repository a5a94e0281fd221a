use serde_json::{Value, json};

use crate::support::{Agent, Events};

#[tokio::test]
async fn health_needs_no_token_and_has_no_body() {
    let agent = Agent::uninitialized();
    let response = agent.client.get(agent.url("/health")).send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert!(response.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let agent = Agent::start().await;
    for path in ["/process.Process/Nope", "/filesystem.Filesystem/Nope", "/nowhere"] {
        let response = agent.post(path).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), 404);
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], "unimplemented");
    }
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_refused() {
    let agent = Agent::start().await;
    let call = |body: &'static str| {
        let request = agent.post("/filesystem.Filesystem/Stat");
        request.header("Content-Type", "application/json").body(body).send()
    };
    assert_eq!(call("{").await.unwrap().status(), 400);
    assert_eq!(call(r#"{"path":7}"#).await.unwrap().status(), 400);
    let binary =
        agent.post("/filesystem.Filesystem/Stat").header("Content-Type", "application/proto");
    assert_eq!(binary.send().await.unwrap().status(), 415);
}

#[tokio::test]
async fn a_stream_whose_request_is_broken_ends_with_an_error() {
    let agent = Agent::start().await;
    for body in [&b""[..], b"\0\0\0\0\x09{}", b"\0\0\0\0\x02[]", b"\x01\0\0\0\x02{}"] {
        let request = agent
            .post("/process.Process/Start")
            .header("Content-Type", "application/connect+json")
            .body(body);
        let output = Events::open(request).await.collect().await;
        assert!(!output.error["code"].is_null(), "{body:?}");
    }
}

#[tokio::test]
async fn bodies_have_a_limit() {
    let agent = Agent::start().await;
    let long = json!({ "path": "x".repeat(2 << 20) });
    let error = agent.call("filesystem.Filesystem/Stat", long).await.unwrap_err();
    assert_eq!(error["code"], "resource_exhausted");
    let script = "x".repeat(5 << 20);
    let output = agent.run(&script).await;
    assert_eq!(output.error["code"], "resource_exhausted");
}

#[tokio::test]
async fn metrics_are_of_this_machine() {
    let agent = Agent::start().await;
    let metrics: Value = agent.get("/metrics").send().await.unwrap().json().await.unwrap();
    for name in ["ts", "cpu_count", "mem_total", "mem_used", "disk_used", "disk_total"] {
        assert!(metrics[name].as_u64().unwrap() > 0, "{name}");
    }
    assert!(metrics["cpu_used_pct"].as_f64().unwrap() >= 0.0);
    assert!(metrics["mem_cache"].is_u64());
}

#[tokio::test]
async fn the_environment_can_be_asked_for() {
    let agent = Agent::start().await;
    let envs: Value = agent.get("/envs").send().await.unwrap().json().await.unwrap();
    assert_eq!(envs, json!({ "FROM_SANDBOX": "yes" }));
}

#[tokio::test]
async fn browsers_may_call() {
    let agent = Agent::start().await;
    let preflight = agent.client.request(reqwest::Method::OPTIONS, agent.url("/files"));
    let response = preflight.send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}
