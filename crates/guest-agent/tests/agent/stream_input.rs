use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use crate::support::{Agent, Events, Frame};

/// A call whose messages are sent one by one.
struct Sending {
    messages: Option<UnboundedSender<Bytes>>,
    answer: JoinHandle<Vec<Frame>>,
}

impl Sending {
    fn open(agent: &Agent) -> Self {
        let (messages, queue) = unbounded_channel::<Bytes>();
        let body = stream::unfold(queue, |mut queue| async move {
            queue.recv().await.map(|bytes| (Ok::<_, std::io::Error>(bytes), queue))
        });
        let request = agent
            .post("/process.Process/StreamInput")
            .header("Content-Type", "application/connect+json")
            .body(Body::wrap_stream(body));
        let answer = tokio::spawn(async move {
            let mut events = Events::open(request).await;
            let mut frames = Vec::new();
            loop {
                frames.push(events.next().await.expect("the stream was cut"));
                if matches!(frames.last(), Some(Frame::Close(_))) {
                    return frames;
                }
            }
        });
        Self { messages: Some(messages), answer }
    }

    fn send(&self, message: &Value) {
        let text = message.to_string();
        let head = [&[0][..], &(text.len() as u32).to_be_bytes()].concat();
        // In two pieces, as they may come over a network.
        for bytes in [head, text.into_bytes()] {
            let _ = self.messages.as_ref().unwrap().send(bytes.into());
        }
    }

    fn start(&self, pid: u64) {
        self.send(&json!({ "start": { "process": { "pid": pid } } }));
    }

    fn data(&self, kind: &str, text: &str) {
        self.send(&json!({ "data": { "input": { kind: STANDARD.encode(text) } } }));
    }

    /// The error that comes while more could be sent.
    async fn error(self) -> Value {
        match self.answer.await.unwrap().pop() {
            Some(Frame::Close(mut end)) => end["error"]["code"].take(),
            other => panic!("no end but {other:?}"),
        }
    }
}

#[tokio::test]
async fn input_reaches_the_process_as_it_comes() {
    let agent = Agent::start().await;
    let cat = json!({ "process": { "cmd": "cat" } });
    let mut events = Events::open(agent.stream("Start", cat)).await;
    let mut sending = Sending::open(&agent);
    sending.start(events.pid().await);
    sending.data("stdin", "one\n");
    events.until("one\n").await;
    sending.send(&json!({ "keepalive": {} }));
    sending.data("stdin", "two\n");
    events.until("two\n").await;
    sending.messages = None;
    let frames = sending.answer.await.unwrap();
    assert_eq!(frames, [Frame::Event(json!({})), Frame::Close(json!({}))]);
    // The end of the call is not that of the input.
    let mut again = Sending::open(&agent);
    let list = agent.call("process.Process/List", json!({})).await.unwrap();
    again.start(list["processes"][0]["pid"].as_u64().unwrap());
    again.data("stdin", "three\n");
    events.until("three\n").await;
    again.messages = None;
    again.answer.await.unwrap();
}

#[tokio::test]
async fn a_terminal_takes_its_input_so_too() {
    let agent = Agent::start().await;
    let pty = json!({ "size": { "cols": 80, "rows": 24 } });
    let start = json!({ "process": { "cmd": "cat" }, "pty": pty });
    let mut events = Events::open(agent.stream("Start", start)).await;
    let sending = Sending::open(&agent);
    sending.start(events.pid().await);
    sending.data("pty", "hi\n");
    events.until("hi").await;
    sending.data("pty", "\x03");
    assert_eq!(events.collect().await.end["exited"], false);
    sending.data("pty", "late");
    assert_eq!(sending.error().await, "not_found");
}

#[tokio::test]
async fn an_error_comes_while_the_client_still_sends() {
    let agent = Agent::start().await;
    let sending = Sending::open(&agent);
    sending.start(999_999_999);
    assert_eq!(sending.error().await, "not_found");

    let mut events = Events::open(agent.sh("sleep 1000")).await;
    let pid = events.pid().await;
    let sending = Sending::open(&agent);
    sending.data("stdin", "x");
    assert_eq!(sending.error().await, "invalid_argument");
    let sending = Sending::open(&agent);
    sending.start(pid);
    sending.start(pid);
    assert_eq!(sending.error().await, "invalid_argument");
    let sending = Sending::open(&agent);
    sending.start(pid);
    sending.data("pty", "x");
    assert_eq!(sending.error().await, "failed_precondition");
    let sending = Sending::open(&agent);
    let _ = sending.messages.as_ref().unwrap().send(Bytes::from_static(b"\0\xff\xff\xff\xff"));
    assert_eq!(sending.error().await, "resource_exhausted");
}
