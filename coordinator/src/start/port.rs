//! The port that a member listens on.

use super::TAKE_OVER;
use super::error::StartError;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

/// Connections that wait to be accepted: thousands of workers come within a second. The kernel cuts it at `somaxconn`.
const BACKLOG: u32 = 4096;

/// Binds with a queue for a storm of workers: the default of 128 overflows within milliseconds, and what the kernel drops comes back
/// only after a second.
fn listening(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4()? } else { tokio::net::TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds; a port that its last owner is still letting go of is waited for.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let deadline = Instant::now() + TAKE_OVER;
    loop {
        match listening(address) {
            Ok(listener) => return Ok(listener),
            // A coordinator that was just killed: its port is free in a moment.
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse
                    && Instant::now() < deadline
                    && !answers(address).await =>
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(StartError::Listen { address, error }),
        }
    }
}

async fn answers(address: SocketAddr) -> bool {
    matches!(
        tokio::time::timeout(Duration::from_millis(500), tokio::net::TcpStream::connect(address)).await,
        Ok(Ok(_))
    )
}
