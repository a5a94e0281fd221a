//! The headers of a call.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

const DEFAULT_KEEPALIVE: Duration = Duration::from_secs(90);

pub struct Call {
    /// Named in `Authorization: Basic`; absent for the default one.
    pub user: Option<String>,
    /// `Connect-Timeout-Ms`; absent or 0 is no limit.
    pub timeout: Option<Duration>,
    /// `Keepalive-Ping-Interval`: longest silence of a stream.
    pub keepalive: Duration,
    /// `Perch-Raw-Output: 1`: output comes as the bytes that it is.
    pub raw_output: bool,
    /// `Perch-Kill-On-Disconnect`: the process does not outlive its client.
    pub kill_on_disconnect: Option<LeashEnd>,
}

/// Until when a client that leaves takes its process with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeashEnd {
    /// `start`: until the client is told the pid, by which it can kill the process itself.
    Start,
    /// `1`: until the process has ended.
    Exit,
}

impl Call {
    pub fn new(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let number = |name: &str| text(name).and_then(|value| value.parse::<u32>().ok());
        Self {
            user: text(header::AUTHORIZATION.as_str()).and_then(basic_user),
            timeout: text("connect-timeout-ms")
                .and_then(|value| value.parse::<u64>().ok())
                .filter(|ms| (1..10_000_000_000).contains(ms))
                .map(Duration::from_millis),
            keepalive: number("keepalive-ping-interval")
                .filter(|seconds| *seconds > 0)
                .map_or(DEFAULT_KEEPALIVE, |seconds| Duration::from_secs(seconds.into())),
            raw_output: text("perch-raw-output") == Some("1"),
            kill_on_disconnect: match text("perch-kill-on-disconnect") {
                Some("1") => Some(LeashEnd::Exit),
                Some("start") => Some(LeashEnd::Start),
                _ => None,
            },
        }
    }
}

/// The name in `Basic base64("name:")`. The password is empty, and not looked at.
fn basic_user(value: &str) -> Option<String> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    Some(decoded.split_once(':').map_or(decoded.as_str(), |(name, _)| name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_the_name_before_the_colon() {
        assert_eq!(basic_user("Basic cm9vdDo=").as_deref(), Some("root"));
        assert_eq!(basic_user("basic cm9vdA==").as_deref(), Some("root"));
        assert_eq!(basic_user("Bearer cm9vdDo="), None);
        assert_eq!(basic_user("Basic ***"), None);
        assert_eq!(basic_user("Basic"), None);
    }
}
