use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{Agent, TOKEN};

const PATHS: [&str; 5] =
    ["/metrics", "/envs", "/files?path=/etc/passwd", "/process.Process/List", "/nowhere"];

#[tokio::test]
async fn nothing_is_served_before_the_sandbox_knows_who_it_is() {
    let agent = Agent::uninitialized();
    for path in PATHS {
        for request in [agent.get(path), agent.post(path)] {
            assert_eq!(request.send().await.unwrap().status(), 401, "{path}");
        }
    }
}

#[tokio::test]
async fn afterwards_the_token_is_needed() {
    let agent = Agent::start().await;
    for path in PATHS {
        let without = agent.client.post(agent.url(path)).send().await.unwrap();
        assert_eq!(without.status(), 401, "{path}");
        let body: Value = without.json().await.unwrap();
        assert_eq!(body["code"], 401);
        assert!(body["message"].is_string());
        let wrong = agent.client.post(agent.url(path)).header("X-Access-Token", "wrong");
        assert_eq!(wrong.send().await.unwrap().status(), 401, "{path}");
    }
    assert_eq!(agent.get("/metrics").send().await.unwrap().status(), 200);
}

fn signed(agent: &Agent, path: &str, operation: &str, user: &str, until: Option<u64>) -> String {
    let mut text = format!("{path}:{operation}:{user}:{TOKEN}");
    let mut url = format!("/files?path={path}");
    if !user.is_empty() {
        url = format!("{url}&username={user}");
    }
    if let Some(until) = until {
        text = format!("{text}:{until}");
        url = format!("{url}&signature_expiration={until}");
    }
    let signature = STANDARD_NO_PAD.encode(Sha256::digest(text));
    let signature: String = form_urlencoded::byte_serialize(signature.as_bytes()).collect();
    agent.url(&format!("{url}&signature=v1_{signature}"))
}

#[tokio::test]
async fn a_signed_url_does_for_its_file() {
    let agent = Agent::start().await;
    let path = agent.path("file").display().to_string();
    let write = signed(&agent, &path, "write", "root", Some(9_999_999_999));
    let form = reqwest::multipart::Form::new().text("file", "signed");
    if crate::support::is_root() {
        let response = agent.client.post(write).multipart(form).send().await.unwrap();
        assert_eq!(response.status(), 200);
    } else {
        std::fs::write(&path, "signed").unwrap();
    }
    let read = signed(&agent, &path, "read", "", None);
    let response = agent.client.get(&read).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "signed");
    let wrong_operation = agent.client.post(&read).body("").send().await.unwrap();
    assert_eq!(wrong_operation.status(), 401);
}

#[tokio::test]
async fn what_is_wrong_with_a_signed_url_is_said() {
    let agent = Agent::start().await;
    let refused = async |url: String| {
        let response = agent.client.get(url).send().await.unwrap();
        assert_eq!(response.status(), 401);
        response.json::<Value>().await.unwrap()
    };
    let expired = refused(signed(&agent, "/etc/passwd", "read", "", Some(1))).await;
    assert_eq!(expired, json!({ "code": 401, "message": "signature is already expired" }));
    let invalid = refused(agent.url("/files?path=/etc/passwd&signature=v1_x")).await;
    assert_eq!(invalid, json!({ "code": 401, "message": "invalid signature" }));
    let missing = refused(agent.url("/files?path=/etc/passwd")).await;
    assert_eq!(missing, json!({ "code": 401, "message": "missing signature query parameter" }));
}

#[tokio::test]
async fn with_the_token_a_signature_is_not_looked_at() {
    let agent = Agent::start().await;
    let response = agent.get("/files?path=/etc/passwd&signature=v1_x").send().await.unwrap();
    assert_eq!(response.status(), 200);
}
