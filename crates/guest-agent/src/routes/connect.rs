//! One route per method of the envd services.

use std::sync::Arc;

use http::Method;

use crate::agent::Agent;
use crate::http::{Request, Response};
use crate::rpc::{Code, ConnectError, answer, client_stream, server_stream, unary, unknown};
use crate::{filesystem, process, watch};

pub async fn route(agent: &Agent, request: Request) -> Response {
    if request.method() != Method::POST {
        return ConnectError::new(Code::Unimplemented, "only POST is implemented").into_response();
    }
    let path = request.uri().path().to_owned();
    let identity = Arc::clone(&agent.identity);
    let processes = Arc::clone(&agent.processes);
    let watchers = Arc::clone(&agent.watchers);
    match path.as_str() {
        "/process.Process/Start" => {
            server_stream(request, |c, m| process::start(processes, identity, c, m)).await
        }
        "/process.Process/Connect" => {
            server_stream(request, |c, m| process::connect(processes, c, m)).await
        }
        "/process.Process/List" => unary(request, |_, m| process::list(processes, m)).await,
        "/process.Process/SendInput" => {
            unary(request, |_, m| process::send_input(processes, m)).await
        }
        "/process.Process/StreamInput" => {
            client_stream(request, |m| process::stream_input(processes, m)).await
        }
        "/process.Process/CloseStdin" => {
            unary(request, |_, m| process::close_stdin(processes, m)).await
        }
        "/process.Process/SendSignal" => {
            unary(request, |_, m| process::send_signal(processes, m)).await
        }
        "/process.Process/Update" => unary(request, |_, m| process::update(processes, m)).await,
        "/perch.Commands/List" => unary(request, |_, m| process::list_commands(processes, m)).await,
        "/perch.Commands/Get" => unary(request, |_, m| process::read_command(processes, m)).await,
        "/perch.Commands/Input" => answer(process::write_input(processes, request).await),
        "/filesystem.Filesystem/Stat" => {
            unary(request, |c, m| filesystem::stat(identity, c, m)).await
        }
        "/filesystem.Filesystem/ListDir" => {
            unary(request, |c, m| filesystem::list_dir(identity, c, m)).await
        }
        "/filesystem.Filesystem/MakeDir" => {
            unary(request, |c, m| filesystem::make_dir(identity, c, m)).await
        }
        "/filesystem.Filesystem/Move" => {
            unary(request, |c, m| filesystem::rename(identity, c, m)).await
        }
        "/filesystem.Filesystem/Remove" => {
            unary(request, |c, m| filesystem::remove(identity, c, m)).await
        }
        "/filesystem.Filesystem/WatchDir" => {
            server_stream(request, |c, m| watch::watch_dir(watchers, identity, c, m)).await
        }
        "/filesystem.Filesystem/CreateWatcher" => {
            unary(request, |c, m| watch::create_watcher(watchers, identity, c, m)).await
        }
        "/filesystem.Filesystem/GetWatcherEvents" => {
            unary(request, |_, m| watch::get_events(watchers, m)).await
        }
        "/filesystem.Filesystem/RemoveWatcher" => {
            unary(request, |_, m| watch::remove_watcher(watchers, m)).await
        }
        "/perch.Files/List" => unary(request, |c, m| filesystem::list_page(identity, c, m)).await,
        _ => unknown(&path),
    }
}
