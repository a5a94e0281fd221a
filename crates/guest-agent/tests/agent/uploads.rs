use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use reqwest::header::HeaderValue;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use crate::support::{Agent, TOKEN, eventually};

fn url(agent: &Agent, name: &str) -> String {
    format!("/files?path={}", agent.path(name).display())
}

async fn octets(agent: &Agent, name: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
    let request = agent.post(&url(agent, name)).header("Content-Type", "application/octet-stream");
    request.body(body).send().await.unwrap()
}

/// Names in the agent's folder, sorted.
fn names(agent: &Agent) -> Vec<String> {
    let entries = fs::read_dir(agent.folder.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test]
async fn fifty_megabytes_go_there_and_back_in_constant_memory() {
    let agent = Agent::start().await;
    let bytes: Vec<u8> =
        (0..50_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert_eq!(octets(&agent, "octets", bytes.clone()).await.status(), 200);
    let form = Form::new().part("file", Part::bytes(bytes.clone()));
    let sent = agent.post(&url(&agent, "form")).multipart(form).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    for name in ["octets", "form"] {
        let back = agent.get(&url(&agent, name)).send().await.unwrap().bytes().await.unwrap();
        assert!(back == bytes, "{name}");
    }
    assert!(agent.peak_memory() < 48 << 10, "{} KiB", agent.peak_memory());
}

#[tokio::test]
async fn a_form_names_its_files() {
    let agent = Agent::start().await;
    let root = agent.folder.path().canonicalize().unwrap().display().to_string();
    let part = |text: &'static str, name: String| Part::text(text).file_name(name);
    let form = Form::new()
        .text("other", "ignored")
        .part("file", part("one", format!("{root}/a.txt")))
        .part("file", part("two", format!("{root}/deep/er/ü b.txt")));
    let sent = agent.post("/files").multipart(form).send().await.unwrap();
    assert_eq!(sent.status(), 200);
    let expected = json!([
        { "name": "a.txt", "path": format!("{root}/a.txt"), "type": "file" },
        { "name": "ü b.txt", "path": format!("{root}/deep/er/ü b.txt"), "type": "file" },
    ]);
    assert_eq!(sent.json::<Value>().await.unwrap(), expected);
    assert_eq!(fs::read(agent.path("deep/er/ü b.txt")).unwrap(), b"two");
}

#[tokio::test]
async fn the_path_of_the_query_goes_before_the_name_of_the_part() {
    let agent = Agent::start().await;
    let named = Form::new().part("file", Part::text("x").file_name("/elsewhere"));
    let unnamed = Form::new().text("file", "y");
    for (form, expected) in [(named, "x"), (unnamed, "y")] {
        let sent = agent.post(&url(&agent, "file")).multipart(form).send().await.unwrap();
        assert_eq!(sent.status(), 200);
        assert_eq!(fs::read_to_string(agent.path("file")).unwrap(), expected);
    }
    let nowhere = agent.post("/files").multipart(Form::new().text("file", "z"));
    assert_eq!(nowhere.send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn a_new_file_is_0644_and_an_earlier_one_keeps_its_mode() {
    let agent = Agent::start().await;
    let mode = || agent.path("file").metadata().unwrap().permissions().mode() & 0o7777;
    octets(&agent, "file", "one").await;
    assert_eq!(mode(), 0o644);
    fs::set_permissions(agent.path("file"), fs::Permissions::from_mode(0o755)).unwrap();
    octets(&agent, "file", "").await;
    assert_eq!((mode(), fs::read(agent.path("file")).unwrap()), (0o755, vec![]));
}

#[tokio::test]
async fn an_upload_may_state_mode_and_time_and_a_download_tells_them() {
    let agent = Agent::start().await;
    let send = async |mode: &str, mtime: &str| {
        let request = agent
            .post(&url(&agent, "file"))
            .header("Content-Type", "application/octet-stream")
            .header("Perch-Mode", mode)
            .header("Perch-Mtime", mtime);
        request.body("x").send().await.unwrap().status().as_u16()
    };
    let time = "2001-02-03T04:05:06.789012345Z";
    assert_eq!(send("0750", time).await, 200);
    let status = agent.path("file").metadata().unwrap();
    assert_eq!(status.permissions().mode() & 0o7777, 0o750);
    let back = agent.get(&url(&agent, "file")).send().await.unwrap();
    assert_eq!(
        (&back.headers()["perch-mode"], &back.headers()["perch-mtime"]),
        (&HeaderValue::from_static("0750"), &HeaderValue::from_static(time),)
    );
    // Over a file it is never wider than it was asked for, nor than that file was.
    for (earlier, stated, now) in
        [(0o4777, "600", 0o600), (0o600, "0644", 0o600), (0o440, "0755", 0o440)]
    {
        fs::set_permissions(agent.path("file"), fs::Permissions::from_mode(earlier)).unwrap();
        assert_eq!(send(stated, time).await, 200);
        let mode = agent.path("file").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, now, "{stated} over {earlier:o}");
    }
    for (mode, mtime) in [("4755", time), ("rwx", time), ("0644", "yesterday")] {
        assert_eq!(send(mode, mtime).await, 400, "{mode} {mtime}");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_leaves_nothing() {
    let agent = Agent::start().await;
    fs::write(agent.path("file"), "earlier").unwrap();
    let form = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n";
    let bodies = [
        ("Content-Type: application/octet-stream\r\nContent-Length: 5000000", ""),
        ("Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked", "100000\r\n"),
        ("Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000000", form),
    ];
    for (headers, prefix) in bodies {
        let mut stream = TcpStream::connect(&agent.address).unwrap();
        let target = url(&agent, "file");
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n{headers}\r\n\r\n{prefix}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; 900_000]).unwrap();
        eventually("a temporary file", || names(&agent).len() == 2).await;
        drop(stream);
        eventually("nothing left over", || names(&agent) == ["file"]).await;
        assert_eq!(fs::read_to_string(agent.path("file")).unwrap(), "earlier");
    }
}

#[tokio::test]
async fn a_form_without_its_end_leaves_nothing() {
    let agent = Agent::start().await;
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nhalf";
    let request = agent.post(&url(&agent, "file"));
    let request = request.header("Content-Type", "multipart/form-data; boundary=b").body(body);
    assert_eq!(request.send().await.unwrap().status(), 400);
    assert!(names(&agent).is_empty());
}

#[tokio::test]
async fn a_failed_upload_leaves_no_directory_that_was_made_for_it() {
    let agent = Agent::start().await;
    fs::create_dir(agent.path("empty")).unwrap();
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=";
    let part = |path: &str| format!("{head}\"empty/{path}\"\r\n\r\nx\r\n");
    let forms = [
        // The last file of the form has a name that cannot be.
        ["a/b", "a/c/d", "a/e/f", &"x".repeat(256)].map(part).concat() + "--b--",
        format!("{head}\"empty/deep/er/file\"\r\n\r\nhalf"),
    ];
    for form in forms {
        let form = form.replace("empty/", &format!("{}/", agent.path("empty").display()));
        let request = agent.post("/files");
        let request = request.header("Content-Type", "multipart/form-data; boundary=b").body(form);
        assert_eq!(request.send().await.unwrap().status(), 400);
        assert_eq!(fs::read_dir(agent.path("empty")).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_before_a_directory_is_made() {
    let agent = Agent::start().await;
    let root = agent.path("empty");
    fs::create_dir(&root).unwrap();
    let before = root.metadata().unwrap().modified().unwrap();
    // The path is one that can be, but not that of the file beside it.
    let levels = "a/".repeat((4090 - root.as_os_str().len()) / 2);
    for path in [format!("empty/{levels}x"), format!("empty/deep/{}", "x".repeat(256))] {
        assert_eq!(octets(&agent, &path, "x").await.status(), 400, "{}", path.len());
        assert_eq!(root.metadata().unwrap().modified().unwrap(), before);
    }
}

#[tokio::test]
async fn what_is_no_file_is_not_written_to() {
    let agent = Agent::start().await;
    let fifo = agent.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in ["fifo", ".", "/dev/null", "fifo/x"] {
        assert_eq!(octets(&agent, path, "x").await.status(), 400, "{path}");
    }
    assert_eq!(names(&agent), ["fifo"]);
}

#[tokio::test]
async fn a_link_is_written_through() {
    let agent = Agent::start().await;
    std::os::unix::fs::symlink("target", agent.path("link")).unwrap();
    for text in ["new", "again"] {
        assert_eq!(octets(&agent, "link", text).await.status(), 200);
        assert!(agent.path("link").is_symlink());
        assert_eq!(fs::read_to_string(agent.path("target")).unwrap(), text);
    }
}

#[tokio::test]
async fn a_compressed_body_is_unpacked_and_a_broken_one_refused() {
    let agent = Agent::start().await;
    let packed = packed(&[b'z'; 100_000]);
    let send = async |body: Vec<u8>| send_encoded(&agent, &["gzip"], body).await;
    assert_eq!(send(packed.clone()).await, 200);
    assert_eq!(fs::read(agent.path("file")).unwrap(), [b'z'; 100_000]);
    fs::remove_file(agent.path("file")).unwrap();
    assert_eq!(send(packed[..packed.len() / 2].to_vec()).await, 400);
    assert_eq!(send(b"not gzip".to_vec()).await, 400);
    assert!(names(&agent).is_empty());
}

/// Uploads `file`, and gives the status of the answer.
async fn send_encoded(agent: &Agent, encodings: &[&str], body: Vec<u8>) -> u16 {
    let mut request =
        agent.post(&url(agent, "file")).header("Content-Type", "application/octet-stream");
    for encoding in encodings {
        request = request.header("Content-Encoding", *encoding);
    }
    request.body(body).send().await.unwrap().status().as_u16()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_compressed_body_may_have_several_members_and_each_must_be_whole() {
    let agent = Agent::start().await;
    let send = async |body: Vec<u8>| send_encoded(&agent, &["gzip"], body).await;
    let (first, second) = (packed(&[b'a'; 300_000]), packed(b"second"));
    let whole = [first.clone(), packed(b""), second.clone()].concat();
    assert_eq!(send(whole.clone()).await, 200);
    assert_eq!(fs::read(agent.path("file")).unwrap(), [&[b'a'; 300_000][..], b"second"].concat());
    fs::remove_file(agent.path("file")).unwrap();
    // In the header of the second, in its content, in its checksum.
    for length in [1, 5, second.len() - 9, second.len() - 1] {
        let body = [first.clone(), second[..length].to_vec()].concat();
        assert_eq!(send(body).await, 400, "{length}");
    }
    let mut damaged = [first.clone(), second].concat();
    damaged[first.len() - 5] ^= 1;
    assert_eq!(send(damaged).await, 400);
    assert_eq!(send([first, b"trailing".to_vec()].concat()).await, 400);
    assert_eq!(send(Vec::new()).await, 400);
    assert!(names(&agent).is_empty());
}

#[tokio::test]
async fn gzip_has_two_names_in_either_case_and_no_other_encoding_is_taken() {
    let agent = Agent::start().await;
    let send = async |encodings: &[&str]| send_encoded(&agent, encodings, packed(b"text")).await;
    for encodings in [&["GZIP"][..], &["x-gzip"], &["X-Gzip"], &["identity, gzip"], &["", "gzip"]] {
        assert_eq!(send(encodings).await, 200, "{encodings:?}");
        assert_eq!(fs::read(agent.path("file")).unwrap(), b"text", "{encodings:?}");
    }
    assert_eq!(send(&["Identity"]).await, 200);
    assert_eq!(fs::read(agent.path("file")).unwrap(), packed(b"text"));
    for encodings in [&["br"][..], &["gzip, gzip"], &["gzip", "gzip"], &["gzip", "br"], &["ü"]] {
        assert_eq!(send(encodings).await, 415, "{encodings:?}");
    }
    let form = Form::new().part("file", Part::text("x"));
    let form =
        agent.post(&url(&agent, "form")).header("Content-Encoding", "X-GZIP").multipart(form);
    assert_eq!(form.send().await.unwrap().status(), 400);
    assert_eq!(names(&agent), ["file"]);
}

#[tokio::test]
async fn metadata_is_kept_until_the_next_upload() {
    let agent = Agent::start().await;
    let send = |key: &'static str| {
        let request = agent.post(&url(&agent, "file")).header(key, "value");
        request.header("Content-Type", "application/octet-stream").body("x").send()
    };
    let sent = send("X-Metadata-Kind").await.unwrap();
    if sent.status() == 500 {
        // A file system without extended attributes.
        return;
    }
    let metadata = |value: &Value| value["metadata"].clone();
    let sent: Value = sent.json().await.unwrap();
    assert_eq!(metadata(&sent[0]), json!({ "kind": "value" }));
    let stat = json!({ "path": agent.path("file") });
    let found = agent.call("filesystem.Filesystem/Stat", stat.clone()).await.unwrap();
    assert_eq!(metadata(&found["entry"]), json!({ "kind": "value" }));
    let plain = octets(&agent, "file", "y").await.json::<Value>().await.unwrap();
    assert!(plain[0].get("metadata").is_none());
}

#[tokio::test]
async fn other_bodies_are_refused() {
    let agent = Agent::start().await;
    let json = agent.post(&url(&agent, "file")).json(&json!({}));
    assert_eq!(json.send().await.unwrap().status(), 415);
    assert_eq!(octets(&agent, "\0", "x").await.status(), 400);
    assert!(names(&agent).is_empty());
}
