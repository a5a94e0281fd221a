//! The end of the machine.

use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::system::{RebootCommand, reboot};
use tokio::signal::unix::{SignalKind, signal};

/// Writes everything back and ends the machine.
///
/// A machine without ACPI cannot power itself off, it can only halt for ever. The monitors of
/// such machines (Firecracker, QEMU with `-no-reboot`) end at a restart instead.
pub fn off() -> ! {
    rustix::fs::sync();
    if Path::new("/sys/firmware/acpi").exists() {
        let _ = reboot(RebootCommand::PowerOff);
    }
    loop {
        let _ = reboot(RebootCommand::Restart);
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// SIGTERM and SIGINT (the host's power button) end the machine.
pub fn obey_signals() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        off()
    });
    Ok(())
}
