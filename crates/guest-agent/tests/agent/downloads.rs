use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::{Agent, TOKEN};

fn url(agent: &Agent, name: &str) -> String {
    format!("/files?path={}", agent.path(name).display())
}

#[tokio::test]
async fn a_file_comes_with_its_length() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "hello").unwrap();
    let response = agent.get(&url(&agent, "file")).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.content_length()), (200, Some(5)));
    assert_eq!(response.text().await.unwrap(), "hello");
}

#[tokio::test]
async fn a_file_comes_as_it_is_whatever_encoding_is_accepted() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), [b'z'; 100_000]).unwrap();
    let request = agent.get(&url(&agent, "file")).header("Accept-Encoding", "gzip");
    let response = request.send().await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(response.content_length(), Some(100_000));
    assert_eq!(response.bytes().await.unwrap(), [b'z'; 100_000].as_slice());
}

#[tokio::test]
async fn an_empty_file_has_the_length_zero() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "").unwrap();
    let response = agent.get(&url(&agent, "file")).send().await.unwrap();
    assert_eq!(response.headers()["content-length"], "0");
    assert_eq!(response.text().await.unwrap(), "");
}

#[tokio::test]
async fn files_that_only_say_they_are_empty_are_read_to_their_end() {
    let agent = Agent::start().await;
    let response = agent.get("/files?path=/proc/self/status").send().await.unwrap();
    assert!(response.text().await.unwrap().contains("perch-guest"));
    // A file that is longer than the part that is read ahead.
    let long = agent.get("/files?path=/proc/kallsyms").send().await.unwrap();
    assert_eq!((long.status().as_u16(), long.content_length()), (200, None));
    let symbols = long.text().await.unwrap();
    assert!(symbols.len() > 256 << 10, "{}", symbols.len());
    assert_eq!(symbols, fs::read_to_string("/proc/kallsyms").unwrap());
}

#[tokio::test]
async fn files_that_state_another_size_than_they_have_come_as_they_are() {
    let agent = Agent::start().await;
    let path = "/sys/class/net/lo/mtu";
    let content = fs::read(path).unwrap();
    assert_ne!(fs::metadata(path).unwrap().len(), content.len() as u64);
    let response = agent.get(&format!("/files?path={path}")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.content_length()),
        (200, Some(content.len() as u64))
    );
    assert_eq!(response.bytes().await.unwrap(), content);
    let request = agent.get(&format!("/files?path={path}")).header("Range", "bytes=1-2");
    let part = request.send().await.unwrap();
    assert_eq!(
        (part.status().as_u16(), part.bytes().await.unwrap().as_ref()),
        (206, &content[1..3])
    );
}

#[tokio::test]
async fn an_error_in_reading_is_told_before_the_first_byte() {
    let agent = Agent::start().await;
    // Nothing is mapped at its beginning.
    let response = agent.get("/files?path=/proc/self/mem").send().await.unwrap();
    assert_eq!(response.status(), 500);
    assert_eq!(response.json::<Value>().await.unwrap()["reason"], "io");
}

#[tokio::test]
async fn a_part_can_be_asked_for() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "0123456789").unwrap();
    let range = |range: &'static str| agent.get(&url(&agent, "file")).header("Range", range).send();
    let part = range("bytes=2-4").await.unwrap();
    assert_eq!(part.status(), 206);
    assert_eq!(part.headers()["content-range"], "bytes 2-4/10");
    assert_eq!(part.text().await.unwrap(), "234");
    let beyond = range("bytes=10-").await.unwrap();
    assert_eq!(beyond.status(), 416);
    assert_eq!(beyond.headers()["content-range"], "bytes */10");
}

#[tokio::test]
async fn what_is_no_file_is_refused_at_once() {
    let agent = Agent::start().await;
    let fifo = agent.path("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(agent.path("socket")).unwrap();
    let paths = ["fifo", "socket", ".", "/dev/null", "/dev/zero", "a\0b"];
    for path in paths {
        let path = agent.folder.path().join(path);
        let query: String =
            form_urlencoded::byte_serialize(path.to_str().unwrap().as_bytes()).collect();
        let response = agent.get(&format!("/files?path={query}")).send().await.unwrap();
        assert_eq!(response.status(), 400, "{}", path.display());
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["code"], 400);
    }
    let missing = agent.get(&url(&agent, "missing")).send().await.unwrap();
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.json::<Value>().await.unwrap()["code"], 404);
}

#[tokio::test]
async fn a_link_is_followed() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "target").unwrap();
    std::os::unix::fs::symlink("file", agent.path("link")).unwrap();
    let response = agent.get(&url(&agent, "link")).send().await.unwrap();
    assert_eq!(response.text().await.unwrap(), "target");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_read_is_never_taken_for_whole() {
    let agent = Agent::start().await;
    let size: usize = 200 << 20;
    let file = fs::File::create(agent.path("file")).unwrap();
    file.set_len(size as u64).unwrap();
    let mut stream = TcpStream::connect(&agent.address).unwrap();
    let head = format!(
        "GET {} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\nConnection: close\r\n\r\n",
        url(&agent, "file")
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut first = [0; 1000];
    stream.read_exact(&mut first).unwrap();
    file.set_len(1000).unwrap();
    let mut rest = Vec::new();
    // A reset is as good as an early end.
    let _ = stream.read_to_end(&mut rest);
    let head = String::from_utf8_lossy(&first);
    assert!(head.to_ascii_lowercase().contains(&format!("content-length: {size}")));
    assert!(rest.len() < size / 2, "{}", rest.len());
}

#[tokio::test]
async fn the_owner_of_the_request_must_exist() {
    let agent = Agent::start().await;
    let response = agent.get("/files?path=x&username=perch-no-such-user").send().await.unwrap();
    assert_eq!(response.status(), 401);
}
