//! The effect of a new generation on connections: those that lead out of the guest are over.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use serde_json::Value;

use crate::network::{HOST, SILENT, guest, inside, on_host};
use crate::support::{Agent, init};

/// Far longer than a reset takes, and far shorter than a program waits for a silent peer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the agent confirms that the connections of earlier generations are gone.
async fn restore(agent: &Agent, generation: u64) -> bool {
    let answer = agent.call("init", init(generation)).await.unwrap();
    assert_eq!(answer["generation"], generation);
    answer["confirmed"].as_array().unwrap().contains(&Value::from("connections"))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Begins to connect and does not wait.
fn begin_to_connect(address: SocketAddr) -> TcpStream {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
    assert_eq!(rustix::net::connect(&socket, &address), Err(Errno::INPROGRESS));
    socket.into()
}

fn listen(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn aborted(mut stream: &TcpStream) {
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[test]
fn programs_see_at_once_that_their_connections_are_over() {
    on_host(async || {
        let agent = guest(true);
        assert!(restore(&agent, 1).await);
        let (host, address) = listen(HOST);
        let (open, half_closed, connecting) = inside(&agent, || {
            let connecting = begin_to_connect(format!("{SILENT}:80").parse().unwrap());
            (connect(address), connect(address), connecting)
        });
        half_closed.shutdown(Shutdown::Write).unwrap();
        let _peers = [host.accept().unwrap(), host.accept().unwrap()];
        assert!(restore(&agent, 2).await);
        aborted(&open);
        aborted(&half_closed);
        let error = connecting.take_error().unwrap().unwrap();
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted);
    });
}

#[test]
fn servers_in_the_guest_lose_their_clients_and_go_on() {
    on_host(async || {
        let agent = guest(true);
        assert!(restore(&agent, 1).await);
        let (server, mut address) = inside(&agent, || listen("0.0.0.0"));
        address.set_ip(agent.address.parse::<SocketAddr>().unwrap().ip());
        let _first = connect(address);
        let accepted = server.accept().unwrap().0;
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        let _unaccepted = connect(address);
        assert!(restore(&agent, 2).await);
        aborted(&accepted);
        let mut next = connect(address);
        // The one from before comes first, and is over too.
        aborted(&server.accept().unwrap().0);
        server.accept().unwrap().0.write_all(b"!").unwrap();
        next.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn connections_within_the_guest_survive() {
    on_host(async || {
        let agent = guest(true);
        assert!(restore(&agent, 1).await);
        let ip = agent.address.parse::<SocketAddr>().unwrap().ip().to_string();
        let pairs = inside(&agent, || {
            ["127.0.0.1", &ip].map(|ip| {
                let (server, address) = listen(ip);
                (connect(address), server.accept().unwrap().0)
            })
        });
        assert!(restore(&agent, 2).await);
        for (mut near, mut far) in pairs {
            far.write_all(b"!").unwrap();
            near.read_exact(&mut [0]).unwrap();
        }
    });
}

#[test]
fn the_same_generation_again_and_the_first_one_end_nothing() {
    on_host(async || {
        let agent = guest(true);
        let (host, address) = listen(HOST);
        let mut program = inside(&agent, || connect(address));
        let mut peer = host.accept().unwrap().0;
        assert!(restore(&agent, 3).await);
        assert!(restore(&agent, 3).await);
        peer.write_all(b"!").unwrap();
        program.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn what_cannot_be_reset_is_not_confirmed_until_it_is_gone() {
    on_host(async || {
        let agent = guest(false);
        assert!(restore(&agent, 1).await);
        let (host, address) = listen(HOST);
        let program = inside(&agent, || connect(address));
        let peer = host.accept().unwrap().0;
        assert!(!restore(&agent, 2).await);
        assert!(!restore(&agent, 2).await);
        drop((program, peer));
        assert!(restore(&agent, 2).await);
    });
}
